"""The search of the head's rates: its gradients, and that the better rate is found."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import (  # type: ignore[import-untyped]
    threadpool_info,
    threadpool_limits,
)

from cnnclf.config import HeadConfig, OptimizerConfig
from cnnclf.data.manifest import Dataset
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run
from cnnclf.training.fitting.judging import measure
from cnnclf.training.frozen import head_search
from cnnclf.training.frozen.features import Features
from cnnclf.training.frozen.head_search import (
    HeadTrial,
    choose_head,
    count_right,
    find_gradients,
    search_head,
)
from cnnclf.training.work import Work
from tests.training.tiny_finetune import plan_tiny


def loss_of(layers: Any, x: Any, y: Any, masks: Any) -> float:
    for index, (kernel, bias) in enumerate(layers):
        x = np.maximum(x, 0) if index else x
        x = (x if masks[index] is None else x * masks[index]) @ kernel + bias
    return float(-(y * (x - np.log(np.exp(x).sum(axis=1, keepdims=True)))).sum() / len(x))


@pytest.mark.parametrize("units", [0, 6])
@pytest.mark.parametrize("dropout", [False, True])
def test_gradients_are_those_of_the_loss(units: int, dropout: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [5, *([units] if units else []), 3]
    layers: Any = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in pairwise(sizes)]
    x: Any
    y: Any
    x, y = rng.normal(size=(7, 5)), np.eye(3)[rng.integers(3, size=7)] * 0.9 + 0.1 / 3
    masks: list[Any] = [
        (rng.random((7, len(kernel))) > 0.3) / 0.7 if dropout else None for kernel, _ in layers
    ]
    found = find_gradients(layers, x, y=y, masks=masks)
    weights = [weight for layer in layers for weight in layer]
    for weight, gradient in zip(weights, found, strict=True):
        for place in np.ndindex(weight.shape):
            kept, step = weight[place], 1e-6
            weight[place] = kept + step
            above = loss_of(layers, x, y, masks)
            weight[place] = kept - step
            below = loss_of(layers, x, y, masks)
            weight[place] = kept
            assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-5)


def make_features(
    rng: np.random.Generator, labels: Any, rows: Any, failed: tuple[int, ...] = ()
) -> Features:
    """Three classes, each with a direction of its own, in noise; failed ones are all alike."""
    centers = np.eye(3, 12)
    values = centers[labels[rows]] + rng.normal(0, 0.3, (len(rows), 12))
    values[list(failed)] = 60_000.0
    return Features(values.astype(np.float16), rows, failed=dict.fromkeys(failed, "unreadable"))


def search(units: int = 0, failed: tuple[int, ...] = (), **options: Any) -> list[HeadTrial]:
    labels = np.arange(600, dtype=np.int32) % 3
    rng = np.random.default_rng(0)
    head = HeadConfig(units=units, epochs=5, dropout=0.1)
    return search_head(
        make_features(rng, labels, np.arange(400), failed),
        make_features(rng, labels, np.arange(400, 600), failed),
        labels=labels,
        num_classes=3,
        head=head,
        batch_size=32,
        label_smoothing=0.1,
        seed=0,
        **options,
    )


@pytest.mark.parametrize("units", [0, 16])
def test_a_rate_that_learns_beats_one_that_does_not(units: int) -> None:
    trials = search(units, candidates=[(1e-7, 0.01), (1e-2, 0.01)])
    assert trials[0].learning_rate == 1e-2
    assert trials[0].val_accuracy > 0.8
    assert trials[0].val_loss < trials[1].val_loss


def test_heads_are_trained_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def watch(*arguments: Any, **options: Any) -> Any:
        threads.extend([each["num_threads"] for each in threadpool_info() if is_blas(each)])
        return find_gradients(*arguments, **options)

    def is_blas(library: dict[str, Any]) -> bool:
        return bool(library["user_api"] == "blas")

    monkeypatch.setattr(head_search, "find_gradients", watch)
    with threadpool_limits(2, user_api="blas"):
        search(candidates=[(1e-2, 0.01)])
    assert set(threads) == {1}


def test_trials_come_best_first_and_again_the_same() -> None:
    candidates = [(rate, decay) for rate in (1e-3, 1e-2) for decay in (0.0, 0.3)]
    trials = search(candidates=candidates)
    keys = [(trial.val_loss, -trial.val_accuracy) for trial in trials]
    assert keys == sorted(keys)
    assert {(trial.learning_rate, trial.weight_decay) for trial in trials} == set(candidates)
    assert search(candidates=candidates) == trials


def test_of_many_val_images_those_of_all_classes_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets come class by class."""
    seen: list[Any] = []

    def watch(logits: Any, truth: Any) -> Any:
        seen.append(np.unique(truth).tolist())
        return measure(logits, truth)

    monkeypatch.setattr(head_search, "_MAX_IMAGES", 100)
    monkeypatch.setattr(head_search, "measure", watch)
    labels = np.repeat(np.arange(3, dtype=np.int32), 200)
    rng, rows = np.random.default_rng(0), np.arange(600)
    search_head(
        make_features(rng, labels, rows),
        make_features(rng, labels, rows),
        labels=labels,
        num_classes=3,
        head=HeadConfig(epochs=1),
        candidates=[(1e-2, 0.01)],
        batch_size=32,
        label_smoothing=0.1,
        seed=0,
    )
    assert seen == [[0, 1, 2]]


