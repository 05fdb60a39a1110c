"""What `cnnclf train` fits: a CNN from random weights, in one phase."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_engine import set_precision
from cnnclf.models.cnn import build_cnn
from cnnclf.models.whitening import set_whitening
from cnnclf.planning.choices import choose_averaging
from cnnclf.planning.pace import count_final_images
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting.fit import Phase, fit_phase
from cnnclf.training.fitting.margins import MarginMeter
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.work import Work

_SAMPLE_STREAM = 7
_SAMPLED_VALUES = 6_000_000  # about 2,000 images of 32x32 in colors
_MIN_SAMPLED = 100


def fit_cnn(work: Work[TrainPlan]) -> TrainingState:
    """Train a CNN from random weights; leaves the best and the last checkpoint.

    Raises:
        DataError: No training image can be decoded.
        RunError: The loss became NaN, or the state to continue from is damaged.
        DeviceError: No space for the cache or the checkpoints.
    """
    plan = work.plan
    batches, val_batches = build_batches(work)
    with work.runtime.scope():
        net = work.compiled["net"] = open_net(work)
    minutes = plan.config.training.minutes
    manifest = work.dataset.manifest
    margins: MarginMeter | None = None
    if plan.config.training.trace:
        margins = MarginMeter(
            batches, manifest.class_indices, paths=manifest.paths, file=work.run.margins
        )
    state = fit_phase(
        net,
        Phase(
            "train",
            plan.config.training,
            plan.config.optimizer,
            averaged_epochs=choose_averaging(plan.counts["val"]),
            budget_s=minutes and 60 * minutes,
            final_images=count_final_images(plan.counts, mirrored=plan.leaves_flips_open),
            spent=work.spent,
        ),
        batches=batches,
        val_batches=val_batches,
        resume=work.resume,
        **work.fit_settings,
        margins=margins,
    )
    images = state.epoch * batches.count
    work.run.update_run(
        parameters=plan.parameters,
        images_per_s=round(images / state.seconds, 1) if state.seconds else None,
    )
    return state


def open_net(work: Work[TrainPlan]) -> Any:
    """Build the network, or load the last checkpoint of a run that is resumed."""
    if work.resume:
        last = work.run.find_checkpoint("last")
        if (net := work.compiled.get("net")) is not None:
            net.load_weights(read_bundle(last).model.path)
            return net
        return set_precision(Classifier.load(last).model, work.runtime.precision)
    work.progress.note("building the network")
    spec, plan = work.plan.input_spec, work.plan
    net = build_cnn(
        plan.config.model,
        (spec.height, spec.width, spec.channels),
        num_classes=len(plan.labels),
    )
    if plan.config.model.whiten:
        set_whitening(net, _sample_images(work))
    return net


def _sample_images(work: Work[TrainPlan]) -> Iterator[Any]:
    """Draw training images, without augmentation, in batches of at most about 30 MB as floats."""
    spec, rows = work.plan.input_spec, work.rows["train"]
    values = spec.height * spec.width * spec.channels
    rng = np.random.default_rng((_SAMPLE_STREAM, work.plan.config.runtime.seed))
    drawn = rng.permutation(rows)[: max(_MIN_SAMPLED, _SAMPLED_VALUES // values)]
    settings = work.batch_settings | {"batch_size": max(1, _SAMPLED_VALUES // values // 16)}
    classes = work.dataset.manifest.class_indices
    batches = Batches(work.pixels, np.sort(drawn), class_indices=classes, shuffle=False, **settings)
    return (images for images, *_ in batches.epoch(0))


def build_batches(work: Work[TrainPlan]) -> tuple[Batches, Batches | None]:
    """Return the batches of train and of val; None without a val split."""
    operations = dict(work.plan.operations)
    alternate = work.plan.config.augment.alternate_flips and operations.get("flip") == 0.5
    if alternate:
        del operations["flip"]
    return work.open_batches(operations, alternate_flips=alternate)
