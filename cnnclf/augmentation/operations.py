"""What each augmentation does to a batch, and how their changes are combined.

An operation of the stage "plan" only records a map or a color matrix; `Changes.apply` then changes
the pixels once for all of them. Operations of the later stages change pixels and labels directly.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnclf.augmentation import tones
from cnnclf.augmentation.warp import identity_maps, warp

Pixels = NDArray[np.uint8]
Labels = NDArray[np.float32]
Rows = slice | NDArray[np.intp]

_ALL = slice(None)


@dataclass
class Changes:
    """The changes of one batch: operations record them, `apply` carries them out.

    Args:
        x: uint8 [n, H, W, C].
        y: float32 [n, K], one-hot or mixed.
        rng: The generator of the batch.
        mixers: How many operations that mix images are still to come; each image gets one of them.
    """

    x: Pixels
    y: Labels
    rng: np.random.Generator
    mixers: int = 0
    maps: NDArray[np.float64] = field(init=False)
    colors: NDArray[np.float64] = field(init=False)
    bends: list[tuple[int, tones.Tone, float]] = field(init=False, default_factory=list)
    unmixed: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.maps = identity_maps(len(self.x))
        self.colors = tones.identity_colors(len(self.x))
        self.unmixed = np.ones(len(self.x), np.bool_)

    def uniform(self, low: float, high: float) -> NDArray[np.float64]:
        """Draw one number per image."""
        return self.rng.uniform(low, high, len(self.x))

    def move(self, maps: NDArray[np.float64], rows: Rows = _ALL) -> None:
        """Add a geometric change after those so far.

        Args:
            maps: float64 [rows, 3, 3], from result to source, in pixels from the center.
            rows: The images to change.
        """
        self.maps[rows] = self.maps[rows] @ maps

    def color(self, matrices: NDArray[np.float64], rows: Rows = _ALL) -> None:
        """Add a linear color change after those so far.

        Args:
            matrices: float64 [rows, 4, 4] on (red, green, blue, 1).
            rows: The images to change.
        """
        self.colors[rows] = matrices @ self.colors[rows]

    def apply(self) -> None:
        """Warp, then recolor, then apply tone curves."""
        if not (self.maps == np.eye(3)).all():
            self.x = warp(self.x, self.maps)
        if not (self.colors == np.eye(4)).all():
            self.x = tones.recolor(self.x, self.colors)
        for row, tone, level in self.bends:
            image = self.x[row, :, :, 0] if self.x.shape[3] == 1 else self.x[row]
            image[...] = np.asarray(tone(Image.fromarray(image), level))


def flip(changes: Changes, probability: float) -> None:
    """Flip left and right."""
    maps = identity_maps(len(changes.x))
    maps[:, 0, 0] = np.where(changes.uniform(0, 1) < probability, -1, 1)
    changes.move(maps)


def rotate(changes: Changes, degrees: float) -> None:
    """Rotate about the center."""
    changes.move(_rotations(np.deg2rad(changes.uniform(-degrees, degrees))))


def translate(changes: Changes, max_shift: float) -> None:
    """Shift by whole pixels: an image that is not warped otherwise stays as sharp as it was."""
    height, width = changes.x.shape[1:3]
    maps = identity_maps(len(changes.x))
    maps[:, 0, 2] = np.rint(changes.uniform(-max_shift, max_shift) * width)
    maps[:, 1, 2] = np.rint(changes.uniform(-max_shift, max_shift) * height)
    changes.move(maps)


def shift_in_time(changes: Changes, max_shift: float) -> None:
    """Shift to the left or right by whole pixels, as a sound that begins earlier or later."""
    maps = identity_maps(len(changes.x))
    maps[:, 0, 2] = np.rint(changes.uniform(-max_shift, max_shift) * changes.x.shape[2])
    changes.move(maps)


def zoom(changes: Changes, max_zoom: float) -> None:
    """Scale about the center by 1 / (1 + max_zoom) .. 1 + max_zoom, in and out equally often."""
    limit = np.log1p(max_zoom)
    maps = identity_maps(len(changes.x))
    maps[:, (0, 1), (0, 1)] = np.exp(changes.uniform(-limit, limit))[:, None]
    changes.move(maps)


def crop(changes: Changes, max_cut: float) -> None:
    """Crop a window of 1 - max_cut .. 1 of the area and of an aspect ratio of 3:4 to 4:3."""
    height, width = changes.x.shape[1:3]
    area = changes.uniform(1 - max_cut, 1)
    limit = np.minimum(np.log(4 / 3), -np.log(area))  # so that a window of this area fits
    aspect = np.exp(changes.uniform(-1, 1) * limit)
    maps = identity_maps(len(changes.x))
    sides = ((0, width, np.sqrt(area * aspect)), (1, height, np.sqrt(area / aspect)))
    for axis, size, fraction in sides:
        maps[:, axis, axis] = fraction
        maps[:, axis, 2] = changes.uniform(-0.5, 0.5) * (1 - fraction) * size
    changes.move(maps)


def change_brightness(changes: Changes, max_change: float) -> None:
    """Multiply every value by 1 - max_change .. 1 + max_change."""
    changes.color(tones.scale_colors(changes.uniform(1 - max_change, 1 + max_change)))


def change_contrast(changes: Changes, max_change: float) -> None:
    """Multiply the distance to the mean lightness by 1 - max_change .. 1 + max_change."""
    factor = changes.uniform(1 - max_change, 1 + max_change)
    changes.color(tones.spread_colors(factor, _lightness(changes)))


def shift_hue(changes: Changes, max_shift: float) -> None:
    """Shift the hue; gray images stay unchanged."""
    turns = changes.uniform(-max_shift, max_shift)
    if changes.x.shape[3] == 3:
        changes.color(tones.rotate_colors(turns))


_RANDAUGMENT_DRAWS = 2
_RANDAUGMENT_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_RANDAUGMENT_COLORS = ("saturation", "contrast", "brightness")
_RANDAUGMENT_TONES: dict[str, tones.Tone] = {
    "autocontrast": tones.autocontrast,
    "equalize": tones.equalize,
    "solarize": tones.solarize,
    "posterize": tones.posterize,
    "sharpness": tones.sharpen,
}
_RANDAUGMENT = (*_RANDAUGMENT_MOVES, *_RANDAUGMENT_COLORS, *_RANDAUGMENT_TONES, "identity")


def randaugment(changes: Changes, magnitude: float) -> None:
    """Apply two of the 14 changes of the paper, drawn for each image (one of the 14 is identity).

    The ranges at magnitude 10 are those of AutoAugment: 30 degrees, shear 0.3, 0.45 of the side,
    factors of 0.1 to 1.9. Changes with a direction take either. Geometric changes come before
    colors and colors before tones, whatever the order drawn: so one warp does all of the first.
    """
    for _ in range(_RANDAUGMENT_DRAWS):
        drawn = changes.rng.integers(len(_RANDAUGMENT), size=len(changes.x))
        sign = np.where(changes.uniform(0, 1) < 0.5, -1.0, 1.0)
        signed = sign * magnitude / 10
        for number, name in enumerate(_RANDAUGMENT):
            rows = np.flatnonzero(drawn == number)
            if name in _RANDAUGMENT_MOVES:
                changes.move(_randaugment_maps(name, signed[rows], changes.x.shape), rows)
            elif name in _RANDAUGMENT_COLORS:
                matrices = _randaugment_colors(name, 1 + 0.9 * signed, changes)
                changes.color(matrices[rows], rows)
            elif name in _RANDAUGMENT_TONES:
                levels = 0.9 * signed if name == "sharpness" else np.abs(signed)
                tone = _RANDAUGMENT_TONES[name]
                changes.bends += [(int(row), tone, float(levels[row])) for row in rows]


def erase(changes: Changes, probability: float) -> None:
    """Fill a box of 2 to 33 % of the area and of an aspect ratio of 0.3 to 3.3 with noise."""
    _, height, width, channels = changes.x.shape
    chosen = changes.uniform(0, 1) < probability
    area, aspect = changes.uniform(0.02, 0.33), np.exp(changes.uniform(-1, 1) * np.log(1 / 0.3))
    heights = np.clip(np.rint(np.sqrt(area * aspect) * height), 1, height).astype(int)
    widths = np.clip(np.rint(np.sqrt(area / aspect) * width), 1, width).astype(int)
    tops = (changes.uniform(0, 1) * (height - heights + 1)).astype(int)
    lefts = (changes.uniform(0, 1) * (width - widths + 1)).astype(int)
    for row in np.flatnonzero(chosen):
        box = (int(heights[row]), int(widths[row]), channels)
        noise = np.frombuffer(changes.rng.bytes(box[0] * box[1] * box[2]), np.uint8)
        bottom, right = tops[row] + box[0], lefts[row] + box[1]
        changes.x[row, tops[row] : bottom, lefts[row] : right] = noise.reshape(box)


def mask_time(changes: Changes, max_fraction: float) -> None:
    """Blacken a random range of columns."""
    _mask(changes, max_fraction, axis=2)


def mask_frequencies(changes: Changes, max_fraction: float) -> None:
    """Blacken a random range of rows."""
    _mask(changes, max_fraction, axis=1)


def mix_up(changes: Changes, alpha: float) -> None:
    """Blend each image and its label with another one of the batch."""
    rows, partners = _draw_partners(changes)
    ratio = changes.rng.beta(alpha, alpha, len(changes.x))
    # An image keeps the larger fraction: all pairs stay as likely, but each image is seen in every
    # epoch. In 256ths, so that value x 256 fits 16 bits and labels mix exactly as pixels do.
    kept = np.rint(256 * np.maximum(ratio, 1 - ratio)).astype(np.uint16)
    mixed = changes.x.copy()
    for row, partner in zip(rows, partners, strict=True):
        values = changes.x[row] * kept[row]
        values += changes.x[partner] * (np.uint16(256) - kept[row])
        values += np.uint16(127)
        values >>= 8
        mixed[row] = values
    changes.x = mixed
    _mix_labels(changes, rows, partners, kept[rows] / 256)


def cut_mix(changes: Changes, alpha: float) -> None:
    """Paste a box of another image of the batch and mix the labels by the area of the box."""
    height, width = changes.x.shape[1:3]
    rows, partners = _draw_partners(changes)
    side = np.sqrt(1 - changes.rng.beta(alpha, alpha, len(changes.x)))
    edges = []
    for size in (height, width):
        center = changes.uniform(0, size)
        edges += [np.clip(center + sign * side * size / 2, 0, size) for sign in (-1, 1)]
    tops, bottoms, lefts, rights = (np.rint(edge).astype(int) for edge in edges)
    original = changes.x.copy()
    for row, partner in zip(rows, partners, strict=True):
        box = (slice(tops[row], bottoms[row]), slice(lefts[row], rights[row]))
        changes.x[row][box] = original[partner][box]
    kept = 1 - (bottoms - tops) * (rights - lefts) / (height * width)
    _mix_labels(changes, rows, partners, kept[rows])


def _mask(changes: Changes, max_fraction: float, *, axis: int) -> None:
    side = changes.x.shape[axis]
    lengths = np.rint(changes.uniform(0, max_fraction) * side).astype(int)
    starts = (changes.uniform(0, 1) * (side - lengths + 1)).astype(int)
    places = np.arange(side)
    kept = (places < starts[:, None]) | (places >= (starts + lengths)[:, None])
    shape = [len(changes.x), 1, 1, 1]
    shape[axis] = side
    changes.x = changes.x * kept.reshape(shape)


def _draw_partners(changes: Changes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows that this operation mixes and their partners; a row is mixed only once."""
    chosen = changes.unmixed & (changes.uniform(0, 1) < 1 / max(1, changes.mixers))
    changes.mixers -= 1
    changes.unmixed &= ~chosen
    rows = np.flatnonzero(chosen)
    return rows, changes.rng.permutation(len(changes.x))[rows]


