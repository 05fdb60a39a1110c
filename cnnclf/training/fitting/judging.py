"""Measures a checkpoint on val through the whole network, as it will be used.

Epochs are scored on what their phase trains on, such as features computed by another engine in
reduced precision. Phases are compared by the saved network itself, so that a difference between
the two paths is visible and cannot decide.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.views import mirror
from cnnclf.probabilities import log_softmax
from cnnclf.progress import Progress
from cnnclf.training.fitting.state import Score
from cnnclf.training.frozen.features import Features

Logits = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

_MAX_IMAGES = 2000
_OTHER_LABELS = 0.05  # bfloat16 changes about one label in a hundred of a half-trained head
_ROUNDED = 0.1  # of the spread of logits; bfloat16 changes them by 0.02 to 0.05 of it on average
_BATCH = 32
_STREAM = 5  # a random stream of its own


@dataclass(frozen=True)
class Verdict:
    """The logits of a network for val images.

    Args:
        logits: float32 [n, K].
        truth: The class of each, int [n].
        label_smoothing: Of the loss that epochs are scored with.
        image_s: Seconds that each took; 0: they were too few to know.
        load_s: Seconds of loading and compiling the network.
    """

    logits: Logits
    truth: npt.NDArray[Any]
    label_smoothing: float = 0.0
    image_s: float = 0.0
    load_s: float = 0.0

    @property
    def score(self) -> Score:
        """Accuracy and negative loss, as for an epoch."""
        return measure(self.logits, self.truth, label_smoothing=self.label_smoothing)

    def to_dict(self) -> dict[str, Any]:
        """Return what belongs in run.json."""
        accuracy, negative_loss = self.score
        return {
            "images": len(self.truth),
            "val_accuracy": accuracy,
            "val_loss": -negative_loss,
        }


@dataclass(frozen=True)
class Difference:
    """The difference between two paths through the same network.

    Args:
        mean: Mean absolute difference of a logit.
        largest: Maximum absolute difference of a logit.
        spread: Standard deviation of the logits, for comparison.
        other_labels: Images with another label.
        images: Number of images.
        accuracy: Of the other path.
    """

    mean: float
    largest: float
    spread: float
    other_labels: int
    images: int
    accuracy: float

    @property
    def is_large(self) -> bool:
        """Whether it is more than reduced precision explains."""
        is_rounded = self.mean < _ROUNDED * self.spread  # close calls, which may go either way
        return not is_rounded and self.other_labels > max(2, _OTHER_LABELS * self.images)

    @property
    def words(self) -> str:
        """The difference in words."""
        return (
            f"{self.accuracy:.4f} from cached features ({self.other_labels} of {self.images:,} "
            f"labels differ; logits, with a spread of {self.spread:.2g}, differ by {self.mean:.2g} "
            f"on average and by at most {self.largest:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what belongs in run.json."""
        return {
            "cached_val_accuracy": self.accuracy,
            "mean_logit_difference": self.mean,
            "largest_logit_difference": self.largest,
            "logit_spread": self.spread,
            "other_labels": self.other_labels,
        }


def choose_judged(rows: Rows, *, seed: int) -> Rows:
    """Choose the val images that phases are compared on: all, or 2,000 of them.

    Returns:
        Positions among the rows, in order.
    """
    if len(rows) <= _MAX_IMAGES:
        return np.arange(len(rows))
    rng = np.random.default_rng((_STREAM, seed))
    return np.sort(rng.permutation(len(rows))[:_MAX_IMAGES])


def judge_checkpoint(
    checkpoint: Path,
    dataset: Dataset,
    *,
    rows: Rows,
    pixels: Pixels,
    label_smoothing: float,
    progress: Progress,
) -> Verdict:
    """Compute the logits of a saved network, which is opened as everywhere else."""
    begun = time.perf_counter()
    classifier = Classifier.load(checkpoint)
    parts, ends = [], []
    for batch in _stream(rows, pixels, title="measuring on val", progress=progress):
        parts.append(classifier.logits(batch))
        ends.append(time.perf_counter())
    # the first batch compiles, and a last one that is smaller does so again
    full, taken = len(rows) // _BATCH, ends[-1] - begun
    image_s = (ends[full - 1] - ends[0]) / (_BATCH * (full - 1)) if full > 1 else 0.0
    load_s = max(0.0, taken - len(rows) * image_s)
    truth = dataset.manifest.class_indices[rows]
    return Verdict(np.concatenate(parts), truth, label_smoothing, image_s, load_s)


def judge_mirrored(
    classifier: Classifier, *, rows: Rows, pixels: Pixels, progress: Progress
) -> Logits:
    """Compute the logits of mirrored val images.

    Returns:
        float32 [n, K].
    """
    batches = _stream(rows, pixels, title="measuring mirrored val images", progress=progress)
    return np.concatenate([classifier.logits(mirror(batch)) for batch in batches])


def compare_cached(
    verdict: Verdict, part: Any, *, features: Features, positions: Rows
) -> Difference:
    """Compare the path through cached features with the whole network."""
    part.compile(jit_compile=False)  # else Keras would use XLA, which is slower on a CPU
    logits = np.concatenate(
        [
            np.asarray(part.predict_on_batch(features.gather(positions[start : start + _BATCH])))
            for start in range(0, len(positions), _BATCH)
        ]
    )
    # in float64, because the logits of a diverged network are huge
    whole = verdict.logits.astype(np.float64)
    distances = np.abs(logits - whole)
    return Difference(
        mean=float(distances.mean()),
        largest=float(distances.max()),
        spread=float(whole.std()),
        other_labels=int((logits.argmax(axis=1) != verdict.logits.argmax(axis=1)).sum()),
        images=len(verdict.truth),
        accuracy=measure(logits, verdict.truth)[0],
    )


def _stream(rows: Rows, pixels: Pixels, *, title: str, progress: Progress) -> Iterator[Any]:
    """Yield decoded images in batches of 32."""
    with progress.task(title, len(rows), unit="images") as task:
        for start in range(0, len(rows), _BATCH):
            wanted = rows[start : start + _BATCH]
            yield pixels.gather(wanted)
            task.advance(len(wanted))


def measure(logits: Logits, truth: npt.NDArray[Any], *, label_smoothing: float = 0.0) -> Score:
    """Return accuracy and negative cross-entropy.

    Args:
        logits: float32 [n, K].
        truth: int [n].
        label_smoothing: Fraction of each label that is spread evenly over all classes.
    """
    values = log_softmax(logits.astype(np.float64))
    own = values[np.arange(len(truth)), truth]
    loss = (1 - label_smoothing) * own + label_smoothing * values.mean(axis=1)
    return float((logits.argmax(axis=1) == truth).mean()), float(loss.mean())
