"""How blurred an image is, whatever its contrast and size."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Steps = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_TILES = 4
_RADIUS = 4  # of the second blur, in pixels of the reduced image
_AREA = (2 * _RADIUS + 1) ** 2  # 81, so that sums of it fit into 16 bits
_EVERY = 4  # rows: two of them are judged, so that it takes half the time
_MIN_STEP = 0.5  # mean difference of neighbors; in smoother tiles there is nothing to judge
_MIN_SIDE = 48  # smaller images are always as sharp as their pixels


def measure_blur(gray: Image.Image) -> float:
    """Measure how much of the differences between neighbors survives a second blur.

    Differences in a sharp image almost vanish when it is blurred; those of a blurred one stay. The
    ratio does not depend on contrast (after Crete et al., 2007: "The blur effect"). The sharpest of
    4 x 4 tiles counts, so that a sharp flower before a soft background is sharp.

    Args:
        gray: Mode L, reduced to a size that is about the same for all images.

    Returns:
        About 0.1 (sharp) to 1 (blurred); NaN for images that are tiny or have no contrast.
    """
    if min(gray.size) < _MIN_SIDE:
        return float("nan")
    values = np.asarray(gray)
    height = len(values) // _EVERY
    pairs = values[: height * _EVERY].reshape(height, _EVERY, -1)[:, :2]
    sums = _sum_squares(values)
    steps = [_find_steps(pairs, axis) for axis in (1, 2)]
    kept = [
        np.minimum(np.multiply(each, _AREA, dtype=np.uint16), _find_steps(sums, axis))
        for axis, each in enumerate(steps, 1)
    ]
    # As many of one direction as of the other: there are two rows of each pair.
    before, after = (2 * _sum_tiles(each[0]) + _sum_tiles(each[1]) for each in (steps, kept))
    judged = before > 2 * _MIN_STEP * pairs.size / _TILES**2
    if not judged.any():
        return float("nan")
    return float((after[judged] / before[judged]).min() / _AREA)


def _sum_squares(values: npt.NDArray[np.uint8]) -> Steps:
    """Return the sums of the squares of pixels around each pixel of the rows that are judged.

    This is a blur that is not divided, with powers of two: 8 sums of all pixels instead of 80.
    Those at the edges are repeated.
    """
    height, width = len(values) // _EVERY, values.shape[1]
    sums: Steps = np.empty((len(values) + 2 * _RADIUS, width + 2 * _RADIUS), np.uint16)
    sums[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS] = values
    sums[:_RADIUS], sums[-_RADIUS:] = sums[_RADIUS], sums[-_RADIUS - 1]
    sums[:, :_RADIUS], sums[:, -_RADIUS:] = sums[:, [_RADIUS]], sums[:, [-_RADIUS - 1]]
    rows = sums
    for step in (1, 2, 4):
        rows = rows[step:] + rows[:-step]
    rows = rows[:-1] + sums[2 * _RADIUS :]
    columns = rows = rows[: height * _EVERY].reshape(height, _EVERY, -1)[:, :2]
    for step in (1, 2, 4):
        columns = columns[:, :, step:] + columns[:, :, :-step]
    return columns[:, :, :-1] + rows[:, :, 2 * _RADIUS :]


def _find_steps(values: Steps, axis: int) -> Steps:
    """Return the differences of neighbors; in few bits, which is several times as fast."""
    one, two = (values[:, 1:], values[:, :1]) if axis == 1 else (values[..., 1:], values[..., :-1])
    return np.maximum(one, two) - np.minimum(one, two)


def _sum_tiles(values: Steps) -> npt.NDArray[np.float64]:
    height, width = len(values) // _TILES, values.shape[2] // _TILES
    tiles = values[: height * _TILES, :, : width * _TILES].reshape(_TILES, -1, _TILES * width)
    rows = tiles.sum(1, np.uint32).reshape(_TILES, _TILES, width)
    sums: npt.NDArray[np.float64] = rows.sum(2, np.float64)
    return sums
