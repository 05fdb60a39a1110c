"""What the live bar of a training shows at every width, recorded with numbers masked."""

import os
import re

import pytest

from tests.terminal.terminal import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")

TRAINING = ("training", "epoch 10/60, loss 0.1234")
PREDICTING = ("predict", "bottleneck: decoding")

RECORDED = {
    (40, TRAINING): "training #/# #",
    (60, TRAINING): "training # images/s # epoch #/#, loss #",
    (80, TRAINING): "training ━ # images/s # epoch #/#, loss #",
    (120, TRAINING): "training ━ #/# # images/s # epoch #/#, loss #",
    (60, PREDICTING): "predict #/# # images/s #",
    (80, PREDICTING): "predict ━ #/# # images/s #",
    (120, PREDICTING): "predict ━ #/# # images/s # bottleneck: decoding",
}


@pytest.mark.parametrize(("columns", "task"), RECORDED)
def test_the_bar_shows_epoch_rate_time_left_and_loss(columns: int, task: tuple[str, str]) -> None:
    shown = run(*task, columns=columns, module="tests.terminal.training_bar")
    assert shown.code == 0
    frames = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.stderr))
    last = [line.rstrip() for line in frames if line.startswith(f"{task[0]} ")][-1]
    assert len(last) <= columns
    assert "…" not in last
    masked = re.sub(r"\d(?:[\d,.:]*\d)?", "#", re.sub("[━╸╺]+", "━", last))
    assert re.sub(r" +", " ", masked) == RECORDED[columns, task], last
