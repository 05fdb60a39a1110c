"""The learning rate range test.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.

Trains a new network for some steps while the rate grows from tiny to far too high; the loss says
which rates are useful. Nothing of it is kept.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnclf.data.manifest import Dataset
from cnnclf.errors import DataError
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.feeding.ahead import PixelsAhead
from cnnclf.training.fitting.fit import build_loss
from cnnclf.training.fitting.optimizers import build_optimizer
from cnnclf.training.scratch import build_batches, open_net
from cnnclf.training.work import Work

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

LOWEST, HIGHEST = 1e-6, 1.0
_SMOOTHING = 0.9  # of the moving average of the loss
_DIVERGED = 4.0  # times the lowest smoothed loss
_MAX_PASSES = 20  # over the training images, where the loss still says something of rates
_SKIPPED = 10  # steps at the start, whose average is noise


@dataclass(frozen=True)
class RateRange:
    """The loss over the learning rate.

    Args:
        rates: Learning rate of each step, ascending.
        losses: Smoothed loss of each step.
        suggested: Where the loss falls most steeply, before its minimum.
        lowest: Where the loss is lowest.
        skipped: Steps at the start that count for neither, as averages of few batches.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    suggested: float
    lowest: float
    skipped: int = 0

    @property
    def has_end(self) -> bool:
        """Whether the loss rises again, so that rates from the lowest loss on are too high."""
        return self.lowest < _round(self.rates[-1])


def find_rate(
    plan: TrainPlan,
    dataset: Dataset,
    *,
    runtime: "RuntimeInfo",
    ahead: PixelsAhead | None,
    progress: Progress,
) -> TrainPlan:
    """Return the plan with the rate that a range test suggests, for `--learning-rate find`.

    Raises:
        DataError: As of `try_rates`.
    """
    found = try_rates(plan, dataset, runtime=runtime, ahead=ahead, progress=progress)
    why = f"found by a range test of {len(found.rates)} steps, as by cnnclf lr-find"
    progress.note(f"learning rate {found.suggested:g}, {why}")
    optimizer = plan.config.optimizer.model_copy(update={"learning_rate": found.suggested})
    return replace(
        plan,
        config=plan.config.model_copy(update={"optimizer": optimizer}),
        reasons={**plan.reasons, "optimizer.learning_rate": why},
    )


def try_rates(
    plan: TrainPlan,
    dataset: Dataset,
    *,
    runtime: "RuntimeInfo",
    steps: int = 100,
    ahead: PixelsAhead | None = None,
    progress: Progress,
) -> RateRange:
    """Train a new network for some steps with a growing learning rate.

    Args:
        plan: Of the training that the rate is for.
        dataset: The dataset the plan was made for.
        runtime: Device, precision and seed, already set.
        steps: Steps from the lowest to the highest rate, at least 30.
        ahead: Waits for the images, if they are being decoded already.
        progress: Receives the steps.

    Raises:
        DataError: No training image can be decoded, or the loss never falls.
    """
    run = RunDirectory(Path())  # nothing is written
    work = Work(plan, dataset, run, runtime, progress=progress, ahead=ahead)
    batches, _ = build_batches(work)
    passes = steps / len(batches)
    if passes > _MAX_PASSES:
        progress.warn(
            f"each training image is seen {passes:.0f} times: the loss falls because the network "
            "memorizes them, so the rate may be wrong for longer training; try more images, or "
            "fewer --steps"
        )
    # only with this schedule the rate can be set from outside
    optimizer = plan.config.optimizer.model_copy(update={"schedule": "plateau"})
    with runtime.scope():
        net = open_net(work)
        net.compile(
            build_optimizer(optimizer, total_steps=steps),
            loss=build_loss(plan.config.training),
            jit_compile=runtime.jit_compile,
        )
    rates = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    losses: list[float] = []
    content = itertools.chain.from_iterable(batches.epoch(epoch) for epoch in itertools.count())
    with progress.task("trying learning rates", steps, unit="steps") as task:
        for rate, batch in zip(rates, content, strict=False):
            net.optimizer.learning_rate = rate
            net.reset_metrics()
            found = net.train_on_batch(*batch)
            losses.append(float(np.ravel(found)[0]))
            task.advance()
            if has_diverged(losses):
                break
    return find_range(rates[: len(losses)], losses)


def find_range(rates: Sequence[float], losses: Sequence[float]) -> RateRange:
    """Find the useful rate in the losses of a range test.

    Args:
        rates: Ascending, evenly spaced logarithms.
        losses: One per rate; the last ones may be huge or NaN.

    Raises:
        DataError: The loss never falls, or is no number from the start.
    """
    smooth = smooth_losses(losses)
    if not smooth:
        raise DataError(
            f"the loss is {losses[0]:g} at the first step, before any weight changed",
            "use --precision float32, or --batch-norm",
        )
    first = min(_SKIPPED, len(smooth) // 4)
    at_minimum = first + int(np.argmin(smooth[first:]))
    # over a tenth of the curve on each side: the slope between two steps is noise
    reach = max(3, len(smooth) // 10)
    middles = np.arange(first, at_minimum + 1)
    ahead, behind = np.minimum(middles + reach, at_minimum), np.maximum(middles - reach, 0)
    values = np.array(smooth)
    slopes = (values[ahead] - values[behind]) / np.maximum(ahead - behind, reach)
    if slopes.min() >= 0:
        raise DataError(
            "the loss does not fall at any learning rate",
            "check the labels with: cnnclf check DATASET; or try more --steps",
        )
    best = first + int(np.argmin(slopes))
    return RateRange(
        list(rates[: len(smooth)]), smooth, _round(rates[best]), _round(rates[at_minimum]), first
    )


def smooth_losses(losses: Sequence[float]) -> list[float]:
    """Return the moving average of losses, without the bias of its start, up to the first NaN."""
    average, smooth = 0.0, []
    for step, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smooth.append(average / (1 - _SMOOTHING**step))
    return smooth


def has_diverged(losses: Sequence[float]) -> bool:
    """Tell whether higher rates cannot be useful: the loss is NaN or far above its lowest."""
    smooth = smooth_losses(losses)
    if len(smooth) < len(losses):
        return True
    return len(smooth) > _SKIPPED and smooth[-1] > _DIVERGED * min(smooth)


def _round(rate: float) -> float:
    return float(f"{rate:.2g}")
