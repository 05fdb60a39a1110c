"""A small bar chart as an image, for a place in a grid."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cnnclf.drawing.canvas import SCALE, font_for, shorten
from cnnclf.drawing.lettering import drawable

_WIDTH, _ROW, _SIZE = 150, 20, 10.0  # points
_FOR, _AGAINST, _INK, _AXIS = (178, 24, 43), (33, 102, 172), (25, 25, 25), (170, 170, 170)


def draw_bars(
    names: Sequence[str], values: Sequence[float], *, limit: float | None = None
) -> npt.NDArray[np.uint8]:
    """Draw horizontal bars, red to the right for positive values and blue to the left for others.

    Args:
        names: One name per bar, shortened if it is too long.
        values: Numbers.
        limit: The absolute value of the longest bar; None for that of the values.

    Returns:
        uint8 [H, W, 3], two pixels per point.
    """
    limit = limit or max(map(abs, values), default=0) or 1.0
    image = Image.new("RGB", (_WIDTH * SCALE, max(1, len(names)) * _ROW * SCALE), "white")
    pen = ImageDraw.Draw(image)
    signed = min(values, default=0) < 0
    left, right = 0.42 * _WIDTH, 0.74 * _WIDTH
    zero = (left + right) / 2 if signed else left
    span = (right - left) / 2 if signed else right - left
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        top = number * _ROW * SCALE
        text = shorten(drawable(name), left - 6, size=_SIZE)
        figure = f"{value:+.2f}" if signed else f"{value:.2f}"
        pen.text((2, top + 5), text, fill=_INK, font=font_for(text, _SIZE))
        at = ((right + 4) * SCALE, top + 5)
        pen.text(at, figure, fill=_INK, font=font_for(figure, _SIZE))
        end = zero + span * max(-1.0, min(1.0, value / limit))
        box = (min(zero, end) * SCALE, top + 8, max(zero, end) * SCALE, top + _ROW * SCALE - 8)
        pen.rectangle(box, fill=_FOR if value >= 0 else _AGAINST)
    pen.line((zero * SCALE, 0, zero * SCALE, image.height), fill=_AXIS, width=2)
    return np.asarray(image)
