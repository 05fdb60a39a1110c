"""Whether flips would help, found on val."""

import numpy as np
import pytest

from cnnclf.evaluation.mirroring import MirroredVal, compare_mirrored

COUNT, CLASSES = 40, 4  # val images of a class


def label(right: float, *, seed: int, swapped: tuple[int, ...] = ()) -> np.ndarray:
    """Return logits that are right for some images; of swapped classes, for none."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(CLASSES), COUNT)
    labels = np.where(rng.random(len(truth)) < right, truth, (truth + 1) % CLASSES)
    for one in swapped:
        labels[truth == one] = (one + 1) % CLASSES
    return np.eye(CLASSES)[labels]


def compare(before: np.ndarray, after: np.ndarray) -> MirroredVal:
    return compare_mirrored(before, after, truth=np.repeat(np.arange(CLASSES), COUNT))


def test_flips_are_advised_where_mirror_images_are_labeled_as_well() -> None:
    found = compare(label(0.8, seed=0), label(0.8, seed=1))
    assert found.is_equal
    assert f"{found.mirrored_accuracy:.4f}, not mirrored {found.accuracy:.4f}" in found.describe()
    assert "--flip 0.5" in found.describe()


def test_what_the_choice_of_the_epoch_on_val_gains_is_no_difference() -> None:
    found = compare(label(0.8, seed=0), label(0.74, seed=6))
    assert found.accuracy > found.mirrored_accuracy + 0.03
    assert found.is_equal


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (label(0.9, seed=0), label(0.9, seed=1, swapped=(2,))),  # left and right hands
        (label(0.9, seed=0), label(0.7, seed=1)),  # no class by itself
        (label(0.25, seed=0), label(0.25, seed=1)),  # nothing was learned
        (label(0.9, seed=0, swapped=(3,)), label(0.9, seed=1)),  # nothing of one class
    ],
    ids=["one class", "all together", "untrained", "a class that cannot be judged"],
)
def test_no_flips_are_advised_otherwise(before: np.ndarray, after: np.ndarray) -> None:
    found = compare(before, after)
    assert not found.is_equal
    assert found.describe() == ""


def test_few_images_of_a_class_say_nothing() -> None:
    truth = np.repeat(np.arange(2), 4)
    right = np.eye(2)[truth]
    assert not compare_mirrored(right, right, truth=truth).is_equal


def test_where_hardly_anything_is_wrong_there_is_no_advice() -> None:
    perfect = label(1.0, seed=0)
    found = compare(perfect, perfect)
    assert found.is_equal
    assert found.describe() == ""
