"""What a run works with: its plan, images, directory and listeners, opened once for all steps."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.table import Augmenter
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError, ImageError
from cnnclf.files import find_whole_directory, read_json, write_json_atomic, write_text_atomic
from cnnclf.names import count_of
from cnnclf.planning.plan import Plan, count_threads
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_names import STATE_FILE
from cnnclf.training.epochs import EpochListener, EpochRow, StopRequest, notify
from cnnclf.training.feeding.ahead import PixelsAhead, open_ahead
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.feeding.sampling import balance_weights
from cnnclf.training.fitting.checkpoints import BundleContent
from cnnclf.training.fitting.judging import Verdict, choose_judged, judge_checkpoint
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.recording import HistoryFile, LoggedProgress, read_epochs, recorded
from cnnclf.training.time_use import TimeUse

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

Rows = npt.NDArray[np.intp]
AnyPlan = TypeVar("AnyPlan", bound=Plan[Any])

_READ_AT_ONCE = 32  # images


@dataclass
class Work(Generic[AnyPlan]):
    """What the steps of a run work with, within `open_work`.

    Args:
        plan: What to do.
        dataset: The dataset the plan was made for.
        run: A run directory that was created or opened.
        runtime: Device, precision and seed, already set.
        progress: Receives tasks, notes and warnings.
        resume: Continue from the last checkpoint, if there is one.
        listeners: Receive each epoch, in this order.
        ahead: Waits for the images, if they are being decoded already (`decode_ahead`).
        with_test: Whether the test split will be used; if not, its images are never decoded.
        started: When the run began in this process, as of `time.perf_counter`.
        before_s: Seconds that earlier processes took.
        compiled: Networks that this process compiled for the same run before, and compiles now;
            what decides results is loaded from the checkpoint all the same.
        verdict: Logits of the best checkpoint on val, once they were computed.
        state: Epochs, best epoch and times, once the run is fitted.
    """

    plan: AnyPlan
    dataset: Dataset
    run: RunDirectory
    runtime: "RuntimeInfo"
    progress: Progress
    resume: bool = False
    listeners: Sequence[EpochListener] = ()
    ahead: PixelsAhead | None = None
    with_test: bool = True
    started: float = field(default_factory=time.perf_counter)
    before_s: float = 0.0
    compiled: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = field(default=None, init=False)
    state: TrainingState | None = field(default=None, init=False)

    def seconds(self) -> float:
        """Return the seconds since the run began in this process."""
        return time.perf_counter() - self.started

    def spent(self) -> float:
        """Return the seconds of the run, those of earlier processes, too."""
        return self.before_s + self.seconds()

    def on_epoch(self, row: EpochRow, is_best: bool) -> StopRequest | None:
        """Pass an epoch on to all listeners; return what they ask for."""
        return notify(self.listeners, row, is_best=is_best)

    @cached_property
    def pixels(self) -> Pixels:
        """The decoded images; decoded at the first use, if not before."""
        if self.ahead is not None:
            return self.ahead(self.progress)
        train, val = (self.dataset.manifest.select(split) for split in ("train", "val"))
        return open_pixels(
            self.dataset,
            self.plan.input_spec,
            cache=self.plan.config.data.cache,
            progress=self.progress,
            threads=self.threads,
            # None: all, in one cache that every run of the dataset shares
            rows=None if self.with_test else np.union1d(train, val),
        )

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """The rows of train and val that can be decoded; a warning counts those that cannot.

        Raises:
            DataError: No training image can be decoded.
        """
        return _find_readable(self.dataset, self.pixels, self.progress)

    @property
    def judged(self) -> Rows:
        """Positions, in the val split, of the images that whole networks are judged by."""
        rows = self.rows["val"]
        failed = np.fromiter(self.pixels.failed, np.intp, len(self.pixels.failed))
        readable = np.flatnonzero(~np.isin(rows, failed))
        return readable[choose_judged(readable, seed=self.plan.config.runtime.seed)]

    def judge(self, checkpoint: Path) -> Verdict:
        """Compute the logits of a checkpoint for these images; unreadable ones are skipped.

        Raises:
            DataError: None of them can be decoded.
        """
        while True:
            rows = self.rows["val"][self.judged]
            if not len(rows):
                raise DataError(
                    f"none of the val images in {self.dataset.place} can be decoded",
                    "bring the images back to where they were imported from, or import again",
                )
            known = len(self.pixels.failed)
            try:
                return judge_checkpoint(
                    checkpoint,
                    self.dataset,
                    rows=rows,
                    pixels=self.pixels,
                    label_smoothing=self.plan.config.training.label_smoothing,
                    progress=self.progress,
                )
            except ImageError:
                # It may not have been read in this run: its features were found on disk.
                for start in range(0, len(rows), _READ_AT_ONCE):
                    with suppress(ImageError):
                        self.pixels.gather(rows[start : start + _READ_AT_ONCE])
                if len(self.pixels.failed) == known:
                    raise

    @property
    def threads(self) -> int:
        """Threads that decode and gather."""
        return count_threads(self.plan.config.runtime.threads)

    @property
    def batch_settings(self) -> dict[str, Any]:
        """What all `Batches` of the run have in common."""
        return {
            "num_classes": len(self.plan.labels),
            "batch_size": int(self.plan.config.training.batch_size),
            "seed": self.plan.config.runtime.seed,
            "threads": self.threads,
            "devices": len(self.runtime.devices),
        }

    @property
    def train_settings(self) -> dict[str, Any]:
        """The same for `Batches` of training images, and how they handle class imbalance."""
        balance, labels = self.plan.config.training.balance, self.plan.labels
        weights = None
        if balance == "weights":
            indices = self.dataset.manifest.class_indices[self.rows["train"]]
            weights = balance_weights(indices, len(labels))
        return self.batch_settings | {
            "class_weights": weights,
            "balanced_sampling": balance == "sample",
        }

    def open_batches(
        self, operations: Mapping[str, float], *, alternate_flips: bool = False
    ) -> tuple[Batches, Batches | None]:
        """Return the batches of train and of val; None without a val split.

        Args:
            operations: Augmentation of training images, as {operation: strength}.
            alternate_flips: As of `Batches`.
        """
        seed, classes = self.plan.config.runtime.seed, self.dataset.manifest.class_indices
        batches = Batches(
            self.pixels,
            self.rows["train"],
            class_indices=classes,
            shuffle=True,
            augmenter=Augmenter(operations, seed=seed) if operations else None,
            alternate_flips=alternate_flips,
            **self.train_settings,
        )
        val = self.rows["val"]
        if not len(val):
            return batches, None
        settings = self.batch_settings
        return batches, Batches(self.pixels, val, class_indices=classes, shuffle=False, **settings)

    @property
    def fit_settings(self) -> dict[str, Any]:
        """What `fit_phase` takes of a run."""
        return {
            "run": self.run,
            "content": self.bundle,
            "scope": self.runtime.scope,
            "jit_compile": self.runtime.jit_compile,
            "compiled": self.compiled,
            "on_epoch": self.on_epoch,
            "progress": self.progress,
        }

    @property
    def bundle(self) -> BundleContent:
        """What the bundles of the run say beside the weights."""
        return BundleContent(
            self.plan.labels,
            self.plan.input_spec,
            {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint},
        )


@contextmanager
def open_work(work: Work[AnyPlan]) -> Iterator[Work[AnyPlan]]:
    """Open a run for the steps of a with statement, and keep its status, log and history.

    When the with statement ends, the status becomes `finished`, or `pruned` if a listener asked for
    that; after an exception it becomes `interrupted` or `failed`.

    Args:
        work: Changed here: its progress is logged as well, and its listeners come after log and
            history.

    Yields:
        The same work, which the steps take.
    """
    run, runtime = work.run, work.runtime
    log = LoggedProgress(work.progress, run)
    if work.resume and find_whole_directory(run.last) is None:
        log.note("the run stopped before its first checkpoint: starting with the first epoch")
        work.resume = False
    if not work.resume:
        work.compiled.clear()
        write_json_atomic(run.plan, work.plan.to_dict())
        if (settings := work.plan.to_toml()) is not None:
            write_text_atomic(run.settings, settings)
    history = HistoryFile(run, read_epochs(run) if work.resume else [])
    times = TimeUse(log, work.seconds, run=run)
    work.progress, work.before_s = log, _read_spent(run)
    work.listeners = [log.on_epoch, history.on_epoch, *work.listeners, times.on_epoch]
    with recorded(run, runtime, seconds=work.seconds) as outcome:
        log.note(f"{runtime.summary} ({runtime.precision_reason})")
        yield work
        if work.state is not None:
            outcome.reason = "; ".join(work.state.endings)
            if work.state.stopped is StopRequest.PRUNE:
                outcome.status = RunStatus.PRUNED


def _read_spent(run: RunDirectory) -> float:
    """Return the seconds that earlier processes took; one that was killed only as far as saved."""
    seconds = float(run.read_record().get("wall_s") or 0.0)
    last = find_whole_directory(run.last)
    if last is None:
        return seconds
    state = read_json(last / STATE_FILE, hint="train again into another --out")
    return max(seconds, float(state.get("spent_s") or 0.0))


def decode_ahead(plan: Plan[Any], dataset: Dataset) -> AbstractContextManager[PixelsAhead]:
    """Decode what a plan needs while the backend of Keras is loaded."""
    config = plan.config
    return open_ahead(
        dataset,
        plan.input_spec,
        cache=config.data.cache,
        threads=count_threads(config.runtime.threads),
    )


def _find_readable(dataset: Dataset, pixels: Pixels, progress: Progress) -> dict[str, Rows]:
    failed = np.fromiter(pixels.failed, dtype=np.int64, count=len(pixels.failed))
    if len(failed):
        first = int(failed[0])
        progress.warn(
            f"skipped {count_of(len(failed), 'image')} that could not be decoded, "
            f"the first is {dataset.file(first)}: {pixels.failed[first]}"
        )
    rows = {
        split: np.setdiff1d(dataset.manifest.select(split), failed, assume_unique=True)
        for split in ("train", "val")
    }
    if not len(rows["train"]):
        raise DataError(
            f"none of the training images in {dataset.place} can be decoded",
            "cnnclf import lists what is wrong in skipped.csv",
        )
    return rows
