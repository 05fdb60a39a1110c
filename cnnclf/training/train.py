"""One training run from plan to tested model, and everything it leaves in the run directory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.augment import Augmenter
from cnnclf.data.batches import Batches
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError, RunError
from cnnclf.evaluation.report import Report, evaluate
from cnnclf.files import find_whole_directory, write_json_atomic
from cnnclf.inference.classifier import Classifier
from cnnclf.models.cnn import build_cnn
from cnnclf.progress import Progress
from cnnclf.runs import RunDirectory
from cnnclf.training.fit import BundleContent, Phase, fit_phase
from cnnclf.training.plan import RunPlan, count_threads
from cnnclf.training.recording import (
    LoggedProgress,
    draw_curves,
    epoch_line,
    read_epochs,
    recorded,
    write_history,
)
from cnnclf.training.state import TrainingState

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo
    from cnnclf.training.finetune_plan import FinetunePlan

EpochListener = Callable[[dict[str, Any], bool], None]


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Args:
        run: Its directory.
        state: Epochs, best epoch and times.
        report: The best checkpoint on the test split (or val, if there is no test split).
        failed: Pictures that could not be decoded and were left out.
    """

    run: RunDirectory
    state: TrainingState
    report: Report
    failed: int = 0


def train(
    plan: RunPlan,
    dataset: Dataset,
    run: RunDirectory,
    runtime: "RuntimeInfo",
    *,
    resume: bool = False,
    on_epoch: EpochListener | None = None,
    progress: Progress,
) -> TrainResult:
    """Train as planned, keep the best epoch and evaluate it through the public door.

    Args:
        plan: What to do.
        dataset: What the plan was made for.
        run: A run directory that was created or opened.
        runtime: Device, precision and seed, already set.
        resume: Go on from the last checkpoint.
        on_epoch: Told each row of history and whether it is the best so far.
        progress: Told everything else.

    Returns:
        The result; the same is in the run directory.

    Raises:
        DataError: No training picture can be decoded, or the dataset is not the plan's.
        RunError: The loss is no longer a number, or there is nothing to go on from.
        DeviceError: No space for the cache or the checkpoints.
    """
    log = LoggedProgress(progress, run)
    if resume and find_whole_directory(run.last) is None and not run.history.exists():
        log.note("it was stopped before the end of its first epoch: beginning with that")
        resume = False
    if not resume:
        write_json_atomic(run.plan, plan.to_dict())
    history: list[dict[str, Any]] = []

    def note_epoch(row: dict[str, Any], is_best: bool) -> None:
        history.append(row)
        log.write(epoch_line(row, is_best=is_best))
        write_history(run, [*earlier, *history])
        if on_epoch is not None:
            on_epoch(row, is_best)

    earlier = read_epochs(run) if resume else []
    with recorded(run, runtime):
        log.note(runtime.summary)
        pixels = open_pixels(
            dataset,
            plan.input_spec,
            cache=plan.config.data.cache,
            progress=log,
            threads=count_threads(plan.config),
        )
        batches, val_batches = _build_batches(
            plan, dataset, pixels, devices=len(runtime.devices), progress=log
        )
        with runtime.scope():
            net = _open_net(plan, run, resume=resume)
        state = fit_phase(
            net,
            Phase("train", plan.config.training, plan.config.optimizer),
            batches=batches,
            val_batches=val_batches,
            run=run,
            content=BundleContent(
                plan.labels,
                plan.input_spec,
                {"name": dataset.name, "fingerprint": dataset.fingerprint},
            ),
            scope=runtime.scope,
            jit_compile=runtime.jit_compile,
            resume=resume,
            on_epoch=note_epoch,
            progress=log,
        )
        _record_fit(run, state, plan, batches)
        draw_curves(run, state)
        split = "test" if plan.counts["test"] else "val" if plan.counts["val"] else "train"
        report = evaluate(
            Classifier.load(run.path),
            dataset,
            split=split,
            out=run.evaluation(split),
            cache=plan.config.data.cache,
            progress=log,
        )
        run.update_run(status="finished", evaluation={"split": split, "metrics": report.summary})
    failed = {dataset.manifest.paths[row] for row in pixels.failed}
    return TrainResult(run, state, report, len(failed.union(file.path for file in report.failed)))


