"""The curves, compared with scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cnnclf.errors import RunError
from cnnclf.reporting.prediction_table import read_predictions, trace_class
from tests.reporting.made_runs import add_evaluation

LABELS = ["a", "b,c", 'd"']


def test_curves_agree_with_scikit_learn(tmp_path: Path) -> None:
    truth = np.arange(500) % 3
    # rounding makes ties, which both curves have to treat as one step
    probabilities = add_evaluation(tmp_path, LABELS, [f"{i}" for i in range(500)], truth, skill=1)
    table = read_predictions(tmp_path / "evaluation/test/predictions.csv", LABELS)
    assert table.probabilities is not None
    np.testing.assert_allclose(table.probabilities, probabilities, rtol=1e-5)
    table.probabilities[:] = table.probabilities.round(1)
    for index in range(3):
        curves = trace_class(table, index)
        assert curves is not None
        own, scores = truth == index, table.probabilities[:, index]
        assert curves.area == pytest.approx(roc_auc_score(own, scores))
        assert curves.average_precision == pytest.approx(average_precision_score(own, scores))
        assert curves.roc[0] == (0, 0)
        assert curves.roc[-1] == (1, 1)


def test_names_with_line_ends_survive(tmp_path: Path) -> None:
    labels, paths = ["a\rb", "c\nd", 'e"'], ["x\ry.png", "x\r\ny.png", "z.png"]
    add_evaluation(tmp_path, labels, paths, np.arange(3))
    table = read_predictions(tmp_path / "evaluation/test/predictions.csv", labels)
    assert list(table.paths) == paths
    assert list(table.truth) == [0, 1, 2]


def test_unknown_labels_are_damage(tmp_path: Path) -> None:
    add_evaluation(tmp_path, LABELS, ["0"], np.array([0]))
    with pytest.raises(RunError, match="damaged"):
        read_predictions(tmp_path / "evaluation/test/predictions.csv", ["other", "labels", "!"])
