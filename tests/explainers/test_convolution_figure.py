"""Figures and animations of convolutions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ConvolveConfig
from cnnclf.errors import UsageError
from cnnclf.explainers.convolution_figure import (
    MAX_FRAMES,
    draw_convolution,
    join_images,
    save_animation,
    shade,
)
from cnnclf.explainers.convolved_image import MAX_SIDE, ConvolvedImage, convolve_image

RNG = np.random.default_rng(0)


def convolve(shape: tuple[int, ...], **settings: object) -> ConvolvedImage:
    pixels = RNG.integers(0, 256, shape, np.uint8)
    return convolve_image(pixels, ConvolveConfig.model_validate(settings))


def test_signs_are_blue_and_red_and_pixels_are_gray() -> None:
    low, zero, high = shade(np.array([[-2.0, 0.0, 2.0]]))[0].tolist()
    assert low[2] > low[0]
    assert zero == [255, 255, 255]
    assert high[0] > high[2]
    assert shade(np.array([[0.0, 51.0]]), 255.0)[0, 1].tolist() == [51, 51, 51]
    assert shade(np.array([[0.0, 3.0]]))[0, 1].tolist() == [255, 255, 255]


def test_a_color_image_has_a_row_per_channel_and_one_for_the_sum() -> None:
    gray = draw_convolution(convolve((12, 12), activation="relu"))
    color = draw_convolution(convolve((12, 12, 3), activation="relu"))
    assert color.width == gray.width
    assert color.height > 3 * gray.height


def test_input_and_result_are_joined_for_the_terminal() -> None:
    done = convolve((12, 10, 3), filter="identity", pool="max")
    sheet = join_images(done)
    np.testing.assert_array_equal(sheet[:12, :10], done.pixels)
    assert done.result.shape == (5, 4)
    assert sheet.shape == (12, 10 + 1 + 2 * 4, 3), "the small result is enlarged"


def test_an_animation_has_a_frame_per_position(tmp_path: Path) -> None:
    path = tmp_path / "steps.gif"
    done = convolve((5, 6), filter="sobel-x", padding="same", stride=2)
    assert save_animation(done, path) == 3 * 3
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 0) == 9
    assert list(tmp_path.iterdir()) == [path]


def test_an_animation_of_too_many_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=f"has 2,500 positions, and an animation at most {MAX_FRAMES}"
    ):
        save_animation(convolve((52, 52)), tmp_path / "steps.gif")
    assert not list(tmp_path.iterdir())


def test_large_images_are_resized_with_a_note_and_even_kernels_explained() -> None:
    done = convolve((1024, 600), filter="blur", kernel_size=4, padding="same")
    assert done.pixels.shape == (MAX_SIDE, 300, 1)
    assert "resized to 512x300" in done.notes[0]
    assert "an even kernel with same padding" in done.notes[1]
    assert done.result.shape == (MAX_SIDE, 300)


def test_padding_without_effect_is_noted() -> None:
    assert "changes nothing" in convolve((8, 8), pad_mode="edge").notes[0]
