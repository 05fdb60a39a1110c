"""Color maps keep the order of numbers in lightness, and zero is white."""

import numpy as np
import pytest

from cnnclf.drawing.color_maps import COLOR_MAPS, to_colors, to_signed_colors


def lightness(colors: np.ndarray) -> np.ndarray:
    """Give CIE L* of sRGB colors."""
    linear = (colors / 255.0) ** 2.2
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.asarray(116 * np.cbrt(np.maximum(luminance, 0.008856)) - 16)


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_lightness_is_monotone_on_each_side(name: str) -> None:
    steps = np.diff(lightness(to_colors(np.linspace(0, 1, 101), name, low=0, high=1)))
    if name == "signed":
        assert (steps[:50] > -0.01).all()
        assert (steps[50:] < 0.01).all()
    else:
        assert (steps > -0.01).all() or (steps < 0.01).all()


def test_zero_is_white_and_signs_have_colors() -> None:
    blue, white, red = to_signed_colors(np.array([-2.0, 0.0, 2.0]))
    assert white.tolist() == [255, 255, 255]
    assert blue[2] > blue[0]
    assert red[0] > red[2]


def test_a_shared_limit_makes_maps_comparable() -> None:
    weak = to_signed_colors(np.array([1.0]), limit=10.0)
    assert weak.min() > 200


@pytest.mark.parametrize("values", [[0.0, 0.0], [np.nan, 1.0], [-np.inf, np.inf]])
def test_any_number_has_a_color(values: list[float]) -> None:
    assert to_signed_colors(np.array(values)).dtype == np.uint8
    assert to_colors(np.array(values), "gray", low=1.0, high=1.0).shape == (2, 3)
