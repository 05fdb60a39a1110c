"""Figures and animations of convolutions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ConvolveConfig
from cnnclf.drawing.canvas import draw_canvas
from cnnclf.errors import UsageError
from cnnclf.explainers import convolution_figure
from cnnclf.explainers.convolution_figure import (
    MAX_FRAMES,
    _write_weight,
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


def test_figures_name_how_the_filter_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []

    def draw(rows: Any, *, title: str, **settings: Any) -> Image.Image:
        titles.append(title)
        return draw_canvas(rows, title=title, **settings)

    monkeypatch.setattr(convolution_figure, "draw_canvas", draw)
    settings = {"padding": "same", "stride": 5, "dilation": 2, "pad_mode": "edge"}
    done = convolve((8, 8), **settings)
    draw_convolution(done)
    save_animation(done, tmp_path / "steps.gif")
    assert len(titles) == 1 + 4
    assert set(titles) == {"sobel-x, stride 5, same padding, dilation 2, pad mode edge"}


@pytest.mark.parametrize(
    ("weight", "text"),
    [(0.125, "0.125"), (0.0625, "0.0625"), (1 / 9, "0.111"), (1 / 3e5, "3.33e-06"), (-2.0, "-2")],
)
def test_weights_are_exact_where_they_are_short(weight: float, text: str) -> None:
    assert _write_weight(weight) == text


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
