"""The table of metrics: conformance of every row, hand-computed values, and the details."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cnnclf.evaluation.confusions import class_scores, confused_pairs, confusion_counts
from cnnclf.evaluation.metrics import (
    METRICS,
    Metric,
    build_metrics,
    calibration_bins,
    effective_top_k,
    measure,
    top_k_accuracy,
    wilson_interval,
)

Case = tuple[NDArray[np.int64], NDArray[np.float64]]

# Six images, four classes, of which d has no image but is predicted once.
TRUTH = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.70, 0.10, 0.10, 0.10],
        [0.40, 0.30, 0.20, 0.10],
        [0.20, 0.50, 0.20, 0.10],
        [0.10, 0.80, 0.05, 0.05],
        [0.30, 0.25, 0.05, 0.40],
        [0.10, 0.20, 0.60, 0.10],
    ]
)
BY_HAND = {
    "accuracy": 4 / 6,
    "balanced_accuracy": (2 / 3 + 1 / 2 + 1) / 3,
    "top_k_accuracy": 1.0,  # of three: each true label is among them
    # a: P 1, R 2/3; b: P 1/2, R 1/2; c: P 1, R 1
    "macro_f1": (0.8 + 0.5 + 1.0) / 3,
    "log_loss": -sum(math.log(p) for p in (0.7, 0.4, 0.2, 0.8, 0.25, 0.6)) / 6,
    # bins of 1/15: two images at 0.4 (one wrong), and one each at 0.5 (wrong), 0.6, 0.7, 0.8
    "ece": (2 * abs(0.5 - 0.4) + 0.5 + 0.4 + 0.3 + 0.2) / 6,
    # by confidence: three right, one wrong, and a tie of one right and one wrong
    "aurc": (1 / 4 + 1.5 / 5 + 2 / 6) / 6,
    "augrc": (1 + 1.5 + 2) / 36,
}


def _ids(metric: Metric) -> str:
    return metric.name


def _ideal(metric: Metric) -> float:
    """The value of a perfect and fully confident prediction."""
    return 0.0 if metric.name in {"log_loss", "ece", "aurc", "augrc"} else 1.0


def _draw_case() -> st.SearchStrategy[Case]:
    """Probabilities in 64ths, so that ties and exact zeros occur."""

    def build(shape: tuple[int, int]) -> st.SearchStrategy[Case]:
        n, classes = shape
        return st.tuples(
            arrays(np.int64, n, elements=st.integers(0, classes - 1)),
            arrays(np.float64, (n, classes), elements=st.integers(0, 64).map(float)).map(
                lambda raw: (
                    (raw + (raw.sum(axis=1, keepdims=True) == 0))
                    / (raw + (raw.sum(axis=1, keepdims=True) == 0)).sum(axis=1, keepdims=True)
                )
            ),
        )

    return st.tuples(st.integers(1, 12), st.integers(2, 6)).flatmap(build)


def test_the_table_names_each_metric_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert set(names) == set(BY_HAND)
    assert all(metric.summary and not metric.summary.endswith(".") for metric in METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=_ids)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_perfect_prediction_is_ideal(metric: Metric, classes: int) -> None:
    truth = np.arange(classes).repeat(3)
    value = metric.value(truth, np.eye(classes)[truth])
    assert value == pytest.approx(_ideal(metric), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=_ids)
def test_a_wholly_wrong_prediction_is_far_from_ideal(metric: Metric) -> None:
    truth = np.arange(7).repeat(3)
    value = metric.value(truth, np.eye(7)[(truth + 1) % 7] * 0.99 + 0.01 / 7)
    assert abs(value - _ideal(metric)) > 0.1


@pytest.mark.parametrize("metric", METRICS, ids=_ids)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hand_computed_values(metric: Metric, dtype: Any) -> None:
    value = metric.value(TRUTH, PROBABILITIES.astype(dtype))
    assert value == pytest.approx(BY_HAND[metric.name], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(case=_draw_case())
def test_values_stay_in_range_and_are_plain_floats(case: Case) -> None:
    for metric in METRICS:
        value = metric.value(*case)
        assert type(value) is float
        highest = math.inf if metric.name == "log_loss" else 1.0
        assert -1e-12 <= value <= highest + 1e-12, metric.name
        assert math.isfinite(value)


@settings(max_examples=40, deadline=None)
@given(case=_draw_case(), seed=st.integers(0, 1000))
def test_the_order_of_images_does_not_matter(case: Case, seed: int) -> None:
    truth, probabilities = case
    order = np.random.default_rng(seed).permutation(len(truth))
    assert measure(truth[order], probabilities[order]) == pytest.approx(
        measure(truth, probabilities), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(case=_draw_case(), seed=st.integers(0, 1000))
def test_the_order_of_classes_does_not_matter_without_ties(case: Case, seed: int) -> None:
    truth, probabilities = case
    rng = np.random.default_rng(seed)
    probabilities = probabilities + rng.random(probabilities.shape) * 1e-6
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    order = rng.permutation(probabilities.shape[1])
    position = np.argsort(order)
    assert measure(position[truth], probabilities[:, order]) == pytest.approx(
        measure(truth, probabilities), abs=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(case=_draw_case())
def test_a_class_nobody_is_of_and_nobody_predicts_changes_nothing(case: Case) -> None:
    truth, probabilities = case
    with_one_more = np.hstack([probabilities, np.zeros((len(truth), 1))])
    expected = measure(truth, probabilities)
    found = measure(truth, with_one_more)
    expected.pop("top_k_accuracy"), found.pop("top_k_accuracy")  # k may now be one more
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(case=_draw_case())
def test_top_1_is_the_accuracy_and_top_k_never_falls(case: Case) -> None:
    values = [top_k_accuracy(*case, top_k=k) for k in range(1, 7)]
    assert values[0] == measure(*case)["accuracy"]
    assert values == sorted(values)


def test_top_k_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import top_k_accuracy_score

    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, 9, 200), rng.dirichlet(np.ones(9), 200)
    for k in (1, 2, 5, 8):
        expected = top_k_accuracy_score(truth, probabilities, k=k, labels=np.arange(9))
        assert top_k_accuracy(truth, probabilities, top_k=k) == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "drawn"), [(2, 2), (9, 9), (9, 4)])
def test_metrics_and_class_scores_agree_with_scikit_learn(classes: int, drawn: int) -> None:
    from sklearn import metrics as sklearn_metrics

    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, drawn, 200), rng.dirichlet(np.ones(classes), 200)
    probabilities[:20] = np.eye(classes)[rng.integers(0, classes, 20)]  # with zeros
    predicted, present = probabilities.argmax(axis=1), np.unique(truth)
    averaged = {"labels": present, "average": "macro", "zero_division": 0}
    found = measure(truth, probabilities)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    for name, score in (("balanced_accuracy", "recall_score"), ("macro_f1", "f1_score")):
        expected = getattr(sklearn_metrics, score)(truth, predicted, **averaged)
        assert found[name] == pytest.approx(expected)
    expected = sklearn_metrics.log_loss(truth, probabilities, labels=np.arange(classes))
    assert found["log_loss"] == pytest.approx(expected)
    expected = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=np.arange(classes), zero_division=np.nan
    )
    rows = class_scores(truth, predicted, labels=[str(each) for each in range(classes)])
    columns = [
        [math.nan if each is None else each for each in (row.precision, row.recall, row.f1)]
        for row in rows
    ]
    np.testing.assert_allclose(np.array(columns).T, expected[:3])
    assert [row.support for row in rows] == expected[3].tolist()


def test_the_k_of_the_table_can_be_chosen() -> None:
    row = next(metric for metric in build_metrics(top_k=1) if metric.name == "top_k_accuracy")
    assert "among the 1 most probable" in row.summary
    assert row.value(TRUTH, PROBABILITIES) == pytest.approx(BY_HAND["accuracy"])
    assert row.title == "top-1 accuracy"
    assert [metric.name for metric in build_metrics(3)] == [metric.name for metric in METRICS]


@pytest.mark.parametrize(("top_k", "classes", "expected"), [(5, 10, 5), (5, 5, 4), (5, 2, 1)])
def test_top_k_never_counts_all_classes(top_k: int, classes: int, expected: int) -> None:
    assert effective_top_k(top_k, classes) == expected


def test_no_warning_leaks_from_absent_classes_and_float32_rows() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(50), 5000).astype(np.float32)
    truth = rng.integers(0, 3, 5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = measure(truth, probabilities)
        scores = class_scores(
            truth, probabilities.argmax(axis=1), labels=[str(i) for i in range(50)]
        )
    assert all(math.isfinite(value) for value in values.values())
    assert sum(row.support for row in scores) == 5000


def test_log_loss_of_many_rows_equals_the_formula() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 10_000)
    truth = rng.integers(0, 3, 10_000)
    expected = -np.log(probabilities[np.arange(10_000), truth]).mean()
    assert measure(truth, probabilities)["log_loss"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [
        (np.zeros(0, np.int64), np.zeros((0, 2))),
        (np.zeros(2, np.int64), np.ones((2, 1))),
        (np.zeros(2, np.int64), np.ones((3, 2)) / 2),
    ],
)
@pytest.mark.parametrize("metric", METRICS, ids=_ids)
def test_shapes_that_do_not_fit_are_refused(
    metric: Metric, truth: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        metric.value(truth, probabilities)


def test_class_scores_by_hand() -> None:
    rows = class_scores(TRUTH, PROBABILITIES.argmax(axis=1), labels=["a", "b", "c", "d"])
    assert [row.label for row in rows] == ["a", "b", "c", "d"]
    assert [row.support for row in rows] == [3, 2, 1, 0]
    assert [row.predicted for row in rows] == [2, 2, 1, 1]
    assert [row.precision for row in rows] == [1.0, 0.5, 1.0, 0.0]
    assert [row.recall for row in rows] == [pytest.approx(2 / 3), 0.5, 1.0, None]
    assert [row.f1 for row in rows] == [pytest.approx(0.8), 0.5, 1.0, 0.0]


def test_undefined_scores_are_none() -> None:
    rows = class_scores(np.array([0, 1]), np.array([0, 0]), labels=["a", "b", "c"])
    assert (rows[1].precision, rows[1].recall, rows[1].f1) == (None, 0.0, 0.0)
    assert (rows[2].precision, rows[2].recall, rows[2].f1) == (None, None, None)


def test_confusion_keeps_every_class_in_its_place() -> None:
    counts = confusion_counts(TRUTH, PROBABILITIES.argmax(axis=1), classes=4)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_confused_pairs_are_ordered_by_count_then_share() -> None:
    confusion = np.array([[8, 2, 0], [2, 2, 0], [0, 5, 1]])
    pairs = confused_pairs(confusion, ["a", "b", "c"], limit=10)
    assert [(p.label, p.predicted, p.count) for p in pairs] == [
        ("c", "b", 5),
        ("b", "a", 2),
        ("a", "b", 2),
    ]
    assert [p.share for p in pairs] == pytest.approx([5 / 6, 0.5, 0.2])
    assert len(confused_pairs(confusion, ["a", "b", "c"], limit=1)) == 1
    assert confused_pairs(np.eye(3, dtype=np.int64), ["a", "b", "c"], limit=5) == []
    assert confusion[0, 0] == 8  # the caller's matrix is left alone


def test_calibration_bins_hold_every_image_once() -> None:
    rows = calibration_bins(TRUTH, PROBABILITIES)
    assert len(rows) == 15
    assert sum(row.count for row in rows) == len(TRUTH)
    assert all((row.accuracy is None) == (row.count == 0) for row in rows)
    assert all(
        row.lower < row.mean_probability <= row.upper
        for row in rows
        if row.mean_probability is not None
    )


def test_a_certain_prediction_falls_in_the_last_bin() -> None:
    rows = calibration_bins(np.array([0]), np.array([[1.0, 0.0]]))
    assert rows[-1].count == 1


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Values from the closed form worked out with z = 1.959964.
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (5, 10, 0.23659, 0.76341),
        (970, 1000, 0.95750, 0.97891),
        (1, 1, 0.20655, 1.0),
    ],
)
def test_wilson_interval_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=2e-5)


@settings(max_examples=80, deadline=None)
@given(total=st.integers(1, 10_000), data=st.data())
def test_wilson_interval_is_symmetric_and_holds_the_share(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert high - low > 0
    mirrored_low, mirrored_high = wilson_interval(total - correct, total)
    assert (1 - mirrored_high, 1 - mirrored_low) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_impossible_counts(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson_interval(correct, total)


def test_wilson_interval_covers_what_it_promises() -> None:
    rng = np.random.default_rng(1)
    hits = rng.binomial(50, 0.9, 2000)
    intervals = [wilson_interval(int(hit), 50) for hit in hits]
    covered = np.mean([low <= 0.9 <= high for low, high in intervals])
    assert 0.93 < covered < 0.98
