"""Softmax, log-softmax and the top classes: one definition for the whole package."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cnnclf
from cnnclf.probabilities import find_top_classes, log_softmax, softmax

LOGITS = np.random.default_rng(0).normal(0, 10, (50, 7))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_keeps_the_dtype_and_adds_up_to_one(dtype: type[np.floating]) -> None:
    probabilities = softmax(LOGITS.astype(dtype))
    assert probabilities.dtype == dtype
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities.argmax(axis=1) == LOGITS.argmax(axis=1)).all()


def test_log_softmax_does_not_underflow() -> None:
    np.testing.assert_allclose(log_softmax(LOGITS), np.log(softmax(LOGITS)), atol=1e-12)
    np.testing.assert_array_equal(log_softmax(np.array([[0.0, -1e6]])), [[0.0, -1e6]])


def test_large_logits_do_not_overflow() -> None:
    np.testing.assert_array_equal(softmax(np.array([[1e30, 0.0]])), [[1.0, 0.0]])


def test_no_images_give_no_rows() -> None:
    empty = np.zeros((0, 3))
    assert softmax(empty).shape == log_softmax(empty).shape == (0, 3)
    assert find_top_classes(empty, 2).shape == (0, 2)


@given(
    arrays(np.float64, (5, 12), elements=st.sampled_from([0.0, 0.1, 0.2, 0.3])),
    st.integers(1, 15),
)
def test_top_classes_are_those_of_a_stable_sort(probabilities: np.ndarray, top_k: int) -> None:
    expected = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    assert (find_top_classes(probabilities, top_k) == expected).all()


def test_nothing_else_in_the_package_defines_a_softmax() -> None:
    package = Path(cnnclf.__file__).parent
    defining = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any("exp(" in line and "max(" in line for line in path.read_text("utf-8").splitlines())
    }
    assert defining == {"probabilities.py"}
