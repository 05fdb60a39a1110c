"""Suspicious labels: how they are ranked, and planted ones among them."""

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.quality.network_features import NetworkFeatures
from cnnclf.quality.suspects import (
    Judgement,
    _find_doubtful,
    _find_unjudged,
    _reduce,
    cross_validate_labels,
    describe_judge,
    find_suspects,
)


def judge(
    last: npt.NDArray[np.float64],
    given: npt.NDArray[np.int32],
    stages: npt.NDArray[np.float64] | None = None,
) -> Judgement:
    stages = last[:, :0] if stages is None else stages
    features = NetworkFeatures(last.astype(np.float16), stages.astype(np.float16))
    return cross_validate_labels(features, given, units=np.arange(len(given)))


def test_a_label_without_any_probability_is_more_suspicious_than_a_second_choice() -> None:
    found = np.array([[0.2, 0.75, 0.05], [0.001, 0.5, 0.499], [0.9, 0.1, 0], [np.nan] * 3], "f4")
    margins = Judgement(found, 0.0, 1).margins(np.zeros(4, np.int32))
    assert margins[:3].argsort().tolist() == [1, 0, 2]
    np.testing.assert_allclose(margins[:3], [-0.55 / 0.95, -0.499 / 0.501, 0.8], rtol=1e-5)
    assert np.isnan(margins[3])


@pytest.mark.parametrize("known", [True, False])
def test_nothing_is_judged_where_there_is_nothing_to_learn_from(known: bool) -> None:
    last = np.full((6, 8), known, np.float16)
    features = NetworkFeatures(last, last[:, :0])
    given = np.arange(6, dtype=np.int32) % 2
    found = cross_validate_labels(features, given, units=np.zeros(6, np.int64))
    assert np.isnan(found.accuracy)
    assert find_suspects(found, given) == []


def test_replaced_labels_come_first() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    features = rng.normal(size=(300, 20)) + 4 * np.eye(20)[truth]
    given = truth.astype(np.int32)
    given[:12] = (given[:12] + 1) % 3
    judgement = judge(features, given)
    suspects = find_suspects(judgement, given)
    assert {row for row, _, _ in suspects[:10]} <= set(range(12))
    assert all(better == truth[row] for row, better, _ in suspects[:10])
    assert [margin for *_, margin in suspects] == sorted(margin for *_, margin in suspects)


def test_nothing_is_learned_from_a_contradicted_label_but_no_class_loses_most_of_its_images() -> (
    None
):
    labels = np.array([0] * 4 + [1] * 4)
    sure, wrong = [0.9, 0.1], [0.1, 0.9]
    found = np.array([sure, sure, sure, wrong, wrong, sure, sure, sure], "f4")
    assert _find_doubtful(found, labels).tolist() == [False] * 3 + [True] + [False] * 4


def test_contradicted_labels_do_not_teach_their_error_the_second_time() -> None:
    rng = np.random.default_rng(4)
    truth = np.arange(400) % 4
    features = rng.normal(size=(400, 20)) + 2.2 * np.eye(20)[truth]
    given = truth.astype(np.int32)
    given[np.flatnonzero(truth == 0)[:35]] = 1  # a third of class 0
    judgement = judge(features, given)
    right = (judgement.probabilities.argmax(axis=1) == truth).mean()
    assert right > 0.81  # 0.798 where every label is learned from, 0.825 here


@pytest.mark.parametrize("count", [300, 3000])  # fewer and more images than features
def test_what_only_earlier_stages_see_is_judged_in_any_units(count: int) -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(count) % 3
    stages = 0.01 * (rng.normal(size=(count, 40)) + rng.normal(0, 2, (3, 40))[truth])
    given = truth.astype(np.int32)
    given[:12] = (given[:12] + 1) % 3
    last = 50 + 20 * rng.normal(size=(count, 300))
    last[-1] = 0  # an image that could not be decoded
    judgement = judge(last, given, stages)
    assert np.isnan(judgement.probabilities[-1]).all()
    suspects = find_suspects(judgement, given)
    assert {row for row, _, _ in suspects[:10]} <= set(range(12))
    assert all(better == truth[row] for row, better, _ in suspects[:10])


def test_labels_of_classes_with_too_few_images_are_not_judged() -> None:
    rng = np.random.default_rng(5)
    given = np.array([0] * 60 + [1] * 60 + [2] * 3 + [3] * 8, np.int32)
    truth = np.where(given == 2, 1, given)  # rare, and no different from a large class
    features = rng.normal(size=(len(given), 20)) + 6 * np.eye(20)[truth]
    judgement = judge(features, given)
    assert judgement.unjudged == (2,), "the other rare class is well known"
    assert "of rare classes it knows too little to judge: heron" in describe_judge(
        1, 3, unjudged=["heron"]
    )


def test_copies_of_few_images_are_few() -> None:
    labels, hits = np.repeat([0, 1], 20), np.zeros(40, np.bool_)
    units = np.where(labels == 1, 100 + np.arange(40) % 3, np.arange(40))
    assert _find_unjudged(hits, labels, units=units).tolist() == [False, True]
    assert not _find_unjudged(~hits, labels, units=units).any()


def test_main_directions_do_not_depend_on_which_matrix_is_smaller() -> None:
    rng = np.random.default_rng(2)
    features = (3 + rng.normal(size=(60, 60)) * np.linspace(0.5, 2, 60)).astype(np.float16)

    one, two = _reduce(features[:59]), _reduce(np.concatenate([features[:59]] * 2))
    np.testing.assert_allclose(one @ one.T, (two @ two.T)[:59, :59], atol=1e-2)
