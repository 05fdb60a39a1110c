"""Color changes: what the matrices mean, and that gray and color images agree."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from cnnclf.augmentation import tones


def images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 6, 5, channels), dtype=np.uint8)


def as_factor(value: float) -> np.ndarray:
    return np.full(3, value)


@pytest.mark.parametrize("channels", [1, 3])
def test_identity_changes_nothing(channels: int) -> None:
    pixels = images(channels)
    assert (tones.recolor(pixels.copy(), tones.identity_colors(3)) == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_multiplies_and_clips(channels: int) -> None:
    pixels = images(channels)
    out = tones.recolor(pixels.copy(), tones.scale_colors(as_factor(1.5)))
    assert np.abs(out - np.clip(pixels * 1.5, 0, 255)).max() <= 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_moves_values_away_from_the_center(channels: int) -> None:
    pixels = images(channels)
    out = tones.recolor(pixels.copy(), tones.spread_colors(as_factor(0.5), as_factor(100.0)))
    assert np.abs(out - (100 + (pixels - 100.0) / 2)).max() <= 0.51


def test_no_saturation_is_gray_and_hue_leaves_gray_alone() -> None:
    pixels = images()
    gray = tones.recolor(pixels.copy(), tones.saturate_colors(as_factor(0.0)))
    assert np.ptp(gray.astype(int), axis=3).max() <= 1
    turned = tones.recolor(gray.copy(), tones.rotate_colors(np.array([0.1, -0.3, 0.5])))
    assert np.abs(turned.astype(int) - gray).max() <= 2


def test_hue_turns_the_color_circle() -> None:
    red = np.tile(np.array([180, 90, 90], np.uint8), (3, 2, 2, 1))
    hues = []
    for image in tones.recolor(red, tones.rotate_colors(np.array([0.0, 1 / 3, -1 / 3]))):
        hues.append(colorsys.rgb_to_hsv(*(image[0, 0] / 255))[0])
    assert hues[0] == pytest.approx(0, abs=0.02)
    assert sorted(hues[1:]) == pytest.approx([1 / 3, 2 / 3], abs=0.06)


def test_gray_images_take_any_matrix_as_equal_colors_would() -> None:
    gray = images(1)
    matrices = tones.scale_colors(np.array([0.8, 1.1, 1.0]))
    for more in (
        tones.saturate_colors(np.array([0.3, 1.7, 1.0])),
        tones.rotate_colors(np.array([0.1, -0.2, 0.0])),
        tones.spread_colors(np.array([1.3, 0.6, 1.0]), np.array([90.0, 120.0, 0.0])),
    ):
        matrices = more @ matrices
    out = tones.recolor(gray.copy(), matrices)
    color = tones.recolor(np.repeat(gray, 3, axis=3), matrices)
    assert np.abs(out.astype(int) - color).max() <= 1


def test_lightness_is_the_mean_of_the_image() -> None:
    pixels = images()
    assert tones.mean_lightness(pixels) == pytest.approx(
        (pixels @ tones.LUMA).mean(axis=(1, 2)), abs=1e-6
    )
    large = np.random.default_rng(0).integers(0, 256, (1, 300, 200, 1), dtype=np.uint8)
    assert tones.mean_lightness(large) == pytest.approx([large.mean()], abs=12)


@pytest.mark.parametrize(
    "tone", [tones.autocontrast, tones.equalize, tones.solarize, tones.posterize, tones.sharpen]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_tones_keep_size_and_mode(tone: tones.Tone, mode: str) -> None:
    image = Image.fromarray(images()[0]).convert(mode)
    for level in (0.0, 0.6, 1.0):
        out = tone(image, level)
        assert (out.size, out.mode) == (image.size, mode)


def test_solarize_inverts_above_the_threshold_and_posterize_drops_bits() -> None:
    image = Image.fromarray(np.array([[10, 100, 200]], np.uint8))
    assert list(np.asarray(tones.solarize(image, 0.5))[0]) == [10, 100, 55]
    assert list(np.asarray(tones.posterize(image, 1.0))[0]) == [0, 96, 192]
    assert list(np.asarray(tones.solarize(image, 0.0))[0]) == [10, 100, 200]
