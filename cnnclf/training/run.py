"""The frame of a run, whatever it trains: log, record, images, curves and the final test."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError, ImageError, RunError
from cnnclf.evaluation.report import Report, evaluate
from cnnclf.files import find_whole_directory, write_json_atomic
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.plan import Plan, count_threads
from cnnclf.progress import Progress
from cnnclf.runs import RunDirectory
from cnnclf.training.calibration import calibrate
from cnnclf.training.feeding.ahead import PixelsAhead, open_ahead
from cnnclf.training.fitting.checkpoints import BundleContent
from cnnclf.training.fitting.judging import Verdict, choose_judged, judge_checkpoint
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.recording import (
    LoggedProgress,
    draw_curves,
    epoch_line,
    read_epochs,
    recorded,
    write_history,
)
from cnnclf.training.reference_images import keep_reference

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

EpochListener = Callable[[dict[str, Any], bool], None]
Rows = npt.NDArray[np.intp]
AnyPlan = TypeVar("AnyPlan", bound=Plan[Any])

_LOOKED_AT = 32  # images at once


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Args:
        run: Its directory.
        state: Epochs, best epoch and times.
        report: The best checkpoint on the test split (or val, if there is no test split).
        failed: Images that could not be decoded and were left out.
    """

    run: RunDirectory
    state: TrainingState
    report: Report
    failed: int = 0


