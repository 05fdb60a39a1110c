"""Rows of the history and requests of listeners."""

import math
from dataclasses import replace

import pytest

from cnnclf.training.epochs import EpochListener, EpochRow, StopRequest, notify

ROW = EpochRow(
    epoch=2,
    phase="train",
    loss=0.7,
    accuracy=0.5,
    val_loss=0.6,
    val_accuracy=0.75,
    learning_rate=1e-3,
    seconds=0.25,
    data_wait_s=0.0,
)


def test_a_row_comes_back_from_its_columns() -> None:
    columns = ROW.to_dict()
    assert list(columns) == [
        "epoch",
        "phase",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
        "data_wait_s",
    ]
    assert EpochRow.from_dict(columns) == ROW
    with pytest.raises(TypeError):
        EpochRow.from_dict({"epoch": 1})


def test_the_score_is_that_on_val_or_else_the_newest() -> None:
    assert ROW.score == (0.75, -0.6)
    without_val = EpochRow.from_dict(ROW.to_dict() | {"val_loss": None, "val_accuracy": None})
    assert without_val.score == (2.0, 0.0)
    for loss in (math.nan, None):  # null in the JSON of a run that is resumed
        assert replace(ROW, val_loss=loss).score == (0.75, -math.inf)


@pytest.mark.parametrize(
    ("asked", "strongest"),
    [
        ([], None),
        ([None, None], None),
        ([None, StopRequest.STOP], StopRequest.STOP),
        ([StopRequest.PRUNE, StopRequest.STOP], StopRequest.PRUNE),
    ],
)
def test_every_listener_receives_the_epoch_and_the_strongest_request_counts(
    asked: list[StopRequest | None], strongest: StopRequest | None
) -> None:
    received = []

    def listen(answer: StopRequest | None) -> EpochListener:
        def listener(row: EpochRow, is_best: bool) -> StopRequest | None:
            received.append((row, is_best))
            return answer

        return listener

    assert notify([listen(answer) for answer in asked], ROW, is_best=True) is strongest
    assert received == [(ROW, True)] * len(asked)
