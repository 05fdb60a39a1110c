"""Color maps: numbers to colors, by a small table.

`signed` shows evidence: blue below zero, white at zero, red above. The others run from light to
dark (or dark to light for `gray`, as images do). Lightness is monotone on each side, so the maps
keep their order in black-and-white print; blue and red are distinct for every kind of color vision.
Anchors of `signed` and `sequential` are those of RdBu and YlGnBu (Harrower and Brewer,
"ColorBrewer.org", 2003).
"""

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

COLOR_MAPS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "signed": (
            *("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#ffffff"),
            *("#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"),
        ),
        "sequential": (
            *("#ffffff", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4"),
            *("#1d91c0", "#225ea8", "#253494", "#081d58"),
        ),
        "importance": ("#ffffff", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"),
        "gray": ("#000000", "#ffffff"),
    }
)


def to_colors(
    values: npt.NDArray[np.floating], name: str = "sequential", *, low: float, high: float
) -> npt.NDArray[np.uint8]:
    """Turn numbers into colors.

    Args:
        values: Any shape; not-a-number becomes `low`.
        name: A key of `COLOR_MAPS`.
        low: The number that gets the first color; smaller ones get it, too.
        high: The number that gets the last color; `low` if all numbers are equal.

    Returns:
        uint8 [..., 3], sRGB.
    """
    anchors = np.array([_parse(color) for color in COLOR_MAPS[name]], np.float64)
    span = high - low
    finite = np.nan_to_num(np.asarray(values, np.float64), nan=low)
    where = np.clip((finite - low) / (span if span > 0 else 1.0), 0.0, 1.0) * (len(anchors) - 1)
    steps = np.arange(len(anchors))
    channels = [np.interp(where, steps, anchors[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def to_signed_colors(
    values: npt.NDArray[np.floating], limit: float | None = None
) -> npt.NDArray[np.uint8]:
    """Turn numbers into blue (negative), white (zero) and red (positive).

    Args:
        values: Any shape.
        limit: The absolute value that gets the darkest colors; None for the largest.

    Returns:
        uint8 [..., 3], sRGB.
    """
    if limit is None:
        limit = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
    limit = limit if limit > 0 else 1.0
    return to_colors(np.nan_to_num(values), "signed", low=-limit, high=limit)


def _parse(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
