"""The learning rate at each step, as a plain function of the step.

A function without state makes resuming exact: step 500 has the same rate whether or not the run
was interrupted before it. Only "plateau" has a state, which is part of the training state.
"""

import math
from typing import Any

from cnnclf.config import OptimizerConfig

_FINAL = 0.01  # fraction of the peak rate that cosine and linear end at
_ONE_CYCLE_START = 25.0  # Smith and Topin 2019; the divisors are the usual ones
_ONE_CYCLE_END = 1e4


def learning_rate_at(step: int, optimizer: OptimizerConfig, *, total: int) -> float:
    """Return the learning rate of one step, before any reduction by a plateau.

    Cosine annealing follows Loshchilov and Hutter, "SGDR", 2017, after a linear warm-up; one-cycle
    follows Smith and Topin, "Super-convergence", 2019, with cosine flanks.

    Args:
        step: 0 for the first step of the run.
        optimizer: Settings with a resolved learning rate.
        total: Steps of the whole run, at least 1.

    Returns:
        The rate, above 0.
    """
    if optimizer.learning_rate == "auto":
        raise ValueError("expected a resolved learning rate, received 'auto'")
    peak = float(optimizer.learning_rate)
    warmup = min(round(optimizer.warmup * total), total - 1)
    if optimizer.schedule == "one_cycle":
        warmup = max(warmup, round(0.25 * total))
        if step < warmup:
            return _anneal(peak / _ONE_CYCLE_START, peak, step / max(1, warmup))
        return _anneal(peak, peak / _ONE_CYCLE_END, _part(step, warmup, total))
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if optimizer.schedule == "cosine":
        return _anneal(peak, peak * _FINAL, _part(step, warmup, total))
    if optimizer.schedule == "linear":
        return peak + (peak * _FINAL - peak) * _part(step, warmup, total)
    return peak


def _part(step: int, start: int, total: int) -> float:
    return min(1.0, (step - start) / max(1, total - start))


def _anneal(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def build_schedule(total: int, optimizer: OptimizerConfig) -> Any:
    """Return the same rates as a Keras schedule, which the optimizer calls at each step.

    A table rather than a formula: any backend can look up a number, and the two cannot differ.

    Args:
        total: Steps of the whole run.
        optimizer: Settings with a resolved learning rate and another schedule than "plateau".

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    import keras
    import numpy as np

    rates = [learning_rate_at(step, optimizer, total=total) for step in range(total)]
    table = np.asarray(rates, np.float32)

    class Rates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            last = len(table) - 1
            index = keras.ops.minimum(keras.ops.cast(step, "int32"), last)
            return keras.ops.take(keras.ops.convert_to_tensor(table), index)

        def get_config(self) -> dict[str, Any]:
            return {"rates": table.tolist()}

    return Rates()
