"""Training a finished run for more epochs: a new run that begins with a copy of its last state.

The state is exact: weights, optimizer, random generators and the best epoch so far. The learning
rate is that of a run which was planned for all the epochs from the start, at the epoch where this
one continues; with a schedule that falls to the end it therefore rises first, and the plan says so.
"""

import shlex
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cnnclf.data.manifest import Dataset
from cnnclf.errors import RunError, UsageError
from cnnclf.files import read_json, write_json_atomic, write_text_atomic
from cnnclf.full_disks import write_error
from cnnclf.planning.plan import parse_plan
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_names import ENGINE_CACHE, REFERENCE_FILE, STATE_FILE
from cnnclf.runs.run_opening import open_run
from cnnclf.training.fitting.schedule import learning_rate_at
from cnnclf.training.fitting.state import drop_rate
from cnnclf.training.recording import LoggedProgress
from cnnclf.training.run import check_unchanged

CHANGEABLE: Final = ("training.epochs", "training.patience", "training.perfect_loss")
"""The settings that an extension may change; all others are those of the run."""

_NOT_COPIED: Final = shutil.ignore_patterns(ENGINE_CACHE, REFERENCE_FILE, ".*")


@dataclass(frozen=True)
class Extension:
    """A finished run and the plan of its continuation.

    Args:
        origin: The finished run.
        epoch: Its completed epochs.
        plan: The plan of the new run; its first remark says what it extends.
        rate: What becomes of the learning rate, in words.
        had_minutes: Whether it had a time rather than a number of epochs.
    """

    origin: RunDirectory
    epoch: int
    plan: TrainPlan
    rate: str
    had_minutes: bool = False

    def begin(self, run: RunDirectory) -> RunDirectory:
        """Copy the state of the finished run into a new one, which then can be resumed.

        Raises:
            RunError: The state is damaged or cannot be written.
            DeviceError: The disk is full.
        """
        try:
            for name, target in (("best", run.best), ("last", run.last)):
                shutil.copytree(self.origin.find_checkpoint(name), target, ignore=_NOT_COPIED)
                for path in (target, *target.rglob("*")):  # of a run that may only be read
                    path.chmod(path.stat().st_mode | stat.S_IWUSR)
            shutil.copyfile(self.origin.history, run.history)
            if self.had_minutes and self.plan.config.optimizer.schedule != "plateau":
                drop_rate(run.last)
        except OSError as error:
            raise write_error(run.path, error) from error
        state = read_json(run.last / STATE_FILE)
        # Both start again, else a run that they ended would end at once.
        state |= {"epochs_without_better": 0, "perfect_epochs": 0}
        state |= {"plateau_wait": 0, "stopped": None}
        state |= {"is_time_up": False, "endings": [], "spent_s": 0.0}
        write_json_atomic(run.last / STATE_FILE, state)
        write_json_atomic(run.plan, self.plan.to_dict())
        if (settings := self.plan.to_toml()) is not None:
            write_text_atomic(run.settings, settings)
        LoggedProgress(Silent(), run).write(self.plan.remarks[0])
        run.update_run(
            extends=str(self.origin.path.absolute()),
            extends_epoch=self.epoch,
            extends_rate=self.rate,
        )
        return run


def open_extension(path: Path, given: Mapping[str, Any]) -> tuple[Extension, Dataset]:
    """Plan more epochs of a finished run, and load its dataset.

    Raises:
        UsageError, RunError: As in `plan_extension`.
        DataError: The dataset changed, or is gone.
    """
    origin = open_run(path)
    origin.check_command("train")
    plan = parse_plan(origin.plan, TrainPlan.from_dict)
    extension = plan_extension(origin, plan, given=given)
    dataset = plan.load_dataset(beside=origin.path)
    check_unchanged(origin, plan=plan, dataset=dataset)
    return extension, dataset


def plan_extension(origin: RunDirectory, plan: TrainPlan, *, given: Mapping[str, Any]) -> Extension:
    """Plan more epochs of a finished run.

    Args:
        origin: The run.
        plan: Its plan.
        given: The settings that change, by dotted key, checked; one of them is `training.epochs`,
            the number of all epochs.

    Raises:
        UsageError: Other settings are given, no epochs, or not more than the run has.
        RunError: The run is not finished or damaged.
    """
    command = f"cnnclf train --extend {shlex.quote(str(origin.path))} --epochs N"
    others = [key for key in given if key not in CHANGEABLE]
    epochs = given.get("training.epochs")
    if others or not isinstance(epochs, int):
        fault = "needs --epochs N, the number of all epochs"
        if others:
            only = "only --epochs, --patience and --perfect-loss can change"
            fault = f"cannot change {others[0]}: {only}"
        raise UsageError(f"--extend {origin.path} {fault}", command)
    status = origin.status()
    if status is not RunStatus.FINISHED:
        raise RunError(
            f"the run {origin.path} is {status}, not finished: it cannot be extended",
            f"continue with: {origin.resume_command()}",
        )
    done = int(read_json(origin.find_checkpoint("last") / STATE_FILE)["epoch"])
    if epochs <= done:
        raise UsageError(
            f"--epochs {epochs}: the run {origin.path} has {done} epochs already",
            f"it is the number of all epochs: {command.removesuffix('N')}{2 * done}",
        )
    update = {key.partition(".")[2]: value for key, value in given.items()} | {"minutes": None}
    training = plan.config.training.model_copy(update=update)
    config = plan.config.model_copy(update={"training": training})
    rate = _describe_rate(plan, config=config, done=done)
    remark = f"extends {origin.path} from epoch {done + 1}: {rate}"
    earlier = plan.remarks[1:] if "extends" in origin.read_record() else plan.remarks
    return Extension(
        origin,
        done,
        replace(
            plan,
            asked=config,
            config=config,
            given={**plan.given, **dict.fromkeys(given, "option")},
            reasons={key: why for key, why in plan.reasons.items() if key not in given},
            remarks=(remark, *earlier),
            trained=done,
        ),
        rate,
        had_minutes=plan.config.training.minutes is not None,
    )


def _describe_rate(plan: TrainPlan, *, config: Any, done: int) -> str:
    """Say how the learning rate continues after so many epochs."""
    steps = max(1, -(-plan.counts["train"] // int(config.training.batch_size)))
    now = int(config.training.epochs)
    before = done if plan.config.training.minutes else int(plan.config.training.epochs)
    last = learning_rate_at(done * steps - 1, config.optimizer, total=before * steps)
    first = learning_rate_at(done * steps, config.optimizer, total=now * steps)
    schedule = config.optimizer.schedule
    if schedule == "plateau":
        rate = "the learning rate stays as the plateau schedule reduced it"
    elif f"{last:.3g}" == f"{first:.3g}":
        rate = f"the learning rate stays {first:.3g}"
    else:
        rate = (
            f"the {schedule} schedule now spans {now} epochs instead of {before}, so the learning "
            f"rate changes from {last:.3g} to {first:.3g}"
        )
    return f"{rate}; patience counts from here"
