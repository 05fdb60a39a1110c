"""A trial: an ordinary run directory that is trained up to an epoch, and later continued."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.data.manifest import Dataset
from cnnclf.errors import RunError
from cnnclf.files import find_whole_directory
from cnnclf.models.weights.sources import fetch_weights
from cnnclf.planning.choices import choose_averaging
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.plan import parse_plan
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress
from cnnclf.runs import RunDirectory, RunStatus, create_run, still_training
from cnnclf.tracking.tracking import open_tracking
from cnnclf.training.epochs import EpochRow, StopRequest
from cnnclf.training.fitting.state import Score, TrainingState
from cnnclf.training.phases import HEAD
from cnnclf.training.precision import set_up
from cnnclf.training.recording import draw_curves, read_epochs
from cnnclf.training.run import fit
from cnnclf.training.work import open_work
from cnnclf.tuning.halving import FAILED
from cnnclf.tuning.recipes import RECIPES, AnyPlan

_MEASURE_S = 1.0  # of training steps, to predict how long an epoch takes


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial did so far.

    Args:
        history: Its epochs.
        is_over: Whether no epoch is left: all are trained, patience ended it, or it failed.
        problem: Why it failed; empty if it did not.
        wall_s: Seconds that it took, with building and checkpoints.
        val_accuracy: Of the weights that it kept, once it is over.
    """

    history: Sequence[EpochRow] = ()
    is_over: bool = False
    problem: str = ""
    wall_s: float = 0.0
    val_accuracy: float | None = None

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
        ended = self.is_over and not self.problem
        # the last rung counts only once the run is finished, with its best checkpoint
        reached = [
            epochs for epochs in rungs if ended or (self.epochs >= epochs and epochs != rungs[-1])
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
            state.judge(row.score if averaged == 1 else state.score_averaged(averaged))
        return state


def read_outcome(path: Path) -> TrialOutcome:
    """Read what a trial did so far; one that was never started did nothing."""
    run = RunDirectory(path)
    if not run.record.exists():
        return TrialOutcome()
    record = run.read_record()
    problem = str(record.get("problem") or "")
    history = read_epochs(run) if find_whole_directory(run.last) else []
    is_over = bool(problem) or run.status() is RunStatus.FINISHED
    trained_s = sum(row.seconds for row in history)  # a kill adds nothing to the record
    wall_s = max(float(record.get("wall_s") or 0.0), trained_s)
    return TrialOutcome(history, is_over, problem, wall_s, record.get("best_val_accuracy"))


def continue_trial(
    path: Path,
    plan: AnyPlan,
    *,
    dataset: Dataset,
    epochs: int,
    on_epoch: Callable[[EpochRow], StopRequest | None],
    progress: Progress,
    threads: int | None = None,
    track: Sequence[str] = (),
) -> TrialOutcome:
    """Train a trial up to an epoch, from where it is; val only, the test split is never decoded.

    Args:
        path: Its run directory, which may not exist yet.
        plan: What a new one is trained with; an old one has its own.
        dataset: The dataset of the plan.
        epochs: Where to stop, so that it can be continued later; those of a head do not count.
        on_epoch: Receives each epoch; may ask to stop.
        progress: Receives tasks, notes and warnings.
        threads: Of the processor; None for all.
        track: Trackers that show it.

    Returns:
        What it did so far.

    Raises:
        RunError: Another process trains in it.
        DeviceError: No memory or space.
    """
    run = RunDirectory(path)
    is_new = not run.record.exists()
    if is_new:
        create_run(path, command="cnnclf tune")
    elif run.status() is RunStatus.RUNNING:
        raise still_training(run, "wait for it to finish")
    if run.plan.exists():
        read: Callable[[Any], AnyPlan] = type(plan).from_dict
        plan = parse_plan(run.plan, read)
    if isinstance(plan, FinetunePlan):
        fetch_weights(plan.weights, progress=progress)
    total = RECIPES[plan.kind.command].count_epochs(plan)
    counted = read_outcome(path).epochs

    def stop(row: EpochRow, is_best: bool) -> StopRequest | None:  # noqa: ARG001
        nonlocal counted
        asked = on_epoch(row)
        counted += row.phase != HEAD
        return StopRequest.PRUNE if epochs <= counted < total else asked

    runtime = set_up(plan, threads=threads, progress=progress)
    try:
        with (
            open_tracking(track, progress) as tracking,
            open_work(
                plan,
                dataset,
                run=tracking.watch(run),
                runtime=runtime,
                progress=progress,
                resume=not is_new,
                listeners=[stop, tracking.on_epoch],
                with_test=False,
            ) as work,
        ):
            try:
                state = fit(work, with_curves=False)
            except RunError as error:  # such as a loss that became NaN
                run.update_run(problem=error.message)
                raise
            if state.stopped is None:
                draw_curves(run, state)
    except RunError as error:
        if not run.read_record().get("problem"):
            raise
        progress.warn(error.message)
    finally:
        _free_memory()
    return read_outcome(path)


def measure_epoch(plan: TrainPlan) -> float:
    """Measure how many seconds an epoch of a plan takes, on images of zeros.

    Args:
        plan: What to train.

    Returns:
        Seconds, without decoding images and compiling.
    """
    from cnnclf.models.cnn import build_cnn
    from cnnclf.runtime import setup_runtime
    from cnnclf.training.fitting.fit import build_loss
    from cnnclf.training.fitting.optimizers import build_optimizer

    settings, batch = plan.config.runtime, int(plan.config.training.batch_size)
    runtime = setup_runtime(device=settings.device, precision=settings.precision)
    classes = len(plan.labels)
    net = build_cnn(plan.config.model, plan.input_spec.shape, num_classes=classes)
    net.compile(
        build_optimizer(plan.config.optimizer, total_steps=10_000),
        loss=build_loss(plan.config.training),
        metrics=["accuracy"],
        jit_compile=runtime.jit_compile,
    )
    images = np.zeros((batch, *plan.input_spec.shape), np.uint8)
    truth = np.eye(classes, dtype=np.float32)[np.arange(batch) % classes]
    rates = []
    for run in (net.train_on_batch, net.test_on_batch):
        run(images, truth)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < _MEASURE_S or count < 3:
            run(images, truth)
            count += 1
        rates.append(count * batch / (time.perf_counter() - started))
    _free_memory()
    return plan.counts["train"] / rates[0] + plan.counts["val"] / rates[1]


def _free_memory() -> None:
    """Forget the graphs of a trial, so that a hundred trials take no more memory than one."""
    import keras

    keras.backend.clear_session()
    gc.collect()
