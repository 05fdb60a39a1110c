"""What `cnnclf train` fits: a CNN from random weights, in one phase."""

from typing import Any

import numpy as np

from cnnclf.augmentation.table import Augmenter
from cnnclf.inference.classifier import Classifier
from cnnclf.models.cnn import build_cnn
from cnnclf.planning.choices import choose_averaging
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting.fit import Phase, fit_phase
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.work import Work


def fit_cnn(work: Work[TrainPlan]) -> TrainingState:
    """Train a CNN from random weights; leaves the best and the last checkpoint.

    Args:
        work: The run.

    Returns:
        Epochs, best epoch and times.

    Raises:
        DataError: No training image can be decoded.
        RunError: The loss became NaN, or the state to continue from is damaged.
        DeviceError: No space for the cache or the checkpoints.
    """
    plan = work.plan
    batches, val_batches = _build_batches(work)
    with work.runtime.scope():
        net = _open_net(work)
    state = fit_phase(
        net,
        Phase(
            "train",
            plan.config.training,
            plan.config.optimizer,
            averaged_epochs=choose_averaging(plan.counts["val"]),
        ),
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


def balance_weights(class_indices: Any, num_classes: int) -> Any:
    """Weight classes by the effective number of their images (Cui et al., 2019, beta 0.999).

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


def _open_net(work: Work[TrainPlan]) -> Any:
    if work.resume:
        return Classifier.load(work.run.find_checkpoint("last")).model
    work.progress.note("building the network")
    spec, plan = work.plan.input_spec, work.plan
    return build_cnn(
        plan.config.model,
        (spec.height, spec.width, spec.channels),
        num_classes=len(plan.labels),
    )


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
        class_indices=manifest.class_indices,
        shuffle=True,
        augmenter=augmenter,
        class_weights=weights,
        balanced_sampling=config.training.balance == "sample",
        **work.batch_settings,
    )
    if not len(rows["val"]):
        return batches, None
    val_batches = Batches(
        work.pixels,
        rows["val"],
        class_indices=manifest.class_indices,
        shuffle=False,
        **work.batch_settings,
    )
    return batches, val_batches
