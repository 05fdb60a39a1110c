"""Warping: what each way of doing it must have in common with the plain definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.augmentation import warp as module
from cnnclf.augmentation.warp import identity_maps, warp

SIZES = [(8, 8, 1), (9, 12, 3), (70, 64, 3)]


def draw(height: int, width: int, channels: int, count: int = 4) -> np.ndarray:
    """Smooth images: two ways of interpolating agree on them."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:height, 0:width]
    waves = rng.uniform(0.05, 0.2, (count, channels, 2))
    values = [[np.sin(a * y + b * x) for a, b in each] for each in waves]
    return (127 + 120 * np.array(values)).astype(np.uint8).transpose(0, 2, 3, 1)


def warp_slowly(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Bilinear sampling of the mirrored plane, pixel by pixel."""
    height, width = image.shape[:2]

    def value(row: int, column: int) -> np.ndarray:
        rows, columns = 2 * max(1, height - 1), 2 * max(1, width - 1)
        row, column = abs(row) % rows, abs(column) % columns
        return np.asarray(image[min(row, rows - row), min(column, columns - column)], float)

    out = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            point = np.array([column + 0.5 - width / 2, row + 0.5 - height / 2, 1])
            x, y, _ = matrix @ point
            x, y = x + width / 2 - 0.5, y + height / 2 - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            for r, weight_r in ((top, top + 1 - y), (top + 1, y - top)):
                for c, weight_c in ((left, left + 1 - x), (left + 1, x - left)):
                    out[row, column] += weight_r * weight_c * value(r, c)
    return out


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return matrix


@pytest.mark.parametrize("size", SIZES)
def test_the_identity_changes_nothing(size: tuple[int, int, int]) -> None:
    pixels = draw(*size)
    assert (warp(pixels, identity_maps(4)) == pixels).all()


@pytest.mark.parametrize("size", SIZES)
def test_flips_and_shifts_are_exact_and_mirror_what_lies_outside(
    size: tuple[int, int, int],
) -> None:
    pixels = draw(*size)
    maps = identity_maps(4)
    maps[0, 0, 0] = -1
    maps[1, 1, 1] = -1
    maps[2, 0, 2] = 2
    maps[3, 1, 2] = -1
    out = warp(pixels, maps)
    assert (out[0] == pixels[0, :, ::-1]).all()
    assert (out[1] == pixels[1, ::-1]).all()
    assert (out[2, :, :-2] == pixels[2, :, 2:]).all()
    assert (out[2, :, -2:] == pixels[2, :, [-2, -3]].transpose(1, 0, 2)).all()
    assert (out[3, 1:] == pixels[3, :-1]).all()
    assert (out[3, 0] == pixels[3, 1]).all()


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([0.9, 0.9, 1.0]),
        np.array([[1.1, 0, 1.3], [0, 0.95, -2.2], [0, 0, 1]]),
        np.array([[-1.05, 0, 0.4], [0, -0.9, 0], [0, 0, 1]]),
        turned(12),
        turned(-170),
        np.array([[1, 0.2, 3], [0, 1, 0], [0, 0, 1]]),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_every_way_agrees_with_sampling_pixel_by_pixel(
    size: tuple[int, int, int], matrix: np.ndarray
) -> None:
    pixels = draw(*size, count=1)
    expected = warp_slowly(pixels[0], matrix)
    difference = np.abs(warp(pixels, matrix[None])[0] - expected)
    assert difference.mean() < 2
    assert difference.max() < 16  # shrinking a large image is antialiased, sampling is not


def test_small_and_large_images_are_warped_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = draw(24, 20, 3)
    maps = identity_maps(4)
    maps[:, (0, 1), (0, 1)] = np.array([0.7, 0.8, 0.9, 0.95])[:, None]
    maps[:, 0, 2] = [0, 3.5, -5, 1]
    small = warp(pixels, maps).astype(int)
    monkeypatch.setattr(module, "_SMALL_VALUES", 0)
    assert np.abs(warp(pixels, maps) - small).max() <= 2


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(-60, 60),
    st.floats(-60, 60),
)
@settings(max_examples=60, deadline=None)
def test_no_map_shows_anything_but_the_image(
    height: int, width: int, a: float, b: float, d: float, e: float, c: float, f: float
) -> None:
    pixels = np.full((1, height, width, 3), 200, np.uint8)
    maps = np.array([[[a, b, c], [d, e, f], [0, 0, 1]]])
    if abs(a * e - b * d) < 1e-3:
        maps = identity_maps(1)
    assert (np.abs(warp(pixels, maps).astype(int) - 200) <= 1).all()
