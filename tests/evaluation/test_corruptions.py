"""Every row of the table of changes: same pixels for the same seed, worse with more strength."""

import numpy as np
import pytest

from cnnclf.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Corruption


def draw(channels: int, size: tuple[int, int] = (40, 56)) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    waves = 128 + 80 * np.sin(x / 4)[None, :, :, None] * np.cos(y / 5)[None, :, :, None]
    tint = rng.uniform(-40, 40, (2, 1, 1, channels))
    return np.asarray(np.clip(waves + tint, 0, 255), np.uint8)


def _ids(row: Corruption) -> str:
    return row.name


@pytest.mark.parametrize("row", CORRUPTIONS, ids=_ids)
@pytest.mark.parametrize("channels", [1, 3])
def test_changes_grow_with_the_strength_and_repeat(row: Corruption, channels: int) -> None:
    pixels = draw(channels)
    before = pixels.copy()
    assert len(row.values) == STRENGTHS
    distances = []
    for strength in range(1, STRENGTHS + 1):
        changed = row.apply(pixels, strength=strength, seed=1)
        assert changed.dtype == np.uint8
        assert changed.shape == pixels.shape
        assert np.array_equal(changed, row.apply(pixels, strength=strength, seed=1))
        distances.append(float(np.abs(changed.astype(int) - pixels).mean()))
    assert np.array_equal(pixels, before)
    if row.name == "saturation" and channels == 1:
        assert max(distances) == 0
        return
    assert distances[-1] > max(0.5, 1.3 * distances[0])


@pytest.mark.parametrize("row", CORRUPTIONS, ids=_ids)
def test_strengths_differ_in_small_images(row: Corruption) -> None:
    pixels = draw(3, (28, 28))
    found = [row.apply(pixels, strength=each, seed=1) for each in range(1, STRENGTHS + 1)]
    assert len({each.tobytes() for each in (pixels, *found)}) == 1 + STRENGTHS


def test_motion_of_two_pixels_averages_them_with_their_neighbors() -> None:
    row = next(row for row in CORRUPTIONS if row.name == "motion-blur")
    line = np.zeros((5, 5, 1), np.uint8)
    line[2, 2] = 200
    moved = row.change(line, 2 / 5, np.random.default_rng(1))
    [along] = [each for each in (moved[2, :, 0], moved[:, 2, 0]) if each[1] > 0]
    assert along == pytest.approx([0, 50, 100, 50, 0], abs=1)


@pytest.mark.parametrize("row", CORRUPTIONS, ids=_ids)
def test_images_of_one_pixel_and_of_one_color_are_no_bug(row: Corruption) -> None:
    for shape in ((2, 1, 1, 3), (1, 9, 7, 3), (0, 5, 5, 3)):
        pixels = np.zeros(shape, np.uint8)
        for strength in (1, 5):
            assert row.apply(pixels, strength=strength, seed=0).shape == pixels.shape


def test_names_occur_once() -> None:
    names = [row.name for row in CORRUPTIONS]
    assert len(set(names)) == len(names)
