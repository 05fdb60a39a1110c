"""Warps the images of a batch by one affine map each; borders are filled by reflection.

Each image takes the cheapest way that its map allows: shifts by whole pixels and flips are index
look-ups, maps without rotation or shear are two small matrix products (small images) or Pillow's
resize of a box (large ones), everything else is Pillow's affine transform. Reflection leaves no
wedge of one color that a network could learn.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Matrices = NDArray[np.float64]

_SMALL_VALUES = 48 * 48 * 3
_CHUNK_VALUES = 1 << 18
_NEARLY = 1e-9


def identity_maps(count: int) -> Matrices:
    """Return `count` identity maps, float64 [count, 3, 3]."""
    return np.tile(np.eye(3), (count, 1, 1))


def warp(pixels: Pixels, maps: Matrices) -> Pixels:
    """Resample every image of a batch, bilinearly.

    Args:
        pixels: uint8 [n, H, W, C], C being 1 or 3.
        maps: float64 [n, 3, 3]; each takes a point (x, y, 1) of the result, in pixels from the
            center of the image, to the point of the source that appears there.

    Returns:
        uint8 [n, H, W, C], a new array.
    """
    out = np.empty_like(pixels)
    affine = _to_corner_origin(maps, *pixels.shape[1:3])
    scale = affine[:, (0, 1), (0, 1)]
    offset = affine[:, :2, 2]
    aligned = (np.abs(affine[:, (0, 1), (1, 0)]) < _NEARLY).all(axis=1)
    shifted = aligned & (np.abs(np.abs(scale) - 1) < _NEARLY).all(axis=1)
    shifted &= (np.abs(offset - np.rint(offset)) < _NEARLY).all(axis=1)
    small = pixels[0].size <= _SMALL_VALUES
    # Unchanged, or flipped left and right in place: whole batches at once.
    swapped = offset[:, 0] * 2 == (1 - scale[:, 0]) * pixels.shape[2]
    placed = shifted & swapped & (scale[:, 1] > 0) & (offset[:, 1] == 0)
    for direction in (1, -1):
        rows = np.flatnonzero(placed & (scale[:, 0] * direction > 0))
        out[rows] = pixels[rows][:, :, ::direction]
    for index in np.flatnonzero(shifted & ~placed).tolist():
        out[index] = _shift(pixels[index], affine[index])
    rows = np.flatnonzero(aligned & ~shifted)
    if small:
        step = max(1, _CHUNK_VALUES // pixels[0].size)
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            out[chunk] = _interpolate(pixels[chunk], scale[chunk], offset[chunk])
    else:
        for index, source, place in _cut_out(pixels, affine, rows):
            out[index] = _resize(source, affine[index] - place, out[index].shape)
    for index, source, place in _cut_out(pixels, affine, np.flatnonzero(~aligned)):
        out[index] = _transform(source, affine[index] - place, out[index].shape)
    return out


def _to_corner_origin(maps: Matrices, height: int, width: int) -> Matrices:
    """Move the origin of the maps from the center to the upper left corner."""
    to_center = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    to_corner = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    corner: Matrices = to_corner @ maps @ to_center
    return corner


def _mirrored(indices: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Fold any index into 0..size-1 by reflection at the outermost pixels."""
    if size == 1:
        return np.zeros_like(indices)
    folded: NDArray[np.intp] = (size - 1) - np.abs(np.abs(indices) % (2 * size - 2) - (size - 1))
    return folded


def _shift(image: Pixels, affine: Matrices) -> Pixels:
    """Shift by whole pixels and flip: every result pixel is one source pixel."""
    height, width = image.shape[:2]
    rows = np.floor((np.arange(height) + 0.5) * affine[1, 1] + affine[1, 2]).astype(np.intp)
    columns = np.floor((np.arange(width) + 0.5) * affine[0, 0] + affine[0, 2]).astype(np.intp)
    moved: Pixels = image.take(_mirrored(rows, height), axis=0)
    return moved.take(_mirrored(columns, width), axis=1)


