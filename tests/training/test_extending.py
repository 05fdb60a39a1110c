"""More epochs of a finished run: exactly those of a run that was planned for all of them."""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.errors import RunError, UsageError
from cnnclf.planning.pace import expect_epoch_s
from cnnclf.planning.plan import parse_plan
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress, Silent, Task
from cnnclf.runs.run_directory import RunStatus
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.runtime import setup_runtime
from cnnclf.training.extending import Extension, open_extension, plan_extension
from cnnclf.training.run import TrainResult, conduct_run
from cnnclf.training.work import Work, open_work
from tests.training.conftest import Train

CONSTANT = {"optimizer.schedule": "constant", "training.patience": 2}
MEASURED = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


def figures(result: TrainResult) -> list[list[Any]]:
    return [[getattr(row, name) for name in MEASURED] for row in result.state.history]


def plan(path: Path, **given: Any) -> Extension:
    run = open_run(path)
    values = {f"training.{name}": value for name, value in given.items()}
    return plan_extension(run, parse_plan(run.plan, TrainPlan.from_dict), given=values)


class Counting(Silent):
    """Counts the images that training reports."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.done = 0, 0
        self.names: list[str] = []

    @contextmanager
    def task(self, name: str, total: int | None, **options: Any) -> Iterator[Task]:
        self.names.append(name)
        with super().task(name, total, **options) as task:
            yield self if name == "training" else task
        self.total = total or 0 if name == "training" else self.total

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def describe(self, text: str) -> None:
        pass

    def expect(self, total: int) -> None:
        pass


def extend(
    extension: Extension, path: Path, dataset: Dataset, *, progress: Progress | None = None
) -> TrainResult:
    run = extension.begin(create_run(path))
    runtime = setup_runtime(device="cpu", precision="float32", seed=0, deterministic=False)
    work = Work(extension.plan, dataset, run, runtime, progress or Silent(), resume=True)
    with open_work(work):
        return conduct_run(work)


def test_more_epochs_are_those_of_an_uninterrupted_run(
    train_tiny: Train, shapes: Dataset, tmp_path: Path
) -> None:
    options = CONSTANT | {"training.patience": 9}
    whole = train_tiny(tmp_path / "whole", **options | {"training.epochs": 4})
    train_tiny(tmp_path / "short", **options | {"training.epochs": 2})
    before = (tmp_path / "short" / "plan.json").read_bytes()
    extension = plan(tmp_path / "short", epochs=4)
    assert extension.epoch == 2
    counted = Counting()
    more = extend(extension, tmp_path / "more", shapes, progress=counted)
    assert figures(more) == figures(whole)
    assert "measuring val images for the index" in counted.names  # nothing is calibrated here
    assert "calibrating" not in counted.names
    assert counted.done == counted.total == 2 * extension.plan.counts["train"]
    assert more.state.best_epoch == whole.state.best_epoch
    run = open_run(tmp_path / "more")
    assert run.status() is RunStatus.FINISHED
    record = run.read_record()
    assert record["extends"] == str(tmp_path / "short")
    assert record["extends_epoch"] == 2
    assert record["extends_rate"].startswith("the learning rate stays")
    assert len(run.history.read_text().splitlines()) == 5
    remark = json.loads(run.plan.read_text())["remarks"][0]
    assert remark.startswith(f"extends {tmp_path / 'short'} from epoch 3: the learning rate stays")
    assert remark in run.log.read_text().splitlines()[0]
    # the plan expects the time of the two epochs that are left
    assert (whole_s := replace(extension.plan, trained=0).expect().seconds) > 0
    assert whole_s - extension.plan.expect().seconds == pytest.approx(
        2 * expect_epoch_s(extension.plan.pace.rate("auto"), counts=extension.plan.counts)
    )
    again = plan(tmp_path / "more", epochs=5).plan.remarks
    assert [each for each in again if each.startswith("extends")] == [again[0]]
    assert "epochs = 4" in run.settings.read_text()
    assert (tmp_path / "short" / "plan.json").read_bytes() == before


def test_the_plan_says_what_becomes_of_the_learning_rate(train_tiny: Train, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", **{"optimizer.schedule": "cosine", "training.epochs": 2})
    [remark, *_] = plan(tmp_path / "run", epochs=4).plan.remarks
    assert "the cosine schedule now spans 4 epochs instead of 2" in remark
    first, last = remark.partition("changes from ")[2].partition(";")[0].split(" to ")
    assert float(last) > float(first) > 0


def test_a_run_that_patience_ended_can_be_extended(
    train_tiny: Train, shapes: Dataset, tmp_path: Path
) -> None:
    train_tiny(tmp_path / "run", **CONSTANT | {"training.epochs": 2})
    path = open_run(tmp_path / "run").find_checkpoint("last") / "state.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"epochs_without_better": 2, "endings": ["by patience"]}))
    more = extend(plan(tmp_path / "run", epochs=3), tmp_path / "more", shapes)
    assert more.state.epoch == 3
    assert more.run.read_record()["why_ended"] is None


def test_a_run_that_may_only_be_read_can_be_extended(train_tiny: Train, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", **CONSTANT | {"training.epochs": 2})
    for path in (tmp_path / "run" / "checkpoints").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    begun = plan(tmp_path / "run", epochs=3).begin(create_run(tmp_path / "more"))
    assert all(path.stat().st_mode & stat.S_IWUSR for path in begun.checkpoints.rglob("*"))


def test_what_cannot_be_extended_is_refused(train_tiny: Train, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", **CONSTANT | {"training.epochs": 2})
    for given, words in (
        ({"patience": 3}, "needs --epochs N, the number of all epochs$"),
        ({"epochs": "auto"}, "needs --epochs"),
        ({"epochs": 3, "batch_size": 3}, "cannot change training.batch_size: only .* can change$"),
        ({"epochs": 2}, "has 2 epochs already"),
    ):
        with pytest.raises(UsageError, match=words):
            plan(tmp_path / "run", **given)
    open_run(tmp_path / "run").update_run(status="interrupted")
    with pytest.raises(RunError, match="interrupted, not finished"):
        plan(tmp_path / "run", epochs=3)


def test_a_run_of_finetune_is_not_extended(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    run.update_run(status="finished")
    run.plan.write_text(json.dumps({"command": "finetune"}))
    with pytest.raises(RunError, match="not of cnnclf train") as caught:
        open_extension(run.path, {"training.epochs": 3})
    assert "cnnclf finetune DATASET --config" in caught.value.hint
