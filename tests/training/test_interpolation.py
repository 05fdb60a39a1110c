"""Choosing weights between two phases, on a network of one number."""

import numpy as np
import pytest

from cnnclf.training.interpolation import choose_fraction


@pytest.mark.parametrize(("best", "fraction"), [(1.0, 1.0), (0.7, 0.75), (0.5, 0.5), (0.1, 0.25)])
def test_the_point_with_the_lowest_val_loss_is_chosen(best: float, fraction: float) -> None:
    """One logit is a weight w times 1, the other a constant: only w near its best fits the labels.

    Half of the images are of class 0 and half of class 1, so the loss is lowest where both logits
    are equal, which is where w = 4 best.
    """
    import keras

    part = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    start, end = np.zeros((2, 2), np.float32), np.array([[4, 0], [0, 0]], np.float32)
    inputs = np.array([[1, 4 * best]] * 8, np.float32)
    start[1, 1] = end[1, 1] = 1
    labels = np.eye(2, dtype=np.float32)[[0, 1] * 4]
    chosen = choose_fraction(
        part,
        head=[start],
        tail=[end],
        batches=lambda: [(inputs[:5], labels[:5]), (inputs[5:], labels[5:])],
        label_smoothing=0.0,
    )
    assert chosen == fraction
    np.testing.assert_array_equal(part.get_weights()[0], start + fraction * (end - start))


def test_the_loss_counts_more_than_the_accuracy() -> None:
    """Logits are w and 0, and all points label alike: the surest is the most wrong about one."""
    import keras

    part = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    head, tail = np.zeros((1, 2), np.float32), np.array([[20, 0]], np.float32)
    inputs = np.array([[1], [1], [1], [-0.001]], np.float32)
    labels = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    chosen = choose_fraction(
        part,
        head=[head],
        tail=[tail],
        batches=lambda: [(inputs, labels)],
        label_smoothing=0.0,
    )
    assert chosen == 0.25
