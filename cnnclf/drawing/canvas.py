"""A canvas: a grid of images with titles, captions, a color bar and lines of text, as one PNG.

Drawn with Pillow at two pixels per point on white, so it is sharp on screens with many pixels and
in print. All images of a grid are equally large. Small ones keep their pixels visible; large ones
are resized smoothly, and narrow ones widened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cnnclf.drawing.color_maps import to_colors
from cnnclf.drawing.lettering import drawable, find_font_file
from cnnclf.files import atomic_path

SCALE = 2  # pixels per point
_MARGIN, _GAP, _LEADING = 12, 10, 1.35
_TITLE, _TEXT = 14.0, 10.0
_INK, _FAINT, _EDGE = (25, 25, 25), (95, 95, 95), (200, 200, 200)
_THINNEST = 12.0  # points of the shorter side of a tile
_PIXELATED = 64  # images of at most this many pixels a side keep their pixels visible


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a grid.

    Args:
        image: uint8 [H, W] or [H, W, 3], sRGB.
        title: One line above it, shortened if it is too long to end before the next title.
        caption: Lines below it, wrapped to its width.
        marked: Draw a dark frame instead of a light one.
        like: Height and width whose proportions it gets: those of the image of which it is a map,
            as maps of few places have others.
    """

    image: npt.NDArray[np.uint8]
    title: str = ""
    caption: str = ""
    marked: bool = False
    like: tuple[int, int] | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width that it is drawn in proportion to."""
        return self.like or self.image.shape[:2]


@dataclass(frozen=True)
class ColorBar:
    """A legend of colors.

    Args:
        color_map: A key of `COLOR_MAPS`.
        low: Number of the first color.
        high: Number of the last color.
        text: What the colors mean, right of the bar or, if too long, the first line below it.
    """

    color_map: str
    low: float
    high: float
    text: str = ""


def draw_canvas(
    rows: Sequence[Sequence[Tile | None]],
    *,
    title: str = "",
    lines: Sequence[str] = (),
    bar: ColorBar | None = None,
    side: int = 150,
) -> Image.Image:
    """Draw a grid of images.

    Args:
        rows: Tiles by row; None keeps a place empty.
        title: Above the grid, wrapped.
        lines: Below the grid, wrapped.
        bar: Below the grid, above the lines.
        side: Width of each column in points; a tile is at most that wide and high.

    Returns:
        An RGB image.
    """
    columns = max((len(row) for row in rows), default=1)
    width = max(columns * (side + _GAP) - _GAP, 2 * 150) + 2 * _MARGIN
    heights = [_measure_row(row, side) for row in rows]
    title_lines = wrap(title, width - 2 * _MARGIN, size=_TITLE, bold=True)
    if bar is not None and measure(drawable(bar.text), size=_TEXT) > _room_of(bar, width):
        bar, lines = replace(bar, text=""), (f"colors: {bar.text}", *lines)
    if any(_is_stretched(tile.sides, side) for row in rows for tile in row if tile is not None):
        lines = (*lines, "Narrow images are drawn wider than they are.")
    text = [part for line in lines for part in wrap(line, width - 2 * _MARGIN, size=_TEXT)]
    head = _height_of(len(title_lines), _TITLE) + (_GAP / 2 if title_lines else 0)
    foot = (24 if bar else 0) + (_height_of(len(text), _TEXT) + 4 if text else 0)
    height = 2 * _MARGIN + head + sum(map(sum, heights)) + _GAP * len(rows) + foot
    image = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), "white")
    pen = _Pen(image)
    top = pen.write(title_lines, _MARGIN, top=_MARGIN, size=_TITLE, bold=True) + (
        _GAP / 2 if title_lines else 0
    )
    for row, (above, middle, below) in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            if tile is not None:
                left = _MARGIN + column * (side + _GAP)
                room = _count_untitled(row[column + 1 :]) * (side + _GAP) + side
                pen.draw_tile(tile, left, top=top, above=above, side=side, room=room)
        top += above + middle + below + _GAP
    if bar is not None:
        pen.draw_bar(bar, top=top)
        top += 24
    pen.write(text, _MARGIN, top=top + 2, size=_TEXT, ink=_FAINT)
    return image


def _count_untitled(tiles: Sequence[Tile | None]) -> int:
    """Return how many tiles there are before the next one with a title."""
    return next((at for at, tile in enumerate(tiles) if tile and tile.title), len(tiles))


def _ends_of(bar: ColorBar) -> tuple[str, str]:
    """Write the values at the ends of a color bar."""
    low, high = (f"{each:+.3g}" if bar.low < 0 else f"{each:.3g}" for each in (bar.low, bar.high))
    return low, high


def _room_of(bar: ColorBar, width: float) -> float:
    """Return how much of a line of a canvas is right of a color bar, in points."""
    ends = sum(measure(end, size=_TEXT) for end in _ends_of(bar))
    return width - 2 * _MARGIN - ends - 140


def save_canvas(image: Image.Image, path: Path) -> None:
    """Save a canvas as a PNG file of 144 pixels per inch, under a temporary name first.

    Raises:
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG", dpi=(72 * SCALE, 72 * SCALE))