def _interpolate(pixels: Pixels, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> Pixels:
    """Scale and shift a chunk of small images as rows @ image @ columns."""
    height, width = pixels.shape[1:3]
    columns = _hat_weights(scale[:, 0], offset[:, 0], width)
    rows = _hat_weights(scale[:, 1], offset[:, 1], height)
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")  # [n, C, H, W]
    warped = rows[:, None] @ planes @ columns[:, None].transpose(0, 1, 3, 2)
    warped += np.float32(0.5)
    return warped.astype(np.uint8).transpose(0, 2, 3, 1)


def _hat_weights(
    scale: NDArray[np.float64], offset: NDArray[np.float64], size: int
) -> NDArray[np.float32]:
    """Return [n, size, size]: the bilinear weight of source pixel k in result pixel o."""
    at = (np.arange(size) + 0.5) * scale[:, None] + offset[:, None] - 0.5
    period = max(1, size - 1)
    at = period - np.abs(np.abs(at) % (2 * period) - period) if size > 1 else np.zeros_like(at)
    distance = np.abs(at.astype(np.float32)[:, :, None] - np.arange(size, dtype=np.float32))
    weights: NDArray[np.float32] = np.maximum(np.float32(0), np.float32(1) - distance)
    return weights


def _resize(source: Pixels, affine: Matrices, shape: tuple[int, ...]) -> Pixels:
    """Scale and shift one large image; several times faster than the general transform."""
    height, width = shape[:2]
    left, right = sorted((affine[0, 2], affine[0, 2] + affine[0, 0] * width))
    top, bottom = sorted((affine[1, 2], affine[1, 2] + affine[1, 1] * height))
    box = (left, top, right, bottom)
    image = _to_image(source).resize((width, height), Image.Resampling.BILINEAR, box=box)
    resized = np.asarray(image).reshape(shape)
    resized = resized[:, ::-1] if affine[0, 0] < 0 else resized
    return resized[::-1] if affine[1, 1] < 0 else resized


def _transform(source: Pixels, affine: Matrices, shape: tuple[int, ...]) -> Pixels:
    """Apply any affine map to one image."""
    image = _to_image(source).transform(
        (shape[1], shape[0]),
        Image.Transform.AFFINE,
        tuple(affine[:2].ravel().tolist()),
        resample=Image.Resampling.BILINEAR,
    )
    return np.asarray(image).reshape(shape)


def _cut_out(
    pixels: Pixels, affine: Matrices, rows: NDArray[np.intp]
) -> Iterator[tuple[int, Pixels, Matrices]]:
    """Cut the area that the map of each image needs out of the image extended by reflection.

    Yields:
        The row, the area, and its offset as [3, 3]: subtracted from the map it gives the map into
        the area.
    """
    if not rows.size:
        return
    height, width = pixels.shape[1:3]
    corners = affine[rows, :2, :2] @ np.array([[0, width, 0, width], [0, 0, height, height]])
    corners += affine[rows, :2, 2:]
    # One more pixel all around, because interpolation reads the neighbors.
    lows = np.floor(corners.min(axis=2)).astype(np.intp) - 1
    highs = np.ceil(corners.max(axis=2)).astype(np.intp) + 1
    margin = max(0, -int(lows.min()), int((highs - (width, height)).max()))
    places = np.zeros((len(rows), 3, 3))
    if pixels[0].size <= _SMALL_VALUES and margin <= min(height, width):
        # Small images: one border around the whole batch costs less than one for each.
        around = pixels[rows].take(_mirrored(np.arange(-margin, height + margin), height), axis=1)
        around = around.take(_mirrored(np.arange(-margin, width + margin), width), axis=2)
        places[:, :2, 2] = -margin
        yield from zip(rows.tolist(), around, places, strict=True)
        return
    places[:, :2, 2] = lows
    for index, (left, top), (right, bottom), place in zip(
        rows.tolist(), lows, highs, places, strict=True
    ):
        if left >= 0 and top >= 0 and right <= width and bottom <= height:
            part = pixels[index, top:bottom, left:right]
        else:
            part = pixels[index].take(_mirrored(np.arange(top, bottom), height), axis=0)
            part = part.take(_mirrored(np.arange(left, right), width), axis=1)
        yield index, part, place


def _to_image(image: Pixels) -> Image.Image:
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
