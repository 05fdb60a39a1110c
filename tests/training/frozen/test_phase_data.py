"""What phases train on: cached maps, cached pooled features, or images, as there is room."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.models.stages import Stage
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.runtime import setup_runtime
from cnnclf.training.frozen import feature_cache, phase_data
from cnnclf.training.frozen.feature_cache import NoRoomError
from cnnclf.training.frozen.features import FeatureJob
from cnnclf.training.frozen.phase_data import PhaseData, open_phase_data
from cnnclf.training.head_and_tail import build_from_weights
from cnnclf.training.work import Work
from tests.training import tiny_finetune
from tests.training.tiny_finetune import plan_tiny, tiny_backbone


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_backbone():
        yield


def open_data(
    dataset: Dataset,
    path: Path,
    progress: Silent | None = None,
    /,
    *,
    resume: bool = False,
    **options: object,
) -> tuple[PhaseData, PhaseData | None]:
    plan, progress = plan_tiny(dataset, **options), progress or Silent()
    runtime = setup_runtime(device="cpu", seed=0)
    transfer, _ = build_from_weights(plan, progress=progress)
    run = open_run(path) if resume else create_run(path)
    work = Work(plan, dataset, run, runtime, progress, resume)
    return open_phase_data(work, transfer)


def leave_room_for(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    def check(directory: Path, needed: int) -> int:
        if needed > most:
            raise NoRoomError(f"expected {needed} bytes, there are {most}", "free some space")
        return most

    monkeypatch.setattr(feature_cache, "check_room", check)


# What the tiny backbone's features take in float16, of 34 images of train and 7 of val.
MAPS, POOLED = 41 * (2 * 2 * 16 + 64) * 2, 41 * 64 * 2


def test_both_phases_train_on_features_where_there_is_room(
    colors: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room_for(monkeypatch, MAPS)
    head, tail = open_data(colors, tmp_path / "run")
    assert tail is not None
    assert head.features is not None
    assert tail.features is not None
    assert head.features[0].shape == (64,)
    assert tail.features[0].shape == (2, 2, 16)
    assert tail.build_part().input_shape == (None, 2, 2, 16)


def test_without_room_training_is_refused(
    colors: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room_for(monkeypatch, 0)
    with pytest.raises(NoRoomError):
        open_data(colors, tmp_path / "run")


@pytest.mark.parametrize("room", [MAPS - 1, POOLED - 1, 0], ids=["pooled", "neither", "none"])
def test_a_fallback_keeps_what_fits_and_says_what_it_does_instead(
    colors: Dataset, tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room_for(monkeypatch, room)
    progress = Silent()
    options: dict[str, Any] = {"features.fallback": True, "augment.preset": "medium"}
    head, tail = open_data(colors, tmp_path / "run", progress, **options)
    assert tail is not None
    assert tail.features is None
    assert tail.build_part().input_shape == (None, 16, 16, 3)
    assert tail.batches.augmenter is not None
    assert "flip" in tail.batches.augmenter.operations, "the plain way augments as it always does"
    fits = room >= POOLED
    assert (head.features is not None) == fits
    assert len(progress.warnings) == 2 - fits
    assert "the tail continues without them" in progress.warnings[0]
    if not fits:
        assert "training continues without them" in progress.warnings[1]


@pytest.mark.parametrize("room", [POOLED, 0], ids=["pooled", "none"])
def test_a_run_that_continues_keeps_to_what_it_began_with(
    colors: Dataset, tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"features.fallback": True}
    leave_room_for(monkeypatch, room)
    began = open_data(colors, tmp_path / "run", **options)
    leave_room_for(monkeypatch, MAPS)
    monkeypatch.setattr(phase_data, "choose_engine", lambda *_: "another")
    goes_on = open_data(colors, tmp_path / "run", resume=True, **options)
    for before, after in zip(began, goes_on, strict=True):
        assert before is not None
        assert after is not None
        assert (after.features is None) == (before.features is None)
        assert after.build_part().input_shape == before.build_part().input_shape


@pytest.mark.parametrize(
    ("chosen", "wanted", "engine"),
    [
        ("openvino-bf16", "auto", "openvino-bf16"),
        ("openvino-bf16", "float32", "openvino-f32"),
        ("openvino-f32", "bfloat16", "openvino-bf16"),
        ("keras-float32", "bfloat16", "keras-float32"),
    ],
)
def test_the_precision_of_features_can_be_asked_for(
    colors: Dataset,
    tmp_path: Path,
    chosen: str,
    wanted: str,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[Any] = []

    def note_name(*_: Any, engine: str, **__: Any) -> Any:
        names.append(engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(phase_data, "choose_engine", lambda *_, **__: chosen)
    monkeypatch.setattr(phase_data, "open_features", note_name)
    options: dict[str, Any] = {"features.precision": wanted}
    with pytest.raises(KeyboardInterrupt):
        open_data(colors, tmp_path / "run", **options)
    assert names == [engine]


MOVED = (*tiny_finetune.ROW.stages[:2], Stage("stage2", end="bn2"), Stage("stage3"))


@pytest.mark.parametrize(
    ("row", "runtime"),
    [
        ({}, {"versions": {"cnnclf": "99"}}),
        ({}, {"versions": {"keras": "99"}}),
        ({}, {"kind": "gpu"}),
        ({"normalization": "torch"}, {}),
        ({"stages": MOVED}, {}),
    ],
    ids=["cnnclf", "keras", "device", "normalization", "stages"],
)
def test_what_may_be_another_graph_with_the_same_weights_is_another_job(
    colors: Dataset,
    tmp_path: Path,
    row: dict[str, Any],
    runtime: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs: list[FeatureJob] = []

    def note_job(found: list[FeatureJob], *_: Any, **__: Any) -> Any:
        jobs.append(found[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(phase_data, "open_features", note_job)
    for number in range(2):
        with pytest.raises(KeyboardInterrupt):
            open_data(colors, tmp_path / f"run{number}")
    used = setup_runtime(device="cpu", seed=0)
    other = {**runtime, "versions": {**used.versions, **runtime.get("versions", {})}}
    monkeypatch.setattr(f"{__name__}.setup_runtime", lambda **_: replace(used, **other))
    monkeypatch.setattr(tiny_finetune, "ROW", replace(tiny_finetune.ROW, **row))
    with tiny_backbone(), pytest.raises(KeyboardInterrupt):
        open_data(colors, tmp_path / "other")
    first, second, third = ((job.graph, job.weights, job.makers) for job in jobs)
    assert first == second
    assert first != third
    assert first[1] == third[1], "the weights are the same"