def wrap(text: str, width: float, *, size: float, bold: bool = False) -> list[str]:
    """Break a text into lines that fit; a word that is too long loses its middle.

    Args:
        text: Any string; line breaks are kept.
        width: In points.
        size: Font size in points.
        bold: Use the bold weight.

    Returns:
        Drawable lines; none for an empty text.
    """
    lines: list[str] = []
    for paragraph in text.split("\n") if text else ():
        line = ""
        for word in drawable(paragraph).split(" "):
            longer = f"{line} {word}" if line else word
            if line and measure(longer, size=size, bold=bold) > width:
                lines.append(line)
                longer = word
            line = shorten(longer, width, size=size, bold=bold)
        lines.append(line)
    return lines


def shorten(text: str, width: float, *, size: float, bold: bool = False) -> str:
    """Replace the middle of a drawable text by an ellipsis if it is wider than `width` points."""
    keep = len(text)
    result = text
    while keep > 1 and measure(result, size=size, bold=bold) > width:
        keep -= 1
        result = f"{text[: keep - keep // 2]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - keep // 2 :]}"
    return result


def measure(text: str, *, size: float, bold: bool = False) -> float:
    """Return the width of a drawable text in points."""
    return font_for(text, size, bold=bold).getlength(text) / SCALE


@cache
def _load_font(file: str, pixels: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, pixels)


def font_for(text: str, size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that draws a text; its size is in points."""
    return _load_font(find_font_file("".join(sorted({*text})), bold=bold), size * SCALE)


def _height_of(lines: int, size: float) -> float:
    return lines * size * _LEADING


def _measure_row(row: Sequence[Tile | None], side: int) -> tuple[float, float, float]:
    """Measure titles, images and captions of a row, in points."""
    tiles = [tile for tile in row if tile is not None]
    above = _height_of(1, _TEXT) + 2 if any(tile.title for tile in tiles) else 0.0
    middle = max((_fit(tile.sides, side)[1] / SCALE for tile in tiles), default=0.0)
    captions = [len(wrap(tile.caption, side, size=_TEXT)) for tile in tiles]
    below = _height_of(max(captions, default=0), _TEXT)
    return above, middle, below + (3 if below else 0)


def _fit(sides: tuple[int, int], side: int) -> tuple[int, int]:
    """Return width and height in pixels of a tile in a square of `side` points.

    The shorter side is never that of a line.
    """
    height, width = sides
    factor = side * SCALE / max(height, width)
    least = round(_THINNEST * SCALE)
    return max(least, round(width * factor)), max(least, round(height * factor))


def _resize(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Resize an image to a width and height; pixels of small ones stay visible, and equal."""
    height, width = image.shape[:2]
    if max(height, width) > _PIXELATED:
        return Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    across, down = -(-size[0] // width), -(-size[1] // height)  # rounded up
    enlarged = Image.fromarray(image.repeat(down, axis=0).repeat(across, axis=1)).convert("RGB")
    return enlarged.resize(size, Image.Resampling.BOX)


def _is_stretched(sides: tuple[int, int], side: int) -> bool:
    """Return whether a tile is drawn with other proportions, as it would be a line."""
    (height, width), (across, down) = sides, _fit(sides, side)
    return bool(max(across * height, down * width) > 1.5 * min(across * height, down * width))


class _Pen:
    """Draws on an image in points."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)

    def write(
        self,
        lines: Sequence[str],
        left: float,
        *,
        top: float,
        size: float,
        bold: bool = False,
        ink: tuple[int, int, int] = _INK,
    ) -> float:
        """Write lines below each other; returns where the next one would begin."""
        for line in lines:
            place = (left * SCALE, top * SCALE)
            self._draw.text(place, line, fill=ink, font=font_for(line, size, bold=bold))
            top += size * _LEADING
        return top

    def draw_tile(
        self, tile: Tile, left: float, *, top: float, above: float, side: int, room: int
    ) -> None:
        """Draw an image with its title, which may be as wide as `room`, and its caption."""
        if tile.title:
            title = shorten(drawable(tile.title), room, size=_TEXT, bold=True)
            self.write([title], left, top=top, size=_TEXT, bold=True)
        width, height = _fit(tile.sides, side)
        x, y = round(left * SCALE), round((top + above) * SCALE)
        self._image.paste(_resize(tile.image, (width, height)), (x, y))
        edge = _INK if tile.marked else _EDGE
        box = (x - 1, y - 1, x + width, y + height)
        self._draw.rectangle(box, outline=edge, width=2 if tile.marked else 1)
        caption = wrap(tile.caption, side, size=_TEXT)
        self.write(caption, left, top=top + above + height / SCALE + 3, size=_TEXT)

    def draw_bar(self, bar: ColorBar, *, top: float) -> None:
        """Draw a legend in one line: low, colors, high, text."""
        low, high = _ends_of(bar)
        left = _MARGIN + measure(low, size=_TEXT) + 5
        self.write([low], _MARGIN, top=top, size=_TEXT)
        ramp = to_colors(np.linspace(0, 1, 256)[None], bar.color_map, low=0, high=1)
        colors = Image.fromarray(ramp).resize((120 * SCALE, 12 * SCALE), Image.Resampling.BILINEAR)
        x, y = round(left * SCALE), round(top * SCALE)
        self._image.paste(colors, (x, y))
        self._draw.rectangle((x, y, x + 120 * SCALE, y + 12 * SCALE), outline=_EDGE)
        self.write([high], left + 125, top=top, size=_TEXT)
        after = self._image.width / SCALE - _MARGIN - _room_of(bar, self._image.width / SCALE)
        self.write([drawable(bar.text)], after, top=top, size=_TEXT, ink=_FAINT)
