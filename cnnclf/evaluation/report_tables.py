"""The tables of a report: predictions.csv and confusion.csv.

UTF-8; bytes of file names that are not valid UTF-8 are kept.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnclf.evaluation import metrics
from cnnclf.evaluation.predictions import Predictions
from cnnclf.files import open_csv
from cnnclf.probabilities import find_top_classes

MAX_DENSE = 1000  # up to this many labels have a column each in confusion.csv
MAX_PROBABILITY_COLUMNS = 100  # up to this many labels have a column each in predictions.csv


def write_predictions(
    path: Path, predictions: Predictions, *, labels: Sequence[str], paths: Sequence[str]
) -> None:
    """Write one line per image: path, label, predicted, probability, correct, and more columns.

    Up to `MAX_PROBABILITY_COLUMNS` labels have a column `p_LABEL` each; with more labels, there are
    columns for the next best ones: label_2, probability_2 and so on.
    """
    every = len(labels) <= MAX_PROBABILITY_COLUMNS
    columns = [f"p_{label}" for label in labels] if every else []
    for rank in range(2, 0 if every else metrics.TOP_K + 1):
        columns += [f"label_{rank}", f"probability_{rank}"]
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        write = open_csv(file)
        write(["path", "label", "predicted", "probability", "correct", *columns])
        for row, true, probabilities, order in zip(
            predictions.rows,
            predictions.class_indices,
            predictions.probabilities,
            find_top_classes(predictions.probabilities, 1 if every else metrics.TOP_K).tolist(),
            strict=True,
        ):
            top = order[0]
            cells = [f"{value:.6g}" for value in probabilities.tolist()] if every else []
            for index in order[1:]:
                cells += [labels[index], f"{probabilities[index]:.6g}"]
            write(
                [
                    paths[row],
                    labels[true],
                    labels[top],
                    f"{probabilities[top]:.6g}",
                    "true" if top == true else "false",
                    *cells,
                ]
            )


def write_confusion(path: Path, confusion: NDArray[np.int64], *, labels: Sequence[str]) -> None:
    """Write the confusion matrix with labels: true classes down, predicted classes across.

    With more than `MAX_DENSE` classes, write a line for each pair that occurs instead: label,
    predicted, count.

    Args:
        path: CSV file to write.
        confusion: int [K, K].
        labels: Names of the classes in order.
    """
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        write = open_csv(file)
        if len(labels) > MAX_DENSE:
            write(["label", "predicted", "count"])
            for true, predicted in zip(*np.nonzero(confusion), strict=True):
                count = confusion[true, predicted]
                write([labels[true], labels[predicted], count])
            return
        write(["label", *labels])
        for label, counts in zip(labels, confusion.tolist(), strict=True):
            write([label, *counts])