@dataclass
class Work(Generic[AnyPlan]):
    """What a fit works with.

    Args:
        plan: What to do.
        dataset: What the plan was made for.
        run: A run directory that was created or opened.
        runtime: Device, precision and seed, already set.
        resume: Go on from the last checkpoint.
        on_epoch: Told each row of history and whether it is the best so far.
        progress: Told everything else.
        ahead: Waits for the images, if they are being decoded already.
        history: Rows of the epochs so far.
        verdict: What the best checkpoint says of val images, if the fit asked it.
    """

    plan: AnyPlan
    dataset: Dataset
    run: RunDirectory
    runtime: "RuntimeInfo"
    resume: bool
    on_epoch: EpochListener
    progress: Progress
    ahead: PixelsAhead | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    verdict: Verdict | None = None

    @cached_property
    def pixels(self) -> Pixels:
        """The decoded images; they are decoded when they are first wanted, if not before."""
        if self.ahead is not None:
            return self.ahead(self.progress)
        return open_pixels(
            self.dataset,
            self.plan.input_spec,
            cache=self.plan.config.data.cache,
            progress=self.progress,
            threads=self.threads,
        )

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """The rows of train and val that can be decoded; it is said how many cannot.

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
        """Ask a checkpoint what it says of these images; those that went bad are left out.

        Raises:
            DataError: None of them can be decoded.
        """
        while True:
            rows = self.rows["val"][self.judged]
            if not len(rows):
                raise DataError(
                    f"expected val images in {self.dataset.directory}, none can be decoded",
                    "bring the images back to where they were imported from, or import again",
                )
            known = len(self.pixels.failed)
            try:
                return judge_checkpoint(
                    checkpoint,
                    self.dataset,
                    rows,
                    self.pixels,
                    label_smoothing=self.plan.config.training.label_smoothing,
                    progress=self.progress,
                )
            except ImageError:
                # Nobody may have looked at it in this run: its features were found on disk.
                for start in range(0, len(rows), _LOOKED_AT):
                    with suppress(ImageError):
                        self.pixels.gather(rows[start : start + _LOOKED_AT])
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
    def bundle(self) -> BundleContent:
        """What the bundles of the run say beside the weights."""
        return BundleContent(
            self.plan.labels,
            self.plan.input_spec,
            {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint},
        )


def conduct_run(
    plan: AnyPlan,
    dataset: Dataset,
    run: RunDirectory,
    runtime: "RuntimeInfo",
    fit: Callable[[Work[AnyPlan]], TrainingState],
    *,
    resume: bool,
    on_epoch: EpochListener | None,
    progress: Progress,
    ahead: PixelsAhead | None,
) -> TrainResult:
    """Fit as planned, keep the best epoch and evaluate it through the public door.

    Args:
        plan: What to do.
        dataset: What the plan was made for.
        run: A run directory that was created or opened.
        runtime: Device, precision and seed, already set.
        fit: Trains, and leaves the best checkpoint.
        resume: Go on from the last checkpoint.
        on_epoch: Told each row of history and whether it is the best so far.
        progress: Told everything else.
        ahead: Waits for the images, if they are being decoded already.

    Returns:
        The result; the same is in the run directory.
    """
    log = LoggedProgress(progress, run)
    if resume and find_whole_directory(run.last) is None:
        log.note("it was stopped before its first checkpoint: beginning with its first epoch")
        resume = False
    if not resume:
        write_json_atomic(run.plan, plan.to_dict())

    def note_epoch(row: dict[str, Any], is_best: bool) -> None:
        work.history.append(row)
        log.write(f"{row['phase']} {epoch_line(row, is_best=is_best)}")
        write_history(run, work.history)
        if on_epoch is not None:
            on_epoch(row, is_best)

    earlier = read_epochs(run) if resume else []
    work = Work(plan, dataset, run, runtime, resume, note_epoch, log, ahead, earlier)
    with recorded(run, runtime):
        log.note(runtime.summary)
        state = fit(work)
        _record_fit(run, state, plan)
        draw_curves(run, state)
        _calibrate(work)
        report = _test(work)
        run.update_run(
            status="finished", evaluation={"split": report.split, "metrics": report.summary}
        )
    failed = {dataset.manifest.paths[row] for row in work.pixels.failed}
    return TrainResult(run, state, report, len(failed.union(file.path for file in report.failed)))


def decode_ahead(plan: Plan[Any], dataset: Dataset) -> AbstractContextManager[PixelsAhead]:
    """Decode what a plan needs while the backend of Keras is loaded."""
    config = plan.config
    return open_ahead(
        dataset,
        plan.input_spec,
        cache=config.data.cache,
        threads=count_threads(config.runtime.threads),
    )


def check_resumable(run: RunDirectory, plan: Plan[Any], dataset: Dataset) -> None:
    """Refuse to go on with a run that is finished or whose data changed.

    Raises:
        RunError: It is finished, or being trained at this moment.
        DataError: The dataset is not the one that was trained on.
    """
    status = run.read_record()["status"]
    if status == "finished":
        raise RunError(
            f"expected an unfinished run, {run.path} is finished",
            "train again with more --epochs into another --out",
        )
    if run.status() == "running":
        raise RunError(f"expected a stopped run, {run.path} is being trained at this moment")
    if dataset.fingerprint != plan.dataset["fingerprint"]:
        raise DataError(
            f"expected the dataset the run {run.path} began with, "
            f"the one in {dataset.directory} has changed since",
            "train again into another --out",
        )


def _calibrate(work: Work[Any]) -> None:
    """Fit the temperature of the best checkpoint on val, and say what that does."""
    if not work.plan.config.training.calibrate or not len(work.rows["val"]):
        return
    best = work.run.find_checkpoint("best")
    found = calibrate(best, work.verdict or work.judge(best))
    if found is not None:
        work.run.update_run(calibration=asdict(found))
        work.progress.note(
            f"temperature {found.temperature:.2f}, fitted on {found.images:,} val images: "
            f"their calibration error was {found.ece_before:.3f} and is {found.ece_after:.3f}"
        )


def _test(work: Work[Any]) -> Report:
    counts = work.plan.counts
    split = "test" if counts["test"] else "val" if counts["val"] else "train"
    classifier = Classifier.load(work.run.path)
    report = evaluate(
        classifier,
        work.dataset,
        split=split,
        out=work.run.evaluation(split),
        cache=work.plan.config.data.cache,
        progress=work.progress,
    )
    keep_reference(classifier, work.pixels, work.rows["val" if counts["val"] else "train"])
    return report


def _record_fit(run: RunDirectory, state: TrainingState, plan: Plan[Any]) -> None:
    run.update_run(
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_val_accuracy=state.best_score[0] if plan.counts["val"] else None,
        fit_s=round(state.seconds, 3),
        data_wait_share=round(state.wait_s / state.seconds, 4) if state.seconds else None,
    )


def _find_readable(dataset: Dataset, pixels: Pixels, progress: Progress) -> dict[str, Rows]:
    failed = np.fromiter(pixels.failed, dtype=np.int64, count=len(pixels.failed))
    if len(failed):
        first = int(failed[0])
        progress.warn(
            f"{len(failed)} images could not be decoded and are left out, "
            f"the first is {dataset.file(first)}: {pixels.failed[first]}"
        )
    rows = {
        split: np.setdiff1d(dataset.manifest.select(split), failed, assume_unique=True)
        for split in ("train", "val")
    }
    if not len(rows["train"]):
        raise DataError(
            f"expected training images in {dataset.directory}, none can be decoded",
            "cnnclf import lists what is wrong in skipped.csv",
        )
    return rows
