"""The blur of an image is what its definition gives, computed in the plainest way."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cnnclf.quality.sharpness import measure_blur


def blur_by_definition(values: np.ndarray) -> float:
    """Compare neighbors before and after a mean over 9 x 9 pixels, in every other pair of rows."""
    height, width = values.shape
    padded = np.pad(values.astype(np.int64), 4, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 9))
    sums = windows.sum(axis=(2, 3))
    count, wide = height // 16, [width // 4, (width - 1) // 4]
    before, after = np.zeros((4, 4)), np.zeros((4, 4))
    for top in range(0, 16 * count, 4):
        tile = top // 4 // count
        for row, down, weight in ((top, 1, 2), (top, 0, 1), (top + 1, 0, 1)):
            size = wide[1 - down]
            for column in range(4 * size):
                other = (row + down, column + 1 - down)
                step = abs(int(values[row, column]) - int(values[other]))
                kept = abs(int(sums[row, column]) - int(sums[other]))
                before[tile, column // size] += weight * step
                after[tile, column // size] += weight * min(81 * step, kept)
    judged = before > 2 * 0.5 * (height // 4 * 2 * width) / 16
    return float((after[judged] / before[judged]).min() / 81) if judged.any() else float("nan")


@pytest.mark.parametrize("size", [(48, 48), (61, 49), (100, 50), (64, 75)])
def test_the_blur_is_what_its_definition_gives(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(size))
    noise = rng.integers(0, 256, (size[1] // 3 + 1, size[0] // 3 + 1), np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    for each in (
        image,
        image.filter(ImageFilter.GaussianBlur(3)),
        Image.eval(image, lambda v: v // 99),
    ):
        expected = blur_by_definition(np.asarray(each))
        assert measure_blur(each) == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_sums_of_bright_pixels_do_not_overflow() -> None:
    values = np.random.default_rng(0).integers(149, 256, (80, 80), np.uint8)  # 81 are about 2**14
    assert measure_blur(Image.fromarray(values)) == blur_by_definition(values)
    stripes = np.zeros((80, 80), np.uint8)  # the largest steps
    stripes[:, np.arange(80) % 20 < 10] = 255
    assert measure_blur(Image.fromarray(stripes)) == blur_by_definition(stripes) > 0


def test_what_has_no_contrast_or_is_tiny_is_not_judged() -> None:
    assert np.isnan(measure_blur(Image.new("L", (64, 64), 128)))
    assert np.isnan(measure_blur(Image.effect_noise((47, 64), 60)))
