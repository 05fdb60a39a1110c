"""The time of the second phase: what is left of the minutes once all evaluations are counted."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.training import tail_time
from cnnclf.training.fitting.judging import Verdict
from cnnclf.training.tail_time import find_tail_time
from tests.training.tiny_finetune import TINY, plan_tiny, tiny_backbone


def test_loading_counts_for_each_network_that_is_measured(
    shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TINY, "tail.epochs")
    logits: Any = np.zeros((7, 3), np.float32)
    verdict = Verdict(logits, np.zeros(7, int), image_s=0.01, load_s=20.0)
    with tiny_backbone():
        plan = plan_tiny(shapes, **{"training.minutes": 3})
        work: Any = SimpleNamespace(
            plan=plan, spent=lambda: 60.0, runtime=SimpleNamespace(precision="float32")
        )
        found = find_tail_time(work, verdict)
        assert found.final_s == pytest.approx(60, abs=2), "judged, tested, and between the phases"
        assert found.left_s == pytest.approx(180 - 60 - found.final_s)
        assert found.epochs == pytest.approx(found.left_s / found.epoch_s, rel=0.1)
        short = find_tail_time(work, replace(verdict, load_s=45.0))
        monkeypatch.setattr(tail_time, "count_saved", lambda _: 100)
        quick = find_tail_time(work, verdict)
    assert short.epochs == 0, "nothing is left"
    assert quick.final_s == pytest.approx(found.final_s - 100 * 0.01), "in another engine"


def test_a_bad_head_gets_more_epochs_unless_they_were_given(
    shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_time, "count_saved", lambda _: 0)
    truth = np.arange(12) % 3
    logits: Any = np.zeros((12, 3), np.float32)
    for right, epochs in ((9, 6), (7, 10)):  # of 12; 4 by guessing
        logits[:] = np.eye(3)[(truth + 1) % 3]
        logits[:right] = np.eye(3)[truth[:right]]
        verdict = Verdict(logits, truth)
        with tiny_backbone():
            plan = plan_tiny(shapes, **{"tail.epochs": 6})
            work: Any = SimpleNamespace(
                plan=plan, spent=lambda: 60.0, runtime=SimpleNamespace(precision="float32")
            )
            assert find_tail_time(work, verdict).epochs == 6
            work.plan = replace(plan, reasons={"tail.epochs": "chosen"})
            assert find_tail_time(work, verdict).epochs == epochs
            assert find_tail_time(work, None).epochs == 6
