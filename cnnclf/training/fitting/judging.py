"""What a checkpoint comes to on val through the whole network, as whoever uses it will see it.

Epochs are judged by what their phase trains on, such as features computed by another engine in
short numbers. Phases are judged by the saved network itself, so that a difference between the two
ways can neither hide nor decide.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.probabilities import log_softmax
from cnnclf.progress import Progress
from cnnclf.training.fitting.state import Score
from cnnclf.training.frozen.features import Features

Logits = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

_MOST_IMAGES = 2000
_OTHER_LABELS = 0.05  # bfloat16 changes about one label in a hundred of a head that is half trained
_BATCH = 32
_STREAM = 5  # chance of its own


@dataclass(frozen=True)
class Verdict:
    """What a network says of val images.

    Args:
        logits: float32 [n, K].
        truth: The class of each, int [n].
        label_smoothing: Of the loss that epochs are judged by.
    """

    logits: Logits
    truth: npt.NDArray[Any]
    label_smoothing: float = 0.0

    @property
    def score(self) -> Score:
        """Accuracy and negative loss, as of an epoch."""
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
    """How far two ways through the same network are apart.

    Args:
        mean: Mean absolute difference of a logit.
        largest: The largest one.
        spread: Standard deviation of the logits, to compare with.
        other_labels: Images that get another label.
        images: How many there are.
        accuracy: Of the other way.
    """

    mean: float
    largest: float
    spread: float
    other_labels: int
    images: int
    accuracy: float

    @property
    def is_large(self) -> bool:
        """Whether it is more than short numbers explain."""
        return self.other_labels > max(2, _OTHER_LABELS * self.images)

    @property
    def words(self) -> str:
        """The same in a few words."""
        return (
            f"{self.accuracy:.4f} from cached features ({self.other_labels} of {self.images:,} "
            f"labels differ; logits, which spread by {self.spread:.2g}, by {self.mean:.2g} on "
            f"average and {self.largest:.2g} at most)"
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
    """Choose by which val images phases are judged: all, or 2,000 of them.

    Args:
        rows: Those of the val split.
        seed: Where chance begins.

    Returns:
        Positions among the rows, in order.
    """
    if len(rows) <= _MOST_IMAGES:
        return np.arange(len(rows))
    rng = np.random.default_rng((_STREAM, seed))
    return np.sort(rng.permutation(len(rows))[:_MOST_IMAGES])


def judge_checkpoint(
    checkpoint: Path,
    dataset: Dataset,
    rows: Rows,
    pixels: Pixels,
    *,
    label_smoothing: float,
    progress: Progress,
) -> Verdict:
    """Ask a saved network for its logits, through the same door as everybody.

    Args:
        checkpoint: A bundle.
        dataset: Where the images are from.
        rows: Which ones.
        pixels: They, decoded.
        label_smoothing: Of the loss that epochs are judged by.
        progress: Told the images.
    """
    classifier = Classifier.load(checkpoint)
    parts = []
    with progress.task("measuring on val", len(rows), unit="images") as task:
        for start in range(0, len(rows), _BATCH):
            wanted = rows[start : start + _BATCH]
            parts.append(classifier.logits(pixels.gather(wanted)))
            task.advance(len(wanted))
    truth = dataset.manifest.class_indices[rows]
    return Verdict(np.concatenate(parts), truth, label_smoothing)


def compare_cached(verdict: Verdict, part: Any, features: Features, positions: Rows) -> Difference:
    """Compare the way through cached features with the whole network.

    Args:
        verdict: Of the whole network.
        part: The part of the same network behind the features.
        features: Of the val split.
        positions: Those of the judged images in it.
    """
    part.compile(jit_compile=False)  # else Keras would hand the graph to XLA, slower on a CPU
    logits = np.concatenate(
        [
            np.asarray(part.predict_on_batch(features.gather(positions[start : start + _BATCH])))
            for start in range(0, len(positions), _BATCH)
        ]
    )
    # in float64, because those of a network that went astray are huge
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


def measure(logits: Logits, truth: npt.NDArray[Any], *, label_smoothing: float = 0.0) -> Score:
    """Return accuracy and negative cross-entropy.

    Args:
        logits: float32 [n, K].
        truth: int [n].
        label_smoothing: Part of each label that is spread evenly over all classes.
    """
    values = log_softmax(logits.astype(np.float64))
    own = values[np.arange(len(truth)), truth]
    loss = (1 - label_smoothing) * own + label_smoothing * values.mean(axis=1)
    return float((logits.argmax(axis=1) == truth).mean()), float(loss.mean())
