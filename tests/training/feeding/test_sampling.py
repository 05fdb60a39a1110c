"""Sizes of batches, and which images a balanced epoch shows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.training.feeding.sampling import cut_batches, draw_balanced


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(2, 8))
@settings(max_examples=100, deadline=None)
def test_devices_get_equal_shares(count: int, batch_size: int, devices: int) -> None:
    edges = cut_batches(count, batch_size, devices=devices)
    sizes = np.diff(edges)
    assert count <= edges[-1] < count + devices
    assert (sizes % devices == 0).all()
    assert np.ptp(sizes) in {0, devices}
    if batch_size >= 3 * devices:
        assert sizes.max() <= batch_size
    if batch_size >= 2 * devices and count > 2 * devices:
        assert sizes.min() >= 2 * devices


@given(st.integers(1, 2000), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_batches_are_as_few_and_as_equal_as_can_be(count: int, batch_size: int) -> None:
    edges = cut_batches(count, batch_size)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, count)
    assert np.ptp(sizes) <= 1
    if batch_size != 2 or count % 2 == 0:
        assert len(sizes) == -(-count // batch_size)
        assert sizes.max() <= batch_size
    if batch_size > 1 and count > 1:
        assert sizes.min() >= 2


def test_an_odd_count_in_pairs_ends_with_three() -> None:
    assert sorted(np.diff(cut_batches(7, 2)).tolist()) == [2, 2, 3]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_a_balanced_epoch_shows_classes_equally_and_nothing_more_than_needed(
    listed: list[int], seed: int
) -> None:
    classes = np.array(listed)
    drawn = draw_balanced(classes, np.random.default_rng(seed))
    assert len(drawn) == len(classes)
    shown = np.bincount(classes[drawn], minlength=6)
    there = np.bincount(classes, minlength=6)
    assert (shown[there == 0] == 0).all()
    assert np.ptp(shown[there > 0]) <= 1
    times = np.bincount(drawn, minlength=len(classes))
    for index in np.flatnonzero(there):
        assert np.ptp(times[classes == index]) <= 1


def test_more_classes_than_images_to_share() -> None:
    drawn = draw_balanced(np.arange(7), np.random.default_rng(0))
    assert sorted(drawn.tolist()) == list(range(7))