def check_resumable(run: RunDirectory, plan: "RunPlan | FinetunePlan", dataset: Dataset) -> None:
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


def _build_batches(
    plan: RunPlan, dataset: Dataset, pixels: Pixels, *, devices: int, progress: Progress
) -> tuple[Batches, Batches | None]:
    config, manifest = plan.config, dataset.manifest
    rows = readable_rows(dataset, pixels, progress)
    weights = None
    if config.training.balance == "weights":
        weights = balance_weights(manifest.class_indices[rows["train"]], len(plan.labels))
    shared: dict[str, Any] = {
        "num_classes": len(plan.labels),
        "batch_size": config.training.batch_size,
        "seed": config.runtime.seed,
        "threads": count_threads(config),
        "devices": devices,
    }
    augmenter = Augmenter(plan.operations, seed=config.runtime.seed) if plan.operations else None
    batches = Batches(
        pixels,
        rows["train"],
        manifest.class_indices,
        shuffle=True,
        augmenter=augmenter,
        class_weights=weights,
        balanced_sampling=config.training.balance == "sample",
        **shared,
    )
    if not len(rows["val"]):
        return batches, None
    return batches, Batches(pixels, rows["val"], manifest.class_indices, shuffle=False, **shared)


def readable_rows(
    dataset: Dataset, pixels: Pixels, progress: Progress
) -> dict[str, npt.NDArray[np.intp]]:
    """Return the rows of train and val that can be decoded; say how many cannot.

    Raises:
        DataError: No training picture can be decoded.
    """
    failed = np.fromiter(pixels.failed, dtype=np.int64, count=len(pixels.failed))
    if len(failed):
        first = int(failed[0])
        progress.warn(
            f"{len(failed)} pictures could not be decoded and are left out, "
            f"the first is {dataset.file(first)}: {pixels.failed[first]}"
        )
    rows = {
        split: np.setdiff1d(dataset.manifest.select(split), failed, assume_unique=True)
        for split in ("train", "val")
    }
    if not len(rows["train"]):
        raise DataError(
            f"expected training pictures in {dataset.directory}, none can be decoded",
            "cnnclf import lists what is wrong in skipped.csv",
        )
    return rows


def balance_weights(class_indices: Any, num_classes: int) -> Any:
    """Weigh classes by the effective number of their pictures (Cui et al., 2019, beta 0.999).

    Args:
        class_indices: int [N], of the training pictures.
        num_classes: K.

    Returns:
        float32 [K], with a mean of 1 over the pictures; 0 for a class without pictures.
    """
    counts = np.bincount(class_indices, minlength=num_classes).astype(np.float64)
    effective = (1 - np.power(0.999, counts)) / (1 - 0.999)
    weights = np.divide(1.0, effective, out=np.zeros_like(effective), where=counts > 0)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def _open_net(plan: RunPlan, run: RunDirectory, *, resume: bool) -> Any:
    if resume:
        return Classifier.load(run.find_checkpoint("last")).model
    spec = plan.input_spec
    return build_cnn(plan.config.model, (spec.height, spec.width, spec.channels), len(plan.labels))


def _record_fit(run: RunDirectory, state: TrainingState, plan: RunPlan, batches: Batches) -> None:
    images = state.epoch * batches.count
    run.update_run(
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_val_accuracy=state.best_score[0] if plan.counts["val"] else None,
        parameters=plan.parameters,
        fit_s=round(state.seconds, 3),
        images_per_s=round(images / state.seconds, 1) if state.seconds else None,
        data_wait_share=round(state.wait_s / state.seconds, 4) if state.seconds else None,
    )