def test_images_that_cannot_be_read_neither_teach_nor_count() -> None:
    (whole,) = search(candidates=[(1e-2, 0.01)])
    (some,) = search(candidates=[(1e-2, 0.01)], failed=tuple(range(0, 200, 2)))
    assert whole.val_accuracy > 0.95
    assert some.val_accuracy > 0.9
    assert some.val_loss < 1


@pytest.mark.parametrize("is_given", [False, True], ids=["usual", "one given"])
def test_without_room_for_features_the_usual_rates_are_said_and_on_record(
    colors: Dataset, tmp_path: Path, is_given: bool
) -> None:
    options: dict[str, object] = {"head.search": True, "head.weight_decay": "auto"}
    options["head.learning_rate"] = 0.2 if is_given else "auto"
    plan, progress, run = plan_tiny(colors, **options), Silent(), create_run(tmp_path / "run")
    runtime: Any = None
    work = Work(plan, colors, run, runtime, progress)
    head = choose_head(work, None)
    expected = {"learning_rate": 0.2 if is_given else 3e-3, "weight_decay": 0.01}
    assert {key: getattr(head, key) for key in expected} == expected
    assert run.read_record()["head_rates"] == expected
    (note,) = progress.notes
    assert note.startswith("no head search without cached features: head.")
    assert "head.weight_decay = 0.01 (the usual value)" in note
    assert ("head.learning_rate = 0.003 (" in note) != is_given


@pytest.mark.parametrize("is_one_wrong", [False, True])
def test_folds_count_the_images_only_if_all_are_right(
    colors: Dataset, tmp_path: Path, is_one_wrong: bool
) -> None:
    runtime: Any = None
    plan, run = plan_tiny(colors, **{"head.epochs": 20}), create_run(tmp_path / "run")
    work = Work(plan, colors, run, runtime, Silent())
    classes = colors.manifest.class_indices
    features = []
    for split in ("train", "val"):
        rows = colors.manifest.select(split)
        values = np.eye(3, 12)[classes[rows]].astype(np.float16)
        features.append(Features(values, rows, failed={}))
    if is_one_wrong:
        values = np.eye(3, 12)[classes[features[0].rows]].astype(np.float16)
        values[0] = np.roll(values[0], 1)
        features[0] = Features(values, features[0].rows, failed={})
    settings = OptimizerConfig(learning_rate=0.1, weight_decay=0.0)
    right = count_right(work, settings, features=(features[0], features[1]))
    assert right == (0 if is_one_wrong else len(features[0].rows) + len(features[1].rows))
    assert count_right(work, settings, features=None) == 0
