"""A diagram of blocks to scale, as SVG, PNG or Mermaid text, from one layout.

The SVG has its own background and text colors for light and dark screens and for
print, so that it is readable on any page.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw

from cnnclf.drawing.block_layout import (
    COLORS,
    LINE,
    MARGIN,
    MAX_WIDTH,
    TEXT,
    TITLE,
    Block,
    Point,
    lay_out,
    read_inputs,
)
from cnnclf.drawing.canvas import SCALE, font_for, measure, shorten
from cnnclf.drawing.lettering import drawable
from cnnclf.files import atomic_path, write_text_atomic

_INK = "#222222"
FORMATS = (".svg", ".png", ".mermaid", ".mmd")


def save_diagram(blocks: Sequence[Block], path: Path, *, title: str, caption: str = "") -> None:
    """Write a diagram in the format that the file name says.

    Raises:
        DeviceError: The disk is full.
        RunError: The file cannot be written.
        ValueError: The name has another ending.
    """
    kind = path.suffix.lower()
    if kind in {".mermaid", ".mmd"}:
        write_text_atomic(path, to_mermaid(blocks, title=title))
    elif kind == ".svg":
        write_text_atomic(path, to_svg(blocks, title=title, caption=caption))
    elif kind == ".png":
        with atomic_path(path) as temporary:
            image = to_image(blocks, title=title, caption=caption)
            image.save(temporary, "PNG", dpi=(72 * SCALE, 72 * SCALE))
    else:
        raise ValueError(f"expected a name that ends in {', '.join(FORMATS)}, received {path}")


def to_mermaid(blocks: Sequence[Block], *, title: str) -> str:
    """Return a flowchart in the language of Mermaid."""
    lines = ["---", f"title: {_quoted(title)}", "---", "flowchart LR"]
    for number, block in enumerate(blocks):
        label = "<br/>".join(escape(line, {'"': "#quot;"}) for line in block.lines)
        lines.append(f'    n{number}["{label}"]')
        lines.append(f"    style n{number} stroke:{COLORS[block.color]},stroke-width:2px")
    for number, inputs in enumerate(read_inputs(blocks)):
        lines += [f"    n{source} --> n{number}" for source in inputs]
    return "\n".join(lines) + "\n"


def to_svg(blocks: Sequence[Block], *, title: str, caption: str = "") -> str:
    """Return an SVG document."""
    layout = lay_out(blocks, title=title, caption=caption)
    width, height = round(layout.width), round(layout.height)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{_attribute(title)}">'
        ),
        _STYLE,
        f'<rect class="page" width="{width}" height="{height}"/>',
        f'<text class="title" x="{MARGIN:g}" y="{MARGIN + TITLE:g}">{escape(title)}</text>',
    ]
    for box in layout.boxes:
        parts.append(f'<g fill="{COLORS[box.block.color]}">')
        for opacity, corners in box.faces:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
            parts.append(f'<polygon points="{points}" fill-opacity="{opacity}"/>')
        parts.append("</g>")
        for number, line in enumerate(box.block.lines):
            kind = "name" if number == 0 else "fact"
            parts.append(
                f'<text class="{kind}" x="{box.center:.1f}" '
                f'y="{box.y + LINE * (number + 1.1):.1f}">{escape(line)}</text>'
            )
    for path in layout.lines:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
        tip = " ".join(f"{x:.1f},{y:.1f}" for x, y in _tip(path))
        parts.append(f'<polyline points="{points}"/><polygon class="tip" points="{tip}"/>')
    parts.append(
        f'<text class="caption" x="{MARGIN:g}" y="{height - MARGIN:g}">{escape(caption)}</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def to_image(blocks: Sequence[Block], *, title: str, caption: str = "") -> Image.Image:
    """Return an RGB image on white, at two pixels per point."""
    layout = lay_out(blocks, title=title, caption=caption)
    size = (round(layout.width * SCALE), round(layout.height * SCALE))
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    _write(pen, title, (MARGIN, MARGIN), size=TITLE, bold=True)
    for box in layout.boxes:
        for opacity, corners in box.faces:
            points = [(x * SCALE, y * SCALE) for x, y in corners]
            pen.polygon(points, fill=_lighten(COLORS[box.block.color], opacity), outline=_INK)
        for number, line in enumerate(box.block.lines):
            width = measure(drawable(line), size=TEXT, bold=number == 0)
            place = (box.center - width / 2, box.y + LINE * (number + 0.3))
            _write(pen, line, place, size=TEXT, bold=number == 0)
    for path in layout.lines:
        pen.line([(x * SCALE, y * SCALE) for x, y in path], fill=_INK, width=SCALE)
        pen.polygon([(x * SCALE, y * SCALE) for x, y in _tip(path)], fill=_INK)
    _write(pen, caption, (MARGIN, layout.height - MARGIN - TEXT), size=TEXT)
    return image


_STYLE = """<style>
text { font-family: "DejaVu Sans", Verdana, sans-serif; fill: #222 }
.page { fill: #fff }
.title { font-size: 14px; font-weight: bold }
.name { font-size: 9.5px; font-weight: bold; text-anchor: middle }
.fact { font-size: 9.5px; text-anchor: middle }
.caption { font-size: 9.5px }
polygon { stroke: #222; stroke-width: 0.6; stroke-linejoin: round }
polyline { stroke: #222; stroke-width: 0.9; fill: none } .tip { fill: #222 }
@media (prefers-color-scheme: dark) {
  .page { fill: #16181c } text, .tip { fill: #e8e8e8 }
  polygon, polyline { stroke: #e8e8e8 }
}
@media print { .page { fill: #fff } text, .tip { fill: #000 } polygon, polyline { stroke: #000 } }
</style>"""


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    *,
    size: float,
    bold: bool = False,
) -> None:
    shown = shorten(drawable(text), MAX_WIDTH * 2, size=size, bold=bold)
    at = (place[0] * SCALE, place[1] * SCALE)
    pen.text(at, shown, fill=_INK, font=font_for(shown, size, bold=bold))


def _tip(line: Sequence[Point]) -> list[Point]:
    """Return the corners of the head of an arrow, at the end of a line."""
    x, y = line[-1]
    return [(x, y), (x - 5, y - 2.5), (x - 5, y + 2.5)]


def _lighten(color: str, opacity: float) -> tuple[int, int, int]:
    """Return an opaque color that looks like `color` with `opacity` on white."""
    red, green, blue = (
        round(255 - (255 - int(color[at : at + 2], 16)) * opacity) for at in (1, 3, 5)
    )
    return red, green, blue


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', "'") + '"'


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})
