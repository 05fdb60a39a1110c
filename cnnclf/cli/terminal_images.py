"""Images as text that a terminal draws: the protocol of kitty, sixels, or colored half blocks.

Nothing here writes; `output` does, and only to a terminal that shows colors.
"""

import base64
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Protocol = Literal["kitty", "sixel", "truecolor", "256"]

_KITTY_PROGRAMS = {"ghostty", "WezTerm", "kitty"}
_SIXEL_TERMS = ("foot", "mlterm", "contour", "yaft")
_SIXEL_COLORS = 128
_SIXEL_CELL = (8, 16)  # pixels of a character: the least that terminals have
_RUN = re.compile(r"(.)\1{3,}")
_CHUNK = 4096  # bytes that one sequence of kitty may carry
_UPPER = "\N{UPPER HALF BLOCK}"
_CUBE = (0, 95, 135, 175, 215, 255)  # the levels of the palette of 256 colors


def find_protocol(environment: Mapping[str, str], colors: str | None) -> Protocol | None:
    """Choose how a terminal is given images.

    Args:
        environment: The variables of the process.
        colors: What rich found: truecolor, 256, standard, windows or None.

    Returns:
        None for a terminal with fewer than 256 colors.
    """
    is_kitty = "KITTY_WINDOW_ID" in environment or "kitty" in environment.get("TERM", "")
    is_kitty = is_kitty or environment.get("TERM_PROGRAM") in _KITTY_PROGRAMS
    if is_kitty and not {"TMUX", "STY"} & environment.keys():  # these do not pass it on
        return "kitty"
    term = environment.get("TERM", "")
    is_sixel = "sixel" in term or term.startswith(_SIXEL_TERMS)
    if is_sixel and not {"TMUX", "STY"} & environment.keys():
        return "sixel"
    return {"truecolor": "truecolor", "256": "256"}.get(colors or "")  # type: ignore[return-value]


def encode_image(
    pixels: "npt.NDArray[np.uint8]", protocol: Protocol, *, columns: int, rows: int
) -> str:
    """Return an image as text.

    Args:
        pixels: uint8 [H, W, 3].
        protocol: How.
        columns: Widest that it may be, in characters.
        rows: Highest that it may be, in lines.

    Returns:
        Lines that end with a line break.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    if protocol == "kitty":
        return _encode_kitty(image, min(columns, max(1, width // 8)))
    if protocol == "sixel":
        image.thumbnail((columns * _SIXEL_CELL[0], rows * _SIXEL_CELL[1]))
        return _encode_sixel(image)
    scale = min(columns / width, 2 * rows / height)
    if scale > 1 and min(width, height) > 1:
        scale = max(1, int(scale))
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return _encode_blocks(image.resize(size, how), protocol)


def _encode_kitty(image: "object", columns: int) -> str:
    content = io.BytesIO()
    image.save(content, "PNG")  # type: ignore[attr-defined]
    data = base64.standard_b64encode(content.getvalue()).decode()
    parts = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    sequences = []
    for number, part in enumerate(parts):
        first = f"a=T,f=100,c={columns}," if number == 0 else ""
        more = int(number < len(parts) - 1)
        sequences.append(f"\x1b_G{first}m={more};{part}\x1b\\")
    return "".join(sequences) + "\n"


def _encode_sixel(image: "Image.Image") -> str:
    """Encode six rows at a time: for each color, which of the six pixels of a column have it."""
    import numpy as np

    indexed = image.quantize(_SIXEL_COLORS)
    palette = np.array(indexed.getpalette()).reshape(-1, 3) * 100 // 255
    pixels = np.asarray(indexed)
    parts = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    used = np.unique(pixels).tolist()
    parts += [f"#{color};2;" + ";".join(map(str, palette[color].tolist())) for color in used]
    for top in range(0, image.height, 6):
        band = pixels[top : top + 6]
        weights = 1 << np.arange(len(band))
        for color in np.unique(band).tolist():
            codes = 63 + weights @ (band == color)
            text = bytes(codes.tolist()).decode("ascii")
            parts.append(f"#{color}" + _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", text) + "$")
        parts.append("-")
    return "".join(parts) + "\x1b\\\n"


def _encode_blocks(image: "object", protocol: Protocol) -> str:
    import numpy as np

    pixels = np.asarray(image)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    color = _direct if protocol == "truecolor" else _indexed
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells, before = [], ""
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            style = f"\x1b[38;{color(top)};48;{color(bottom)}m"
            cells.append((style if style != before else "") + _UPPER)
            before = style
        lines.append("".join(cells) + "\x1b[0m\n")
    return "".join(lines)


def _direct(color: list[int]) -> str:
    return "2;" + ";".join(map(str, color))


def _indexed(color: list[int]) -> str:
    """Choose from the 6x6x6 cube, or from the 24 grays where they are nearer."""
    levels = [min(range(6), key=lambda at: abs(_CUBE[at] - part)) for part in color]
    cube = 16 + 36 * levels[0] + 6 * levels[1] + levels[2]
    mean = sum(color) / 3
    step = min(23, max(0, round((mean - 8) / 10)))
    gray = 8 + 10 * step
    far = sum((_CUBE[at] - part) ** 2 for at, part in zip(levels, color, strict=True))
    return f"5;{232 + step if sum((gray - part) ** 2 for part in color) < far else cube}"
