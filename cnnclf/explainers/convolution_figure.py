"""Input, kernel and result of a convolution side by side, and as an animation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cnnclf.drawing.canvas import SCALE, Tile, draw_canvas, font_for, measure
from cnnclf.drawing.color_maps import to_colors, to_signed_colors
from cnnclf.errors import UsageError
from cnnclf.explainers.convolution import Convolved, Maps, spread
from cnnclf.explainers.convolved_image import ConvolvedImage
from cnnclf.files import atomic_path
from cnnclf.names import join_sides

MAX_FRAMES = 400
_SIDE = 200  # points of a tile
_MAX_CHANNELS = 3  # rows of a figure
_MAX_PRINTED = 7  # sides of kernels whose numbers are printed
_FRAME_MS, _LAST_MS = 120, 1500
_WINDOW, _PLACE = (213, 94, 0), (0, 114, 178)  # Okabe and Ito (2008)
_COLORS = (
    "colors: each map has a scale of its own; blue is negative, white 0 and red positive, or gray "
    "from black, 0, to white where nothing is negative"
)

Colors = npt.NDArray[np.uint8]


def draw_convolution(done: ConvolvedImage) -> Image.Image:
    """Draw one row per channel, and one for their sum with activation and pooling.

    Of more than three channels, those with the largest part in the sum are drawn.
    """
    convolved, config, white = done.convolved, done.config, done.white
    weights = spread(convolved.kernel.weights, convolved.image.shape[2])
    chosen = _choose_channels(convolved.per_channel)
    names = done.channel_names
    rows: list[list[Tile | None]] = []
    if len(names) > 1:
        rows = [
            [
                _maps_tile(convolved.image[..., at], names[at], white),
                _kernel_tile(weights[..., at]),
                _maps_tile(convolved.per_channel[..., at], f"{names[at]}, filtered", white),
            ]
            for at in chosen
        ]
    first = Tile(_as_colors(done.pixels), "image", join_sides(done.pixels.shape))
    is_single = len(names) == 1
    bias = f" + {convolved.kernel.bias:.3g}" if convolved.kernel.bias else ""
    last: list[Tile | None] = [
        _maps_tile(convolved.image[..., 0], names[0], white) if is_single else first,
        _kernel_tile(weights[..., 0]) if is_single else None,
        _maps_tile(
            convolved.summed, ("filtered" if is_single else "sum of all channels") + bias, white
        ),
    ]
    if config.activation != "none":
        last.append(_maps_tile(done.activated, config.activation, white))
    if config.pool != "none":
        last.append(_maps_tile(done.result, f"{config.pool} pool {config.pool_size}", white))
    rows.append(last)
    lines = [f"{what}: {formula}" for what, formula in done.formulas().items()]
    lines.append(_COLORS)
    if len(chosen) < len(names):
        lines.append(f"{len(chosen)} of {len(names)} channels: those with the largest part")
    return draw_canvas(rows, title=_describe(convolved), lines=lines, side=_SIDE)


def save_animation(
    done: ConvolvedImage, path: Path, *, on_step: Callable[[], object] = lambda: None
) -> int:
    """Write an animation in which the window steps over the image and the result appears.

    Args:
        done: The convolution; activation and pooling are not shown.
        path: A file whose name ends in .gif or .png.
        on_step: Called after each step that was drawn.

    Returns:
        The number of steps.

    Raises:
        UsageError: There are more than `MAX_FRAMES` steps.
        RunError: The file cannot be written.
    """
    rows, columns = done.convolved.summed.shape
    if rows * columns > MAX_FRAMES:
        raise UsageError(
            f"--animate: the window has {rows * columns:,} positions, and an animation at most "
            f"{MAX_FRAMES}",
            "use a small image, such as --image-size 16, or a larger --stride",
        )
    frames = []
    for row, column in np.ndindex(rows, columns):
        frames.append(_draw_frame(done, row, column))
        on_step()
    times = [_FRAME_MS] * (len(frames) - 1) + [_LAST_MS]
    with atomic_path(path) as temporary:
        kind = "GIF" if path.suffix.lower() == ".gif" else "PNG"
        frames[0].save(
            temporary, kind, save_all=True, append_images=frames[1:], duration=times, loop=0
        )
    return len(frames)


def join_images(done: ConvolvedImage) -> Colors:
    """Return input and result side by side without text, uint8 [H, W, 3], for a terminal."""
    image = _rgb(_as_colors(done.pixels))
    result = _rgb(shade(done.result, done.white))
    height = max(len(image), len(result))
    factor = max(1, height // len(result))
    result = result.repeat(factor, axis=0).repeat(factor, axis=1)
    gap = max(1, height // 24)
    sheet = np.full((height, image.shape[1] + gap + result.shape[1], 3), 128, np.uint8)
    sheet[: len(image), : image.shape[1]] = image
    sheet[: len(result), image.shape[1] + gap :] = result
    return sheet


def shade(values: Maps, white: float = 0.0) -> Colors:
    """Return colors: gray where no value is negative, else blue, white at 0, and red.

    Args:
        values: [h, w].
        white: The least value that is shown as white.
    """
    if values.min() < 0:
        return to_signed_colors(values)
    return to_colors(values, "gray", low=0.0, high=max(white, float(values.max())))


def _describe(convolved: Convolved) -> str:
    return f"{convolved.kernel.name}, {convolved.sliding.describe()}"


def _choose_channels(per_channel: Maps) -> list[int]:
    parts = np.abs(per_channel).sum(axis=(0, 1))
    return sorted(map(int, np.argsort(-parts, kind="stable")[:_MAX_CHANNELS]))


def _maps_tile(values: Maps, title: str, white: float) -> Tile:
    caption = f"{join_sides(values.shape)}, {values.min():.4g} to {values.max():.4g}"
    return Tile(shade(values, white), title, caption)


def _kernel_tile(weights: Maps) -> Tile:
    caption = f"{join_sides(weights.shape)}, sum {weights.sum():.4g}"
    return Tile(_draw_kernel(weights), "kernel", caption)


def _as_colors(pixels: Colors) -> Colors:
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _draw_kernel(weights: Maps) -> Colors:
    """Draw a kernel as cells, with its numbers if they fit."""
    rows, columns = weights.shape
    cell = _SIDE * SCALE // max(rows, columns)
    texts = [_write_weight(value) for value in weights.flat]
    widest = max(measure(text, size=10) for text in texts) / 10  # of letters of one point
    size = min(cell / 4.2, 0.9 * cell / widest) / SCALE
    colors = to_signed_colors(weights).repeat(cell, axis=0).repeat(cell, axis=1)
    image = Image.fromarray(colors)
    pen = ImageDraw.Draw(image)
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        box = (column * cell, row * cell, (column + 1) * cell - 1, (row + 1) * cell - 1)
        pen.rectangle(box, outline=(150, 150, 150))
        if max(rows, columns) <= _MAX_PRINTED:
            dark = abs(weights[row, column]) > 0.55 * np.abs(weights).max()
            middle = (box[0] + cell / 2, box[1] + cell / 2)
            text, fill = texts[number], "white" if dark else "black"
            pen.text(middle, text, fill=fill, font=font_for(text, size), anchor="mm")
    return np.asarray(image)


def _write_weight(value: float) -> str:
    """Write four digits where they are all there are, else three."""
    exact = f"{value:.4g}"
    return exact if float(exact) == value else f"{value:.3g}"


def _draw_frame(done: ConvolvedImage, row: int, column: int) -> Image.Image:
    """Draw the step that computes one output value."""
    convolved = done.convolved
    sliding, summed = convolved.sliding, convolved.summed
    sides = convolved.kernel.weights.shape[:2]
    step = row * summed.shape[1] + column
    known = np.arange(summed.size).reshape(summed.shape) <= step
    result = np.where(known[..., None], _rgb(shade(summed, done.white)), 235).astype(np.uint8)
    image = _rgb(_as_colors(done.pixels) if done.is_pixels else shade(convolved.image[..., 0]))
    starts = [
        place * sliding.stride - sliding.pads(size, side)[0]
        for place, size, side in zip((row, column), convolved.image.shape, sides, strict=False)
    ]
    window = (*starts, *(sliding.reach(side) for side in sides))
    weights = spread(convolved.kernel.weights, convolved.image.shape[2])[..., 0]
    tiles: list[Tile | None] = [
        Tile(_mark(image, window, _WINDOW), "input", join_sides(image.shape[:2])),
        Tile(_draw_kernel(weights), "kernel", join_sides(weights.shape)),
        Tile(
            _mark(result, (row, column, 1, 1), _PLACE),
            f"row {row}, column {column}",
            f"sum {summed[row, column]:.4g}",
        ),
    ]
    frame = draw_canvas([tiles], title=_describe(convolved), side=_SIDE)
    return frame.resize((frame.width // 2, frame.height // 2), Image.Resampling.LANCZOS)


def _rgb(colors: Colors) -> Colors:
    return np.repeat(colors[..., None], 3, axis=2) if colors.ndim == 2 else colors


def _mark(image: Colors, box: tuple[int, ...], color: tuple[int, int, int]) -> Colors:
    """Enlarge an image and draw a frame: (top, left, height, width), which may lie outside."""
    cell = max(1, _SIDE * SCALE // max(image.shape[:2]))
    large = Image.fromarray(image.repeat(cell, axis=0).repeat(cell, axis=1))
    top, left, height, width = (side * cell for side in box)
    corners = (left, top, left + width - 1, top + height - 1)
    ImageDraw.Draw(large).rectangle(corners, outline=color, width=max(3, cell // 6))
    return np.asarray(large)
