"""predictions.csv of an evaluation, and the curves that are drawn from it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError

Floats = npt.NDArray[np.float64]
MAX_POINTS = 200  # of a curve; more cannot be seen


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """The predictions of an evaluation.

    Args:
        paths: n paths, as in the manifest.
        truth: int [n], true classes.
        predicted: int [n].
        probability: float [n], of the predicted class.
        probabilities: float [n, K]; None with more classes than predictions.csv has columns for.
    """

    paths: Sequence[str]
    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    probability: Floats
    probabilities: Floats | None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Whether each image is labeled correctly, bool [n]."""
        return np.asarray(self.truth == self.predicted)

    def find_worst(self, limit: int) -> npt.NDArray[np.intp]:
        """Return the mistakes with the highest probability."""
        wrong = np.flatnonzero(~self.is_right)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")][:limit]

    def find_least_sure(self, limit: int) -> npt.NDArray[np.intp]:
        """Return the images with the lowest probability."""
        return np.argsort(self.probability, kind="stable")[:limit]


def read_predictions(path: Path, labels: Sequence[str]) -> PredictionTable:
    """Read predictions.csv.

    Raises:
        RunError: It is missing, damaged, or has labels that the classifier does not have.
    """
    indices = {label: index for index, label in enumerate(labels)}
    columns = [f"p_{label}" for label in labels]
    paths, classes, tops, rows = [], [], [], []
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header = next(reader)
            at = [header.index(name) for name in ("path", "label", "predicted", "probability")]
            has_all = header[-len(columns) :] == columns
            for row in reader:
                paths.append(row[at[0]])
                classes.append((indices[row[at[1]]], indices[row[at[2]]]))
                tops.append(float(row[at[3]]))
                if has_all:
                    rows.append(np.array(row[-len(columns) :], dtype=np.float64))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing", "evaluate again: cnnclf evaluate RUN") from error
    except (OSError, ValueError, LookupError, StopIteration, csv.Error) as error:
        reason = getattr(error, "strerror", None) or (
            f"line {len(paths) + 1} is not a row of it, or has other labels than the model"
        )
        raise RunError(
            f"{path} is damaged: {reason}", "evaluate again: cnnclf evaluate RUN"
        ) from error
    pairs = np.array(classes, dtype=np.int64).reshape(-1, 2)
    return PredictionTable(
        paths, pairs[:, 0], pairs[:, 1], np.array(tops), np.stack(rows) if rows else None
    )


def trace_class(table: PredictionTable, index: int) -> "ClassCurves | None":
    """Compute ROC and precision-recall curve of one class against the others.

    Returns:
        None without probabilities, images of the class, or other images.
    """
    if table.probabilities is None:
        return None
    scores, is_own = table.probabilities[:, index], table.truth == index
    own, others = int(is_own.sum()), int((~is_own).sum())
    if not own or not others:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(is_own[order])[ends]
    taken = ends + 1
    recall, false = hits / own, (taken - hits) / others
    precision = hits / taken
    recalls, falses = np.append(0.0, recall), np.append(0.0, false)
    area = float(np.sum(np.diff(falses) * (recalls[1:] + recalls[:-1]) / 2))
    average = float(np.sum(np.diff(recalls) * precision))
    return ClassCurves(_thin(falses, recalls), _thin(recall, precision), area, average)


@dataclass(frozen=True)
class ClassCurves:
    """The curves of one class against the others.

    Args:
        roc: (false positive rate, recall) from (0, 0) to (1, 1).
        precision: (recall, precision).
        area: Area under the ROC curve; 0.5 is guessing.
        average_precision: Mean precision over the steps of recall, without interpolation.
    """

    roc: list[tuple[float, float]]
    precision: list[tuple[float, float]]
    area: float
    average_precision: float


def _thin(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """Keep at most `MAX_POINTS` points, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).round().astype(np.intp))
    return [(float(x[i]), float(y[i])) for i in kept]
