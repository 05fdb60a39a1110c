"""The steps of a run apart: without test, stopped or pruned by a listener, in several legs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import EvaluateConfig, PredictConfig, TrainConfig, load_config
from cnnclf.data import decoding
from cnnclf.data.manifest import Dataset, ImportedFile, load_dataset
from cnnclf.errors import ImageError
from cnnclf.evaluation.measuring import measure_model
from cnnclf.evaluation.mirroring import MirroredVal, compare_mirrored
from cnnclf.files import read_json
from cnnclf.inference.answer_rules import read_rules
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.runtime import setup_runtime
from cnnclf.training.epochs import EpochListener, EpochRow, StopRequest
from cnnclf.training.run import fit, judge_best
from cnnclf.training.work import Work, open_work
from tests.training.conftest import TINY, Train
from tests.training.tiny_finetune import tune_tiny


def ask(request: StopRequest, epoch: int) -> EpochListener:
    def listener(row: EpochRow, _best: bool) -> StopRequest | None:
        return request if row.epoch == epoch else None

    return listener


def work_rows(run: RunDirectory, split: str) -> list[int]:
    dataset = load_dataset(Path(read_json(run.path / "plan.json")["dataset"]["path"]))
    return [int(row) for row in dataset.manifest.select(split)]


@pytest.mark.parametrize("cache", ["ram", "disk", "none"])
def test_without_test_no_test_image_is_read(
    shapes: Dataset, tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: set[int] = set()
    decode = decoding.decode_file
    numbers = {shapes.file(row): row for row in range(len(shapes))}

    def note(file: ImportedFile, **options: Any) -> Any:
        rows.add(numbers[file.path])
        return decode(file, **options)

    monkeypatch.setattr(decoding, "decode_file", note)
    monkeypatch.setattr("cnnclf.data.pixel_file._directories", lambda _: (tmp_path, tmp_path))
    config, given = load_config(
        options=TINY | {"training.epochs": 1, "data.cache": cache}, kind=TrainConfig
    )
    plan, run = plan_training(config, shapes, given=given), create_run(tmp_path / "run")
    runtime = setup_runtime(device="cpu", seed=0, deterministic=True)
    with open_work(Work(plan, shapes, run, runtime, Silent(), with_test=False)) as work:
        state = fit(work)
        judge_best(work)
    assert state.epoch == 1
    assert work.verdict is not None
    test = set(shapes.manifest.select("test").tolist())
    assert test
    assert not rows & test
    assert rows == set(range(len(shapes))) - test
    assert not (run.path / "evaluation").exists()
    assert run.read_record()["status"] == "finished"


def test_a_listener_stops_training_and_the_best_epoch_is_tested(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    listeners = [ask(StopRequest.STOP, 1)]
    with monkeypatch.context() as patch:
        patch.setattr("cnnclf.training.run.evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "run", listeners=listeners)
    result = train_tiny(tmp_path / "run", resume=True)
    assert result.state.epoch == 1, "a run stopped by request does not continue on its own"
    assert result.report is not None
    assert result.report.split == "test"
    run = open_run(tmp_path / "run")
    assert run.read_record()["status"] == "finished"
    assert run.read_record()["why_ended"] == "train stopped after epoch 1: a listener asked for it"
    # Images can be compared with training images at once, without cnnclf calibrate.
    bundle = read_json(run.path / "checkpoints/best/classifier.json")
    assert bundle["calibration"]["features"] == 6
    assert bundle["calibration"]["images"] == len(work_rows(run, "val"))
    config = PredictConfig(unknown_by="distance")
    rules = read_rules(bundle, run.path / "checkpoints/best", config=config)
    assert rules.familiarity is not None
    assert len(rules.familiarity.index) == len(work_rows(run, "train"))
    assert "promise" not in bundle
    assert bundle["threshold"] is None


@pytest.mark.parametrize("cache", ["ram", "none"], ids=["damaged before", "gone meanwhile"])
def test_a_run_whose_test_images_are_lost_finishes_and_can_be_evaluated_later(
    shapes: Dataset, train_tiny: Train, tmp_path: Path, cache: str
) -> None:
    files = [shapes.file(row) for row in shapes.manifest.select("test").tolist()]

    def move_away(row: EpochRow, _best: bool) -> None:
        for at, file in enumerate(files if row.epoch == 1 else ()):
            file.rename(tmp_path / str(at))

    place, options = tmp_path / "run", {"training.epochs": 2, "data.cache": cache}
    first = EpochRow(1, "train", 0.0, 0.0, None, None, 0.0, 0.0, 0.0)
    if cache == "ram":
        move_away(first, True)
    try:
        result = train_tiny(place, listeners=[move_away] if cache == "none" else [], **options)
    finally:
        for at, file in enumerate(files):
            (tmp_path / str(at)).rename(file)
    run = open_run(place)
    assert (run.status(), result.report, result.failed) == ("finished", None, len(files))
    assert "evaluation" not in run.read_record()
    log = run.log.read_text("utf-8")
    assert f"the run was not evaluated: none of the {len(files)} images in the test split" in log
    assert f"cnnclf evaluate {place} does so once they can be read" in log
    later = measure_model(place, config=EvaluateConfig(), progress=Silent())
    assert (later.n, later.split) == (len(files), "test")


def test_a_run_whose_val_images_are_lost_in_the_end_finishes_uncalibrated(
    shapes: Dataset, train_tiny: Train, tmp_path: Path
) -> None:
    files = [shapes.file(row) for row in shapes.manifest.select("val").tolist()]

    def move_away(row: EpochRow, _best: bool) -> None:
        for at, file in enumerate(files if row.epoch == 2 else ()):
            file.rename(tmp_path / str(at))

    place, options = tmp_path / "run", {"training.epochs": 2, "data.cache": "none"}
    try:
        result = train_tiny(place, listeners=[move_away], **options)
    finally:
        for at, file in enumerate(files):
            (tmp_path / str(at)).rename(file)
    run = open_run(place)
    assert (run.status(), result.failed) == ("finished", len(files))
    assert result.report is not None
    assert result.report.split == "test"
    log = run.log.read_text("utf-8")
    assert "calibration skipped: none of the val images" in log
    assert "calibration" not in run.read_record()


def test_a_pruned_run_is_not_tested_and_can_be_resumed(train_tiny: Train, tmp_path: Path) -> None:
    pruned = train_tiny(tmp_path / "run", listeners=[ask(StopRequest.PRUNE, 1)])
    run = open_run(tmp_path / "run")
    assert run.status() == "pruned"
    assert pruned.report is None
    assert pruned.state.epoch == 1
    assert not (run.path / "evaluation").exists()
    first_leg_s = run.read_record()["wall_s"]
    result = train_tiny(tmp_path / "run", resume=True)
    assert result.state.epoch == 3
    assert result.report is not None
    record = run.read_record()
    assert (record["status"], record["why_ended"]) == ("finished", None)
    assert record["wall_s"] >= first_leg_s + record["fit_s"] - result.state.history[0].seconds


@pytest.mark.parametrize("request_", list(StopRequest))
def test_fine_tuning_that_is_stopped_in_the_head_has_no_tail(
    colors: Dataset, tmp_path: Path, request_: StopRequest
) -> None:
    short: dict[str, Any] = {"head.epochs": 2, "tail.epochs": 1}
    result = tune_tiny(colors, tmp_path / "run", listeners=[ask(request_, 1)], **short)
    assert [row.phase for row in result.state.history] == ["head"]
    record = open_run(tmp_path / "run").read_record()
    assert record["status"] == ("finished" if request_ is StopRequest.STOP else "pruned")
    assert ("evaluation" in record) == (request_ is StopRequest.STOP)


def test_mirrored_val_images_are_measured_where_flips_were_left_open(
    shapes: Dataset, train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def compare(logits: Any, mirrored: Any, **more: Any) -> MirroredVal:
        seen.extend([logits, mirrored])
        return compare_mirrored(logits, mirrored, **more)

    monkeypatch.setattr("cnnclf.training.run.compare_mirrored", compare)
    result = train_tiny(tmp_path / "open", **{"training.epochs": 2})
    rows = work_rows(result.run, "val")
    classifier = Classifier.load(result.run.path)
    channels = classifier.input_spec.channels
    pixels = np.stack([np.asarray(Image.open(shapes.file(row)).convert("RGB")) for row in rows])
    pixels = pixels[..., :channels]
    for found, images in zip(seen, (pixels, pixels[:, :, ::-1]), strict=True):
        expected = classifier.logits(np.ascontiguousarray(images))
        np.testing.assert_allclose(found, expected, atol=1e-4)
    record = result.run.read_record()["mirrored_val"]
    assert record["images"] == len(rows)
    assert record["mirrored_accuracy"] == float(
        (seen[1].argmax(axis=1) == shapes.manifest.class_indices[rows]).mean()
    )


def test_a_val_image_that_went_bad_after_training_ends_no_run(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ImageError("x.png: gone")

    monkeypatch.setattr("cnnclf.training.run.judge_mirrored", fail)
    result = train_tiny(tmp_path / "run", **{"training.epochs": 1})
    record = result.run.read_record()
    assert record["status"] == "finished"
    assert "mirrored_val" not in record


@pytest.mark.parametrize("options", [{"augment.flip": 0.5}, {"augment.preset": "medium"}])
def test_who_flips_is_not_asked_to(
    train_tiny: Train, tmp_path: Path, options: dict[str, object]
) -> None:
    result = train_tiny(tmp_path / "run", **{"training.epochs": 1} | options)
    assert "mirrored_val" not in result.run.read_record()
