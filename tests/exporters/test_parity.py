"""The verdict on an export: what is lost, what differs, and which labels change."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.evaluation.predictions import stream_logits
from cnnclf.exporters import parity as parity_module
from cnnclf.exporters.parity import FLOAT_TIES, FLOAT_TOLERANCES, Parity, _Answers, _judge
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Silent

COUNT = 2000
SPREAD = 10.0


def _answer(logits: np.ndarray) -> _Answers:
    values = logits.astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return _Answers(np.arange(len(logits)), values, probabilities, 100.0, 10.0)


def _judge_flips(flips: int, gap: float, quantize: str | None, **changed: Any) -> Parity:
    """Judge outputs of which some have another best label, all as close as the gap."""
    before = np.tile([0.0, 4.0, -SPREAD / 2], (COUNT, 1))
    before[0] = [SPREAD / 2, 0, -SPREAD / 2]
    before[1 : flips + 1] = [3.0, 3.0 + gap * SPREAD, -1.0]
    after = before.copy()
    after[1 : flips + 1, 0] += 1.5 * gap * SPREAD
    truth = np.full(COUNT, 2)  # of neither label, so that no accuracy is lost
    given: dict[str, Any] = {
        "truth": truth,
        "failed": 0,
        "output": "logits",
        "settings": ExportConfig(format="keras", quantize=quantize),
        "sizes": (2, 1),
    }
    return _judge(_answer(before), _answer(after), **(given | changed))


QUANTIZE = pytest.mark.parametrize("quantize", FLOAT_TOLERANCES)


@QUANTIZE
@pytest.mark.parametrize("flips", [0, 2, 3, 200])
def test_labels_that_change_are_found_though_outputs_hardly_differ(
    quantize: str | None, flips: int
) -> None:
    gap = 4 * FLOAT_TIES[quantize]
    parity = _judge_flips(flips, gap, quantize)
    assert parity.difference / parity.spread < FLOAT_TOLERANCES[quantize].difference
    assert parity.agreement == pytest.approx(1 - flips / COUNT)
    assert parity.ties == 0
    if flips <= 2:  # 99.9 % of 2,000
        assert parity.problems == ()
    else:
        [problem] = parity.problems
        kept = 100 * (1 - flips / COUNT)
        assert problem == f"{kept:.2f} % of the images keep their label (limit 99.9 %)"


@QUANTIZE
def test_what_is_equal_but_for_rounding_may_go_either_way_and_is_counted(
    quantize: str | None,
) -> None:
    parity = _judge_flips(200, 0.5 * FLOAT_TIES[quantize], quantize)
    assert parity.problems == ()
    assert parity.agreement == pytest.approx(0.9)
    assert parity.ties == 200
    assert parity.limits["tie"] == FLOAT_TIES[quantize]
    assert parity.to_dict()["ties"] == 200


def test_ties_do_not_make_up_for_other_changes() -> None:
    answers = []
    for flips, gap in ((20, 0.5 * FLOAT_TIES[None]), (20, 4 * FLOAT_TIES[None])):
        before = np.tile([3.0, 3.0 + gap * SPREAD, -7.0], (flips, 1))
        after = before + np.array([1.5 * gap * SPREAD, 0.0, 0.0])
        answers.append((before, after))
    same = np.tile([3.0, 0.0, -7.0], (960, 1))
    before = np.concatenate([answers[0][0], answers[1][0], same])
    after = np.concatenate([answers[0][1], answers[1][1], same])
    parity = _judge(
        _answer(before),
        _answer(after),
        truth=np.full(1000, 2),
        failed=0,
        output="logits",
        settings=ExportConfig(format="keras"),
        sizes=(2, 1),
    )
    assert parity.ties == 20
    [problem] = parity.problems
    assert problem == "98.00 % of the images keep their label or are ties (limit 99.9 %)"


def test_the_margin_is_far_below_what_outputs_may_differ_by() -> None:
    assert FLOAT_TIES.keys() == FLOAT_TOLERANCES.keys()
    for quantize, margin in FLOAT_TIES.items():
        assert margin <= FLOAT_TOLERANCES[quantize].difference / 10


def test_8_bits_are_judged_by_accuracy_alone() -> None:
    parity = _judge_flips(200, 0.01, "int8")
    assert parity.problems == ()
    assert parity.agreement == pytest.approx(0.9)
    assert parity.ties == 0
    assert parity.limits == {"max_drop": 0.5}
    parity = _judge_flips(200, 0.01, "int8", truth=np.ones(COUNT, int))
    [problem] = parity.problems
    assert problem.startswith("accuracy is 10.00 points lower, 200 of 2,000")


def test_probabilities_are_judged_likewise() -> None:
    parity = _judge_flips(200, 4e-5, None, output="probabilities")
    assert parity.agreement == pytest.approx(0.9)
    assert parity.problems


def test_images_per_second_are_those_of_the_whole_split_after_the_first_batch(
    classifier: Classifier, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set to a hundredth of a second for each image that is computed."""
    computed = 0

    def stream(*arguments: Any, **settings: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal computed
        for rows, logits in stream_logits(*arguments, **settings):
            computed += len(rows)
            yield rows, logits

    monkeypatch.setattr(parity_module, "stream_logits", stream)
    monkeypatch.setattr(
        parity_module, "time", SimpleNamespace(perf_counter=lambda: 5 + computed / 100)
    )
    parity = parity_module.compare_models(
        classifier,
        classifier,
        dataset=dataset,
        settings=ExportConfig(format="keras"),
        sizes=(1, 1),
        progress=Silent(),
    )
    for side in (parity.before, parity.after):
        assert side.images_per_s == pytest.approx(100)
    assert computed == 4 * 18
    assert (parity.agreement, parity.difference, parity.problems) == (1, 0, ())


def test_the_time_of_one_image_is_the_median_without_the_first(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by what a call is said to take: the first compiles, one is disturbed."""
    now, costs = 0.0, iter([9.0, 0.02, 0.02, 0.8, 0.02, 0.02, *[0.02] * 100])

    def logits(pixels: np.ndarray) -> np.ndarray:
        nonlocal now
        now += next(costs)
        return pixels

    monkeypatch.setattr(classifier, "logits", logits)
    monkeypatch.setattr(parity_module, "time", SimpleNamespace(perf_counter=lambda: now))
    assert parity_module._time_one(classifier) == pytest.approx(0.02)
