"""Whole runs: what they leave, that they repeat, resume exactly, and end well however they end."""

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import TrainingConfig
from cnnclf.data.manifest import Dataset
from cnnclf.errors import DataError, RunError
from cnnclf.files import read_json
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_comparison import read_reference
from cnnclf.planning.train_plan import TrainPlan, _remark
from cnnclf.runs.run_opening import open_run
from cnnclf.training.epochs import EpochListener, EpochRow
from cnnclf.training.feeding.sampling import balance_weights
from cnnclf.training.fitting import callbacks, checkpoints
from cnnclf.training.fitting.fit import Phase, _bound_loss, fit_phase
from cnnclf.training.fitting.judging import measure
from cnnclf.training.run import TrainResult, check_resumable
from tests.training import test_extending
from tests.training.conftest import TINY

pytestmark = pytest.mark.usefixtures("saves_every_epoch")

Train = Callable[..., TrainResult]
MEASURED = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


def figures(result: TrainResult) -> list[dict[str, Any]]:
    return [{name: getattr(row, name) for name in MEASURED} for row in result.state.history]


def weights(path: Path) -> list[Any]:
    return list(Classifier.load(path).model.get_weights())


def stop_after(epoch: int) -> EpochListener:
    def press_ctrl_c(row: EpochRow, _best: bool) -> None:
        if row.epoch == epoch:
            raise KeyboardInterrupt

    return press_ctrl_c


def test_a_run_leaves_what_the_page_promises(train_tiny: Train, tmp_path: Path) -> None:
    result = train_tiny(tmp_path / "run")
    files = {
        re.sub("-[0-9a-f]{12}", "", path.relative_to(tmp_path / "run").as_posix())
        for path in (tmp_path / "run").rglob("*")
        if path.is_file()
    }
    assert files == {
        "plan.json",
        "settings.toml",
        "run.json",
        "history.csv",
        "log.txt",
        "curves.png",
        "checkpoints/best/model.keras",
        "checkpoints/best/classifier.json",
        "checkpoints/best/reference.npz",
        "checkpoints/best/calibration.npz",
        "checkpoints/last/model.keras",
        "checkpoints/last/classifier.json",
        "checkpoints/last/optimizer.npz",
        "checkpoints/last/state.json",
        "evaluation/test/metrics.json",
        "evaluation/test/predictions.csv",
        "evaluation/test/confusion.csv",
        "evaluation/test/confusion.png",
        "evaluation/test/worst.png",
    }
    record = open_run(tmp_path / "run").read_record()
    assert record["status"] == "finished"
    assert record["seed"] == 0
    assert record["evaluation"]["split"] == "test"
    assert 0 <= record["data_wait_share"] <= 1
    assert record["best_epoch"] == result.state.best_epoch
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert "epoch 3, loss" in (tmp_path / "run" / "log.txt").read_text()


