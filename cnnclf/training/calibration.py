"""Calibrates probabilities: fits one temperature on val and stores it in the bundle.

Label smoothing and early stopping leave a network underconfident or overconfident. Dividing all
logits by one number corrects most of it and changes no label (Guo et al., "On calibration of modern
neural networks", 2017).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.evaluation.metrics import expected_calibration_error
from cnnclf.files import read_json, write_json_atomic
from cnnclf.probabilities import softmax
from cnnclf.runs.run_names import CLASSIFIER_FILE
from cnnclf.training.fitting.judging import Logits, Verdict

MIN_IMAGES = 50  # with fewer, the temperature depends more on them than on the network
_LOWEST, _HIGHEST = 0.05, 20.0
_HALVINGS = 60


@dataclass(frozen=True)
class Calibration:
    """A temperature and its effect on the val images it was fitted on.

    Args:
        temperature: Divisor of the logits.
        images: Number of images it was fitted on.
        ece_before: Expected calibration error without it.
        ece_after: Expected calibration error with it.
    """

    temperature: float
    images: int
    ece_before: float
    ece_after: float


def calibrate(checkpoint: Path, verdict: Verdict) -> Calibration | None:
    """Fit the temperature of a checkpoint and write it into its bundle.

    Returns:
        The calibration; None if there are too few images: the bundle is then unchanged.
    """
    count = len(verdict.truth)
    if count < MIN_IMAGES:
        return None
    temperature = fit_temperature(verdict.logits, verdict.truth)
    path = checkpoint / CLASSIFIER_FILE
    write_json_atomic(path, read_json(path) | {"temperature": temperature})
    before, after = (
        expected_calibration_error(verdict.truth, softmax(verdict.logits.astype(float) / each))
        for each in (1.0, temperature)
    )
    return Calibration(temperature, count, before, after)


def fit_temperature(logits: Logits, truth: npt.NDArray[Any]) -> float:
    """Find the temperature at which the labels are most likely.

    The log-likelihood is concave in 1 / temperature, so its slope is halved in on. Were every
    image labeled rightly, the likeliest temperature would be 0; as in Platt (1999), each label
    counts as (n + 1) / (n + 2) certain, as if one more image of either kind had been seen.

    Args:
        logits: float32 [n, K].
        truth: int [n].

    Returns:
        Between 0.05 and 20.
    """
    values = logits.astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    count, classes = values.shape
    targets = np.full(values.shape, 1 / (count + 2) / max(1, classes - 1))
    targets[np.arange(count), truth] = (count + 1) / (count + 2)
    wanted = float((targets * values).sum())
    low, high = 1 / _HIGHEST, 1 / _LOWEST
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if float((softmax(middle * values) * values).sum()) < wanted:
            low = middle
        else:
            high = middle
    return float((low * high) ** -0.5)
