"""Each sentence is said when it is true, and not otherwise."""

from random import Random
from typing import Any

import pytest

from cnnclf.evaluation.learning_diagnosis import diagnose


def history(losses: list[float], val: list[float], wait: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"epoch": at + 1, "loss": loss, "val_loss": other, "seconds": 10.0, "data_wait_s": wait}
        for at, (loss, other) in enumerate(zip(losses, val, strict=True))
    ]


def layer(name: str = "conv", epoch: int = 1, **figures: float) -> dict[str, Any]:
    usual = {"gradient_norm": 0.5, "update_ratio": 1e-3, "dead_fraction": 0.0}
    return {"epoch": epoch, "layer": name} | usual | figures


FALLING = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]


def test_nothing_is_said_if_nothing_is_off() -> None:
    assert diagnose(history(FALLING, FALLING), [layer(), layer("dense")]) == []
    assert diagnose([]) == []
    assert diagnose(history([1.0], [1.0])) == []


@pytest.mark.parametrize(
    ("rows", "trace", "words"),
    [
        (history(FALLING, [1.0, 0.7, 0.8, 0.9, 1.0, 1.1]), [], "overfitting since epoch 2"),
        (history([1.0, 2.0, 1.0, 2.0], [1.0] * 4), [], "learning rate is too high"),
        (history(FALLING, FALLING, wait=4.0), [], "waited for images 40 % of the time"),
        ([], [layer(gradient_norm=1e-5), layer("dense")], "vanishing gradient: that of conv"),
        ([], [layer(update_ratio=0.2), layer(epoch=2)], "exploding steps: a step changed conv"),
        ([], [layer(dead_fraction=0.75)], "dead units: 75 % of conv"),
        ([], [layer(update_ratio=1e-9)], "raise the learning rate"),
    ],
)
def test_what_is_off_is_said(rows: list[Any], trace: list[Any], words: str) -> None:
    [sentence] = diagnose(rows, trace)
    assert words in sentence


@pytest.mark.parametrize(
    ("losses", "accuracies", "is_said"),
    [
        ([0.71, *[0.69] * 7], [0.5] * 8, True),
        ([0.71, *[0.69] * 5], [0.5] * 6, False),  # too few epochs to tell
        ([0.71, *[0.66] * 7], [0.5] * 8, False),
        ([0.98, *[0.96] * 7], [0.5, *[0.6] * 7], False),  # smoothed labels have a floor
        ([0.1] * 8, [0.97] * 8, False),
    ],
)
def test_a_network_that_learns_nothing_is_said(
    losses: list[float], accuracies: list[float], is_said: bool
) -> None:
    rows = history(losses, losses)
    for row, accuracy in zip(rows, accuracies, strict=True):
        row |= {"accuracy": accuracy, "val_accuracy": accuracy, "phase": "train"}
    said = diagnose(rows)
    assert bool(said) == is_said
    if is_said:
        assert "the training loss went from 0.71 to 0.69; try --batch-norm" in said[0]
        [other] = diagnose([row | {"phase": "head"} for row in rows])
        assert "try another learning rate, and check" in other  # finetune has no --batch-norm


@pytest.mark.parametrize(("val", "is_said"), [(0.8, True), (0.9, False), (None, False)])
def test_images_that_are_learned_by_heart_are_said(val: float | None, is_said: bool) -> None:
    """The val loss need not rise for that: it may never have fallen."""
    rows = history(FALLING, [1.0] * 6)
    accurate = [row | {"accuracy": 1.0, "val_accuracy": val} for row in rows]
    found = diagnose(accurate)
    words = "overfitting: 100 % of the training images are labeled rightly, but 80 % of val"
    assert [each.startswith(words) for each in found] == [True] * is_said
    tail = [row | {"phase": "tail"} for row in accurate]
    assert diagnose([*accurate, *tail]) == [], "the weights kept may be between two phases"


@pytest.mark.parametrize(("phase", "is_advised"), [("train", True), ("tail", False)])
def test_random_weights_that_overfit_may_be_pretrained_ones(phase: str, is_advised: bool) -> None:
    rows = [row | {"phase": phase} for row in history(FALLING, [1.0, 0.7, 0.8, 0.9, 1.0, 1.1])]
    [sentence] = diagnose(rows)
    assert ("or cnnclf finetune, which starts" in sentence) == is_advised


@pytest.mark.parametrize("seed", range(20))
def test_a_lowest_loss_by_chance_is_no_overfitting(seed: int) -> None:
    generator = Random(seed)
    noisy = [generator.gauss(0.8, 0.1) for _ in range(40)]
    noisy[5] = 0.4
    loss = [1.0 - 0.02 * at for at in range(40)]
    assert diagnose(history(loss, noisy)) == []
    rising = [each + 0.02 * at for at, each in enumerate(noisy)]
    [sentence] = diagnose(history(loss, rising))
    assert "since epoch 6" in sentence


def test_losses_near_zero_are_no_news() -> None:
    tiny = [0.0005, 0.0004, 0.001, 0.002, 0.003, 0.0037]
    assert diagnose(history(FALLING, tiny)) == []
    assert diagnose(history([0.001, 0.004, 0.001, 0.004], [0.001] * 4)) == []
    assert diagnose(history(FALLING, [each * 10 for each in tiny])) != []


def test_steps_of_muon_are_as_large_as_its_rate() -> None:
    rows = [{**row, "learning_rate": 0.1} for row in history(FALLING, FALLING)]
    assert diagnose(rows, [layer(update_ratio=0.11)], optimizer="muon") == []
    assert diagnose(rows, [layer(update_ratio=0.11)], optimizer="adamw") != []
    assert diagnose(rows, [layer(update_ratio=0.2)], optimizer="muon") != []