def _mix_labels(
    changes: Changes,
    rows: NDArray[np.intp],
    partners: NDArray[np.intp],
    kept: NDArray[np.float64],
) -> None:
    fraction = kept.astype(np.float32)[:, None]
    mixed = changes.y.copy()
    mixed[rows] = changes.y[rows] * fraction + changes.y[partners] * (1 - fraction)
    changes.y = mixed


def _lightness(changes: Changes) -> NDArray[np.float64]:
    """Return the mean lightness of each image after the color changes so far."""
    gray = tones.mean_lightness(changes.x)
    factor = changes.colors[:, :3, :3].sum(axis=2) @ tones.LUMA
    lightness: NDArray[np.float64] = factor * gray + changes.colors[:, :3, 3] @ tones.LUMA
    return lightness


def _rotations(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    maps = identity_maps(len(angles))
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angles)
    maps[:, 0, 1] = np.sin(angles)
    maps[:, 1, 0] = -maps[:, 0, 1]
    return maps


def _randaugment_maps(
    name: str, signed: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    if name == "rotate":
        return _rotations(np.deg2rad(30) * signed)
    height, width = shape[1:3]
    row, column, amount = {
        "shear_x": (0, 1, 0.3 * signed),
        "shear_y": (1, 0, 0.3 * signed),
        "translate_x": (0, 2, np.rint(0.45 * signed * width)),
        "translate_y": (1, 2, np.rint(0.45 * signed * height)),
    }[name]
    maps = identity_maps(len(signed))
    maps[:, row, column] = amount
    return maps


def _randaugment_colors(
    name: str, factor: NDArray[np.float64], changes: Changes
) -> NDArray[np.float64]:
    if name == "saturation":
        return tones.saturate_colors(factor)
    if name == "brightness":
        return tones.scale_colors(factor)
    return tones.spread_colors(factor, _lightness(changes))
