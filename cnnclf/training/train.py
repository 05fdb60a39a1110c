"""`cnnclf train`: one phase from random weights, and what it leaves in the run directory."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.augmentation.table import Augmenter
from cnnclf.data.manifest import Dataset
from cnnclf.inference.classifier import Classifier
from cnnclf.models.cnn import build_cnn
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress
from cnnclf.runs import RunDirectory
from cnnclf.training.feeding.ahead import PixelsAhead
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting.fit import Phase, fit_phase
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.run import EpochListener, TrainResult, Work, conduct_run

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo


def train(
    plan: TrainPlan,
    dataset: Dataset,
    run: RunDirectory,
    runtime: "RuntimeInfo",
    *,
    resume: bool = False,
    on_epoch: EpochListener | None = None,
    progress: Progress,
    ahead: PixelsAhead | None = None,
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
        ahead: Waits for the images, if they are being decoded already (`decode_ahead`).

    Returns:
        The result; the same is in the run directory.

    Raises:
        DataError: No training image can be decoded, or the dataset is not the plan's.
        RunError: The loss is no longer a number, or there is nothing to go on from.
        DeviceError: No space for the cache or the checkpoints.
    """
    return conduct_run(
        plan,
        dataset,
        run,
        runtime,
        _fit,
        resume=resume,
        on_epoch=on_epoch,
        progress=progress,
        ahead=ahead,
    )


def balance_weights(class_indices: Any, num_classes: int) -> Any:
    """Weigh classes by the effective number of their images (Cui et al., 2019, beta 0.999).

    Args:
        class_indices: int [N], of the training images.
        num_classes: K.

    Returns:
        float32 [K], with a mean of 1 over the images; 0 for a class without images.
    """
    counts = np.bincount(class_indices, minlength=num_classes).astype(np.float64)
    effective = (1 - np.power(0.999, counts)) / (1 - 0.999)
    weights = np.divide(1.0, effective, out=np.zeros_like(effective), where=counts > 0)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def _fit(work: Work[TrainPlan]) -> TrainingState:
    plan = work.plan
    batches, val_batches = _build_batches(work)
    with work.runtime.scope():
        net = _open_net(work)
    state = fit_phase(
        net,
        Phase("train", plan.config.training, plan.config.optimizer),
        batches=batches,
        val_batches=val_batches,
        run=work.run,
        content=work.bundle,
        scope=work.runtime.scope,
        jit_compile=work.runtime.jit_compile,
        resume=work.resume,
        on_epoch=work.on_epoch,
        progress=work.progress,
    )
    images = state.epoch * batches.count
    work.run.update_run(
        parameters=plan.parameters,
        images_per_s=round(images / state.seconds, 1) if state.seconds else None,
    )
    return state


def _open_net(work: Work[TrainPlan]) -> Any:
    if work.resume:
        return Classifier.load(work.run.find_checkpoint("last")).model
    spec, plan = work.plan.input_spec, work.plan
    return build_cnn(plan.config.model, (spec.height, spec.width, spec.channels), len(plan.labels))


def _build_batches(work: Work[TrainPlan]) -> tuple[Batches, Batches | None]:
    plan, config, manifest = work.plan, work.plan.config, work.dataset.manifest
    rows = work.rows
    weights = None
    if config.training.balance == "weights":
        weights = balance_weights(manifest.class_indices[rows["train"]], len(plan.labels))
    augmenter = Augmenter(plan.operations, seed=config.runtime.seed) if plan.operations else None
    batches = Batches(
        work.pixels,
        rows["train"],
        manifest.class_indices,
        shuffle=True,
        augmenter=augmenter,
        class_weights=weights,
        balanced_sampling=config.training.balance == "sample",
        **work.batch_settings,
    )
    if not len(rows["val"]):
        return batches, None
    val_batches = Batches(
        work.pixels, rows["val"], manifest.class_indices, shuffle=False, **work.batch_settings
    )
    return batches, val_batches
