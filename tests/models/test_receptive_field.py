"""The arithmetic of receptive fields, against counting by hand and against NumPy."""

import itertools

import numpy as np
import pytest

from cnnclf.models.receptive_field import (
    WHOLE,
    Field,
    count_positions,
    join_fields,
    pad_before,
    pad_total,
)


def reach(layers: list[tuple[int, int, int, int]], size: int) -> tuple[int, int, float]:
    """Mark which of `size` inputs each output depends on; give size, stride and first center."""
    seen = [{place} for place in range(-size, 2 * size)]
    first = size
    for window, stride, padded, dilation in layers:
        start = first - padded
        count = (len(seen) - start - (window - 1) * dilation - 1) // stride + 1
        seen = [
            set().union(*(seen[start + k * stride + d * dilation] for d in range(window)))
            for k in range(count)
        ]
        first = 0
    sizes = {max(each) - min(each) + 1 for each in seen}
    assert len(sizes) == 1
    return sizes.pop(), min(seen[1]) - min(seen[0]), (min(seen[0]) + max(seen[0])) / 2


LAYERS = [(3, 1, 1, 1), (2, 2, 0, 1), (5, 2, 1, 1), (3, 1, 2, 2), (1, 2, 0, 1)]


@pytest.mark.parametrize("layers", list(itertools.permutations(LAYERS, 2)))
def test_the_recurrence_is_what_counting_gives(layers: list[tuple[int, int, int, int]]) -> None:
    field = Field()
    # padding of a deeper layer reaches into values that marking cannot have: none there
    layers = [layers[0], (*layers[1][:2], 0, layers[1][3])]
    for window, stride, padded, dilation in layers:
        field = field.slide(window, stride=stride, padded=padded, dilation=dilation)
    assert (field.size, field.stride, field.offset) == reach(layers, 60)


def test_padding_before_the_first_value_moves_the_center() -> None:
    assert Field().slide(3, stride=2, padded=1) == Field(3, 2, 0.0)
    assert Field().shift(-1).slide(3, stride=2, padded=0) == Field(3, 2, 0.0)
    assert Field(3, 2, 0.0).slide(3, stride=1, padded=1) == Field(7, 2, 0.0)


def test_paths_that_join_are_contained() -> None:
    assert join_fields([Field(7, 4, 2.0), Field(1, 4, 2.0)]) == Field(7, 4, 2.0)
    assert join_fields([Field(3, 2, 0.0), Field(3, 2, 2.0)]) == Field(5, 2, 1.0)
    assert join_fields([Field(3, 2, 0.0), WHOLE]) == WHOLE
    assert WHOLE.slide(3, stride=2, padded=0) == WHOLE


@pytest.mark.parametrize("size", [7, 8, 28])
@pytest.mark.parametrize(
    ("window", "stride", "dilation"), [(3, 1, 1), (4, 2, 1), (3, 3, 1), (3, 1, 2)]
)
def test_positions_are_as_many_as_there_are_windows(
    size: int, window: int, stride: int, dilation: int
) -> None:
    values = np.arange(size)
    reach = (window - 1) * dilation + 1
    windows = np.lib.stride_tricks.sliding_window_view(values, reach)[::stride]
    assert count_positions(size, window, stride=stride, same=False, dilation=dilation) == len(
        windows
    )
    total = pad_total(size, window, stride=stride, dilation=dilation)
    padded = np.pad(values, (pad_before(size, window, stride=stride, dilation=dilation), 99))
    assert pad_before(size, window, stride=stride, dilation=dilation) == total // 2
    windows = np.lib.stride_tricks.sliding_window_view(padded[: size + total], reach)[::stride]
    assert count_positions(size, window, stride=stride, same=True, dilation=dilation) == len(
        windows
    )


def test_a_window_that_is_too_large_has_no_position() -> None:
    assert count_positions(2, 3, stride=1, same=False) == 0
