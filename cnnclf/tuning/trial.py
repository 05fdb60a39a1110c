"""A trial: an ordinary run directory that is trained up to an epoch, and later continued."""

import gc
import shlex
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.data.manifest import load_dataset
from cnnclf.errors import RunError, is_out_of_memory, one_line
from cnnclf.files import find_whole_directory
from cnnclf.full_disks import is_disk_full
from cnnclf.models.weights.sources import fetch_weights
from cnnclf.planning.choices import choose_averaging
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.plan import parse_plan
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory, RunStatus, still_training
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.tracking.tracking import open_tracking
from cnnclf.training.epochs import EpochRow, StopRequest
from cnnclf.training.fitting.state import Score, TrainingState
from cnnclf.training.phases import HEAD
from cnnclf.training.precision import set_up
from cnnclf.training.recording import draw_curves, read_epochs
from cnnclf.training.run import fit
from cnnclf.training.work import Work, open_work
from cnnclf.tuning.halving import FAILED
from cnnclf.tuning.recipes import AnyPlan

_MAX_KILLS = 3  # of a trial, after the same epoch
_KEPT = 8  # compiled networks of trials that may be continued


class KeptNetworks(OrderedDict[Path, dict[str, Any]]):
    """Networks that were compiled, by run directory: the last few, as a trial may be continued."""

    def take(self, path: Path) -> dict[str, Any]:
        """Return those of a run, as the newest, by phase."""
        self[path] = self.pop(path, {})
        if len(self) > _KEPT:
            self.popitem(last=False)
        return self[path]


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial did so far.

    Args:
        history: Its epochs.
        is_over: Whether no epoch is left: all are trained, patience ended it, or it failed.
        problem: Why it failed; empty if it did not.
        wall_s: Seconds that it took, with building and checkpoints.
        val_accuracy: Of the weights that it kept, once it is over.
        evaluation_s: Seconds that its evaluation on val took; 0 before.
    """

    history: Sequence[EpochRow] = ()
    is_over: bool = False
    problem: str = ""
    wall_s: float = 0.0
    val_accuracy: float | None = None
    evaluation_s: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether it is over and did not fail."""
        return self.is_over and not self.problem

    @property
    def epochs(self) -> int:
        """Epochs that count: all but those of a head on a frozen backbone, which take no time."""
        return sum(row.phase != HEAD for row in self.history)

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch; the first one, which compiles, counts only if it is alone."""
        seconds = [row.seconds for row in self.history if row.phase != HEAD]
        return float(np.median(seconds[1:] or seconds)) if seconds else 0.0

    @property
    def overhead_s(self) -> float:
        """Seconds besides the epochs that count: building, compiling, and fitting a head."""
        counted = sum(row.seconds for row in self.history if row.phase != HEAD)
        return max(0.0, self.wall_s - counted)

    def first(self, epochs: int) -> Sequence[EpochRow]:
        """Return the rows of so many epochs that count."""
        heads = len(self.history) - self.epochs
        return self.history[: heads + epochs]

    def scores(self, rungs: Sequence[int], *, val_count: int) -> list[Score]:
        """Return the best score at each rung that was reached."""
        # the last rung counts only once the run is finished, with its best checkpoint
        reached = [
            epochs
            for epochs in rungs
            if self.is_whole or (self.epochs >= epochs and epochs != rungs[-1])
        ]
        states = [self.summarize(epochs, val_count=val_count) for epochs in reached]
        return [state.best_score for state in states] + [FAILED] * bool(self.problem)

    def accuracy(self, epochs: int, *, val_count: int) -> float | None:
        """Return the best val accuracy in the first epochs; in all, that of the kept weights."""
        if self.is_over and epochs >= self.epochs and self.val_accuracy is not None:
            return self.val_accuracy
        best = self.summarize(epochs, val_count=val_count).best_row
        return None if best is None else best.val_accuracy

    def summarize(self, epochs: int, *, val_count: int) -> TrainingState:
        """Return the state after the first epochs, with the best of them."""
        state, averaged = TrainingState(), choose_averaging(val_count)
        for row in self.first(epochs):
            state.history.append(row)
            state.epoch += 1
            state.judge(state.score_last(averaged))
        return state


def read_outcome(path: Path) -> TrialOutcome:
    """Read what a trial did so far; one that was never started did nothing.

    Raises:
        RunError: It is damaged.
    """
    run = RunDirectory(path)
    if not (run.record.exists() or run.plan.exists()):
        return TrialOutcome()
    try:
        record = open_run(path).read_record()
        is_finished = run.status() is RunStatus.FINISHED
        history = read_epochs(run) if is_finished or find_whole_directory(run.last) else []
    except RunError as error:
        again = f"to train this trial again, first: rm -r {shlex.quote(str(path))}"
        raise RunError(error.message, again) from error
    problem = str(record.get("problem") or "")
    is_over = bool(problem) or is_finished
    trained_s = sum(row.seconds for row in history)  # a kill adds nothing to the record
    wall_s = max(float(record.get("wall_s") or 0.0), trained_s)
    return TrialOutcome(
        history,
        is_over,
        problem,
        wall_s,
        record.get("best_val_accuracy"),
        float(record.get("evaluation_s") or 0.0),
    )


@dataclass(frozen=True)
class TrialJob:
    """A trial, and the epoch that it is to reach.

    Args:
        path: Its run directory, which may not exist yet.
        plan: What a new one is trained with; an old one has its own.
        dataset: Directory of the dataset.
        epochs: The epoch, so that it can be continued later; those of a head do not count.
        total: Epochs of the whole training.
        limit_s: The trial ends after its second epoch if it would take longer; None: never.
        stop_s: It is cut after an epoch if it took longer, and does not count; None: never.
        track: Trackers that show it.
        threads: Of the processor; None for all.
    """

    path: Path
    plan: AnyPlan
    dataset: Path
    epochs: int
    total: int
    limit_s: float | None = None
    stop_s: float | None = None
    track: tuple[str, ...] = ()
    threads: int | None = None


def continue_trial(
    job: TrialJob,
    *,
    on_epoch: Callable[[EpochRow], StopRequest | None],
    progress: Progress,
    kept: KeptNetworks | None = None,
) -> TrialOutcome:
    """Train a trial from where it is; val only, the test split is never decoded.

    Args:
        job: What to do.
        on_epoch: Receives each epoch; may ask to stop.
        progress: Receives tasks, notes and warnings.
        kept: Networks that this process compiled, by run directory; this one is added.

    Raises:
        RunError: Another process trains in it.
        DeviceError: No space, or no memory for the images.
    """
    run = RunDirectory(job.path)
    is_new = not run.record.exists()
    plan = _open_plan(job, run, progress=progress)
    counted = read_outcome(job.path).epochs
    if not is_new and (problem := _count_kill(run, epochs=counted)):
        progress.warn(problem)
        return read_outcome(job.path)

    def stop(row: EpochRow, is_best: bool) -> StopRequest | None:  # noqa: ARG001
        nonlocal counted
        asked = on_epoch(row)
        counted += row.phase != HEAD
        return StopRequest.PRUNE if job.epochs <= counted < job.total else asked

    runtime = set_up(plan, threads=job.threads, progress=progress)
    # backbones are too large to keep several
    compiled = {} if kept is None or isinstance(plan, FinetunePlan) else kept.take(job.path)
    try:
        with (
            open_tracking(job.track, progress) as tracking,
            open_work(
                Work(
                    plan,
                    load_dataset(job.dataset),
                    tracking.watch(run),
                    runtime,
                    progress,
                    resume=not is_new,
                    listeners=[stop, tracking.on_epoch],
                    with_test=False,
                    compiled=compiled,
                )
            ) as work,
        ):
            try:
                state = fit(work, with_curves=False)
            except RunError as error:  # such as a loss that became NaN
                run.update_run(problem=error.message)
                raise
            if state.stopped is None and job.track:  # the page of a run draws its own
                draw_curves(run, state)
    except RunError as error:
        if not run.read_record().get("problem"):
            raise
        progress.warn(error.message)
    except Exception as error:
        if is_disk_full(error) or not is_out_of_memory(error):
            raise
        problem = f"not enough memory: {one_line(error)}"
        run.update_run(problem=problem)
        progress.warn(problem)
        if kept is not None:
            kept.clear()  # those of other trials take memory, too
    finally:
        _free_memory()
    return read_outcome(job.path)


def _open_plan(job: TrialJob, run: RunDirectory, *, progress: Progress) -> AnyPlan:
    """Create the run of a trial, or check that it can be continued; return what it trains."""
    plan = job.plan
    if not run.record.exists():
        create_run(job.path, command="cnnclf tune")
    elif run.status() is RunStatus.RUNNING:
        raise still_training(run, "wait for it to finish")
    if run.plan.exists():
        read: Callable[[Any], AnyPlan] = type(plan).from_dict
        plan = parse_plan(run.plan, read)
    if isinstance(plan, FinetunePlan):
        fetch_weights(plan.weights, progress=progress)
    return plan


def _count_kill(run: RunDirectory, *, epochs: int) -> str:
    """Note that the process of a trial was killed; return why it failed if that came again.

    The kernel kills a process for memory without an error. A trial that gets further between two
    kills is whole in the end, so only those after the same epoch count.
    """
    record = run.read_record()
    if record["status"] != RunStatus.RUNNING:  # it ended itself
        return ""
    before = record.get("kills") or {}
    count = 1 + (before["count"] if before.get("epochs") == epochs else 0)
    run.update_run(kills={"epochs": epochs, "count": count})
    if count < _MAX_KILLS:
        return ""
    problem = f"its process was killed {count} times after epoch {epochs}, perhaps for memory"
    run.update_run(problem=problem)
    return problem


def _free_memory() -> None:
    """Forget the graphs of a trial, so that a hundred trials take no more memory than one."""
    import keras

    keras.backend.clear_session()
    gc.collect()
