"""The precision of a CPU: measured once, never the slower one, and left again if it fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import FinetuneConfig, TrainConfig, load_config
from cnnclf.data.manifest import Dataset
from cnnclf.errors import DivergedError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.finetune_pace import FORWARD
from cnnclf.planning.finetune_plan import FinetunePlan, plan_finetuning
from cnnclf.planning.train_plan import TrainPlan, plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_names import STATE_FILE
from cnnclf.runs.run_opening import create_run
from cnnclf.runtime import RuntimeInfo, setup_runtime
from cnnclf.training import precision, run, work
from cnnclf.training.epochs import EpochRow
from tests.training.tiny_finetune import plan_tiny as plan_finetune
from tests.training.tiny_finetune import tiny_backbone

SLOWER, FASTER = ({"float32": 100.0, "bfloat16": rate} for rate in (90.0, 140.0))


def plan_tiny(dataset: Dataset, **options: Any) -> TrainPlan:
    tiny = {"model.filters": [4, 6], "training.epochs": 3, "runtime.device": "cpu"}
    config, given = load_config(options=tiny | options, kind=TrainConfig)
    return plan_training(config, dataset, given=given)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What the next measurements find; those left were not made."""
    found: list[dict[str, float]] = []
    monkeypatch.setattr(precision, "_measure", lambda *_args, **_more: found.pop(0))
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_WORTH_S", 0)
    return found


def choose(plan: TrainPlan | FinetunePlan) -> RuntimeInfo:
    runtime = setup_runtime(device="cpu", precision="auto", seed=0)
    try:
        return precision.choose_precision(plan, runtime, wait=lambda: None, progress=Silent())
    finally:
        setup_runtime(device="cpu", precision="float32")


def test_the_faster_is_chosen_and_measured_once(
    shapes: Dataset, measured: list[dict[str, float]]
) -> None:
    measured += [FASTER, SLOWER]
    plan = plan_tiny(shapes)
    for _ in range(2):
        chosen = choose(plan)
        assert chosen.precision == "bfloat16"
        assert chosen.precision_reason == "images/s measured: float32 100, bfloat16 140"
    assert measured == [SLOWER], "the second time, it is in the cache"
    assert choose(plan_tiny(shapes, **{"model.filters": [4]})).precision == "float32"
    assert measured == []


@pytest.mark.parametrize(
    ("options", "has_bfloat16", "worth_s", "words"),
    [
        ({"runtime.precision": "float32"}, True, 0, "the default on a CPU"),
        ({"runtime.deterministic": True}, True, 0, "deterministic"),
        ({}, False, 0, "no bfloat16"),
        ({}, True, 1e9, "too short"),
    ],
)
def test_where_nothing_is_measured(
    shapes: Dataset,
    measured: list[dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    has_bfloat16: bool,
    worth_s: float,
    words: str,
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has_bfloat16)
    monkeypatch.setattr(precision, "_WORTH_S", worth_s)
    measured.append(FASTER)
    chosen = choose(plan_tiny(shapes, **options))
    assert chosen.precision == "float32"
    assert words in chosen.precision_reason
    assert measured == [FASTER]


def test_measuring_finds_a_rate_for_each_and_leaves_the_seed(
    shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_WORTH_S", 0)
    plan = plan_tiny(shapes)
    drawn = []
    for _ in range(2):  # measured, then cached
        chosen = choose(plan)
        drawn.append(np.asarray(keras.random.normal((3,))))
        assert set(chosen.precision_reason.split()) >= {"measured:", "float32", "bfloat16"}
    setup_runtime(device="cpu", seed=0)
    choose(plan)
    np.testing.assert_array_equal(drawn[0], drawn[1])


@pytest.mark.usefixtures("saves_every_epoch")
def test_a_run_that_diverges_in_the_chosen_precision_continues_in_float32(
    shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        run,
        "choose_precision",
        lambda plan, _runtime, **_more: precision.change_precision(plan, "bfloat16", reason="test"),
    )
    seen: list[int] = []

    def diverge_once(row: EpochRow, _best: bool) -> None:
        seen.append(row.epoch)
        if seen == [1, 2]:
            state = read_json(made.last / STATE_FILE)
            write_json_atomic(made.last / STATE_FILE, state | {"spent_s": 3000.0})
            raise DivergedError("loss became NaN in epoch 2")

    opened: list[work.Work[Any]] = []
    open_work = work.open_work

    def open_noted(each: work.Work[Any]) -> Any:
        opened.append(each)
        if len(opened) == 2:  # as if the epochs before had taken most of an hour
            state = read_json(made.last / STATE_FILE)
            assert opened[0].seconds() > opened[1].seconds(), "the clock of this leg starts now"
            assert work._read_spent(made) == state["spent_s"] == 3000.0
        return open_work(each)

    monkeypatch.setattr(run, "open_work", open_noted)
    progress, made = Silent(), create_run(tmp_path / "run")
    made.update_run(created="2999-01-01T00:00:00+00:00")  # as if it was made after a long start
    result = run.execute_plan(
        plan_tiny(shapes),
        shapes,
        make_run=lambda: made,
        progress=progress,
        listeners=[diverge_once],
    )
    assert made.read_record()["created"] < made.read_record()["ended"]  # the time that it took
    assert seen == [1, 2, 3], "the second epoch was saved before it was reported"
    assert [row.epoch for row in result.history] == [1, 2, 3]
    assert any("continues in float32" in text for text in progress.warnings)
    assert made.read_record()["precision"] == "float32"
    layers = Classifier.load(made.last).model.layers
    assert {str(layer.compute_dtype) for layer in layers} == {"float32"}


def test_the_second_phase_of_a_fine_tuning_is_measured_and_a_head_alone_is_not(
    shapes: Dataset, measured: list[dict[str, float]]
) -> None:
    measured.append(FASTER | {FORWARD: 50.0})
    given = {"runtime.deterministic": False}
    with tiny_backbone():
        chosen = choose(plan_finetune(shapes, **given))
        alone = choose(plan_finetune(shapes, **given, **{"tail.unfreeze": "none"}))
        again = choose(plan_finetune(shapes, **given))
    assert chosen.precision == again.precision == "bfloat16"
    assert chosen.precision_reason.endswith("float32 100, bfloat16 140, evaluation 50")
    assert (alone.precision, alone.precision_reason) == (
        "float32",
        "a head alone takes seconds in any",
    )


def test_depthwise_convolutions_are_not_measured(
    shapes: Dataset, measured: list[dict[str, float]]
) -> None:
    measured.append(FASTER | {FORWARD: 50.0})
    config, given = load_config(kind=FinetuneConfig, options={"tail.unfreeze": "2"})
    chosen = choose(plan_finetuning(config, shapes, given=given))
    assert chosen.precision == "float32"
    assert chosen.precision_reason == "depthwise convolutions are slower in bfloat16"
    assert len(measured) == 1


def test_steps_of_the_tail_and_passes_of_the_whole_network_are_measured(shapes: Dataset) -> None:
    runtime = setup_runtime(device="cpu", precision="float32", seed=0)
    with tiny_backbone():
        rates = precision._measure(plan_finetune(shapes), runtime, expected_rate=100.0)
    setup_runtime(device="cpu", precision="float32")
    assert set(rates) == {"float32", "bfloat16", FORWARD}
    assert min(rates.values()) > 0
