"""What `cnnclf train` fits: a CNN from random weights, in one phase."""

from typing import Any

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
    augmenter = Augmenter(plan.operations, seed=config.runtime.seed) if plan.operations else None
    batches = Batches(
        work.pixels,
        rows["train"],
        class_indices=manifest.class_indices,
        shuffle=True,
        augmenter=augmenter,
        **work.train_settings,
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