def test_images_to_compare_engines_on_are_kept(train_tiny: Train, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", **{"training.epochs": 1})
    found = read_reference(tmp_path / "run" / "checkpoints" / "best")
    assert found is not None
    pixels, logits = found
    assert 1 <= len(pixels) <= 8
    assert len({image.tobytes() for image in pixels}) == len(pixels)
    again = Classifier.load(tmp_path / "run").logits(pixels)
    assert logits is not None
    np.testing.assert_allclose(logits, again, rtol=1e-3, atol=1e-4)


def test_best_is_the_best_epoch_and_last_the_last(train_tiny: Train, tmp_path: Path) -> None:
    result = train_tiny(tmp_path / "run", **{"training.epochs": 4})
    best = Classifier.load(tmp_path / "run").bundle["extra"]["epoch"]
    last = Classifier.load(tmp_path / "run" / "checkpoints" / "last").bundle["extra"]["epoch"]
    found = [0.0, 0.0, *(row.val_accuracy or 0.0 for row in result.state.history)]
    averaged = [round(sum(found[at : at + 3]) / 3, 9) for at in range(4)]
    newest = 4 - averaged[::-1].index(max(averaged))
    assert best == result.state.best_epoch == newest
    record = open_run(tmp_path / "run").read_record()
    assert record["best_val_accuracy"] == result.state.history[best - 1].val_accuracy
    assert last == 4


def test_the_same_seed_gives_the_same_history(train_tiny: Train, tmp_path: Path) -> None:
    options = {"augment.preset": "medium", "model.dropout": 0.3}
    first = train_tiny(tmp_path / "a", **options)
    second = train_tiny(tmp_path / "b", **options)
    other = train_tiny(tmp_path / "c", **options, **{"runtime.seed": 1})
    assert figures(first) == figures(second)
    assert figures(first) != figures(other)


@pytest.mark.parametrize(
    "options",
    [
        {"model.dropout": 0.5, "augment.preset": "medium"},
        {"optimizer.ema": 0.9, "optimizer.schedule": "plateau", "training.patience": 3},
        {"optimizer.name": "sgd", "optimizer.schedule": "one_cycle", "augment.preset": "strong"},
        {"runtime.precision": "float16", "optimizer.ema": 0.9},
        {"runtime.precision": "bfloat16", "model.dropout": 0.5},
        {"model.preset": "fast", "augment.flip": 0.5, "model.filters": [6, 8, 8]},
    ],
    ids=[
        "adamw-dropout",
        "ema-plateau",
        "sgd-one-cycle-mix",
        "float16-ema",
        "bfloat16-dropout",
        "fast",
    ],
)
def test_resuming_equals_never_having_stopped(
    train_tiny: Train, tmp_path: Path, options: dict[str, object]
) -> None:
    options = options | {"training.epochs": 4}
    whole = train_tiny(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "parts", listeners=[stop_after(2)], **options)
    assert open_run(tmp_path / "parts").read_record()["status"] == "interrupted"
    resumed = train_tiny(tmp_path / "parts", resume=True, **options)
    assert figures(resumed) == figures(whole)
    assert resumed.state.best_epoch == whole.state.best_epoch
    for name in ("best", "last"):
        ours = weights(tmp_path / "parts" / "checkpoints" / name)
        theirs = weights(tmp_path / "whole" / "checkpoints" / name)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)
    with (tmp_path / "parts" / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_a_run_stopped_before_its_first_epoch_ended_begins_with_it(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    whole = train_tiny(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_state", stop)  # the best is there by then, the last is not
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "parts")
    assert figures(train_tiny(tmp_path / "parts", resume=True)) == figures(whole)


def test_a_run_stopped_while_it_was_tested_trains_no_further(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    options = {"training.epochs": 30, "training.patience": 1, "optimizer.learning_rate": 1e-9}
    with monkeypatch.context() as patch:
        patch.setattr("cnnclf.training.run.evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "run", **options)
    before = (tmp_path / "run" / "history.csv").read_bytes()
    resumed = train_tiny(tmp_path / "run", resume=True, **options)
    assert resumed.state.epoch < 30
    assert resumed.state.epochs_without_better == 1
    assert (tmp_path / "run" / "history.csv").read_bytes() == before
    assert open_run(tmp_path / "run").read_record()["status"] == "finished"


def test_with_an_average_best_and_last_differ(train_tiny: Train, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", **{"training.epochs": 1, "optimizer.ema": 0.9})
    best, last = (weights(tmp_path / "run" / "checkpoints" / name) for name in ("best", "last"))
    assert any(not np.array_equal(a, b) for a, b in zip(best, last, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer.name": "adam", "optimizer.clip_norm": 1.0},
        {"optimizer.name": "rmsprop", "training.label_smoothing": 0.1},
        {"training.balance": "weights"},
        {"training.balance": "sample"},
        {"training.balance": "focal"},
        {"data.cache": "none", "data.color": "gray"},
        {"data.cache": "ram", "data.image_size": "12x20", "data.fit": "pad"},
        {"model.preset": "textbook", "model.filters": [4], "model.dense_units": [8]},
        {"runtime.precision": "bfloat16"},
        {"model.preset": "fast", "model.filters": [6, 8, 8]},
    ],
    ids=str,
)
def test_settings_train_and_learn(
    train_tiny: Train, tmp_path: Path, options: dict[str, object]
) -> None:
    result = train_tiny(tmp_path / "run", **{"training.epochs": 2, **options})
    losses = [row.loss for row in result.state.history]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[1] < losses[0]


def test_the_preset_fast_never_trains_its_first_layer(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: list[Any] = []

    def fit_seen(net: Any, phase: Phase, **more: Any) -> Any:
        start.extend(whitening_of(net))
        return fit_phase(net, phase, **more)

    monkeypatch.setattr("cnnclf.training.scratch.fit_phase", fit_seen)
    options = {"model.preset": "fast", "model.filters": [6, 8, 8], "training.epochs": 2}
    train_tiny(tmp_path / "run", **options)
    net = Classifier.load(tmp_path / "run").model
    assert np.abs(start[0]).max() > 0.1
    for trained, initial in zip(whitening_of(net), start, strict=True):
        np.testing.assert_array_equal(trained, initial)
    # bfloat16 and float32 programs alike open it without classes of ours
    assert {layer.__class__.__module__.partition(".")[0] for layer in net.layers} == {"keras"}


def test_a_run_with_minutes_ends_by_its_time_resumes_and_is_extended(
    train_tiny: Train, shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnclf.planning.train_plan.START_S", 0.1)
    monkeypatch.setattr("cnnclf.planning.pace._FINISH_S", 0.1)
    monkeypatch.setattr("cnnclf.training.fitting.pacing._FINISH_S", 0.1)
    now = 0.0

    def count(*_arguments: object) -> float:
        nonlocal now
        now += 0.05  # each look at the clock
        return now

    monkeypatch.setattr("cnnclf.training.work.Work.seconds", count)
    options = {"training.minutes": 0.1, "optimizer.schedule": "linear", "model.filters": [4]}
    del TINY["training.epochs"]
    try:
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path / "run", listeners=[stop_after(2)], **options)
        spent = read_json(tmp_path / "run" / "checkpoints" / "last" / "state.json")["spent_s"]
        assert 0 < spent < 6
        now = 0.0
        result = train_tiny(tmp_path / "run", resume=True, **options)
    finally:
        TINY["training.epochs"] = 3
    assert result.state.is_time_up
    assert "its time was used" in result.run.read_record()["why_ended"]
    assert result.state.epoch > 2
    assert result.state.spent_s == pytest.approx(6, rel=0.1)
    rates = [row.learning_rate for row in result.state.history]
    assert rates[-1] < 0.25 * max(rates)
    plan = read_json(tmp_path / "run" / "plan.json")
    assert plan["config"]["training"]["patience"] == 0
    done = result.state.epoch
    extension = test_extending.plan(tmp_path / "run", epochs=done + 2)
    assert f"now spans {done + 2} epochs instead of {done}," in extension.plan.remarks[0]
    more = test_extending.extend(extension, tmp_path / "more", shapes)
    assert [row.epoch for row in more.state.history] == [*range(1, done + 3)]


def whitening_of(net: Any) -> list[Any]:
    return list(net.get_layer("whiten").get_weights())


def test_patience_ends_a_run_early(train_tiny: Train, tmp_path: Path) -> None:
    options = {"training.epochs": 30, "training.patience": 1, "optimizer.learning_rate": 1e-9}
    result = train_tiny(tmp_path / "run", **options)
    assert result.state.epoch < 30
    assert result.state.epochs_without_better == 1


def test_a_run_that_can_only_stay_perfect_ends_and_says_why(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = callbacks.Conductor._measure

    def measure_perfect(self: callbacks.Conductor, epoch: int, logs: Any) -> EpochRow:
        # perfect from epoch 2 on, beside the penalty that Keras adds to the loss
        penalty = sum(float(loss) for loss in self.trainer.losses)
        assert penalty > 0.05
        val = {"val_accuracy": float(epoch > 0), "val_loss": 0.01 + penalty}
        return measure(self, epoch, logs | val)

    monkeypatch.setattr(callbacks.Conductor, "_measure", measure_perfect)
    options = {"training.epochs": 8, "training.patience": 8, "model.l2": 0.01}
    whole = train_tiny(tmp_path / "whole", **options)
    assert whole.state.epoch == 6
    assert "train stopped after epoch 6: nothing to improve" in open_run(
        tmp_path / "whole"
    ).log.read_text(encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "parts", listeners=[stop_after(5)], **options)
    assert figures(train_tiny(tmp_path / "parts", resume=True, **options)) == figures(whole)
    for number, other in enumerate(({"training.perfect_loss": 0}, {"training.patience": 0})):
        assert train_tiny(tmp_path / str(number), **options | other).state.epoch == 8


def test_smoothed_labels_raise_the_loss_that_counts_as_perfect() -> None:
    logits = np.log(np.array([0.9 + 0.1 / 4, *[0.1 / 4] * 3]))[None]  # the best there is
    settings = TrainingConfig(label_smoothing=0.1, perfect_loss=0.05)
    best = -measure(logits, np.zeros(1, int), label_smoothing=0.1)[1]
    assert _bound_loss(settings, classes=4) == pytest.approx(best + 0.05)
    without = settings.model_copy(update={"label_smoothing": 0.0})
    assert _bound_loss(without, classes=4) == 0.05
    never = settings.model_copy(update={"perfect_loss": 0.0})
    assert _bound_loss(never, classes=4) == 0


def test_few_val_images_are_said_to_be_few(train_tiny: Train, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", **{"training.epochs": 1})
    run = open_run(tmp_path / "run")
    (remark,) = read_json(run.plan)["remarks"]
    assert remark.startswith("only 7 val images: best epoch by val accuracy, mean of 3 epochs")
    assert _remark(100) == ()  # enough for their accuracy
    assert "calibration skipped: 7 val images are fewer than 50" in run.log.read_text("utf-8")


def test_a_loss_that_is_no_number_ends_with_one_line(train_tiny: Train, tmp_path: Path) -> None:
    options = {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 10.0,
        "optimizer.warmup": 0.0,
        "model.l2": 10.0,  # at this rate each step multiplies the weights by about -200
        "training.epochs": 20,
        "training.patience": 0,
    }
    with pytest.raises(RunError, match="loss became") as caught:
        train_tiny(tmp_path / "run", **options)
    assert "--learning-rate" in caught.value.hint
    assert open_run(tmp_path / "run").read_record()["status"] == "failed"


def test_only_stopped_runs_of_the_same_data_are_resumed(
    train_tiny: Train, shapes: Dataset, tmp_path: Path
) -> None:
    train_tiny(tmp_path / "done", **{"training.epochs": 1})
    done = open_run(tmp_path / "done")
    plan = TrainPlan.from_dict(read_json(done.plan))
    done.update_run(status="interrupted")
    check_resumable(done, plan=plan, dataset=shapes)
    content = json.loads(done.plan.read_text())
    content["dataset"]["fingerprint"] = "other"
    with pytest.raises(DataError, match="has changed since"):
        check_resumable(done, plan=TrainPlan.from_dict(content), dataset=shapes)


def test_balance_weights_favor_the_rare_and_average_to_one() -> None:
    indices = np.array([0] * 90 + [1] * 10)
    given = balance_weights(indices, 3)
    assert given[1] > given[0] > 0
    assert given[2] == 0, "a class without images has no weight"
    assert given[indices].mean() == pytest.approx(1.0)
