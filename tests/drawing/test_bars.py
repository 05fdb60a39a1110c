"""Bars: red to the right for what is positive, blue to the left for what is negative."""

import numpy as np
import pytest

from cnnclf.drawing.bars import draw_bars

RED, BLUE = (178, 24, 43), (33, 102, 172)


def find(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Give the columns in which a color occurs."""
    return np.flatnonzero((image == color).all(axis=2).any(axis=0))


def test_signs_have_sides_and_colors() -> None:
    image = draw_bars(["for", "against"], [2.0, -1.0])
    red, blue = find(image, RED), find(image, BLUE)
    assert blue.max() < red.min() + 3
    assert len(red) == pytest.approx(2 * len(blue), abs=4)


def test_a_limit_makes_charts_comparable() -> None:
    assert len(find(draw_bars(["a"], [0.5], limit=1), RED)) == pytest.approx(
        len(find(draw_bars(["a"], [1.0], limit=1), RED)) / 2, abs=3
    )


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1e9]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    image = draw_bars(["name " * 20] * len(values), values)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
