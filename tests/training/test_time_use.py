"""The line that says what the time was spent on."""

from dataclasses import replace
from pathlib import Path

import pytest

from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run
from cnnclf.training.epochs import EpochRow
from cnnclf.training.time_use import TimeUse, describe_use

ROW = EpochRow(1, "train", 1.0, 0.5, None, None, 0.1, seconds=8.0, data_wait_s=0.4)


@pytest.mark.parametrize(
    ("wait_s", "parts", "is_advised"),
    [
        (0.4, "20 % starting, 4 % waiting for images, 76 % computing", False),
        (6.0, "20 % starting, 60 % waiting for images, 20 % computing", True),
        (99.0, "20 % starting, 80 % waiting for images, 0 % computing", True),
    ],
)
def test_fractions_add_up_and_advice_is_for_those_who_wait(
    wait_s: float, parts: str, is_advised: bool
) -> None:
    line = describe_use(replace(ROW, data_wait_s=wait_s), 10.0)
    assert line.startswith(f"time up to the end of the first epoch, 10.0 s: {parts}")
    assert ("--cache ram" in line) is is_advised


def test_an_epoch_that_is_over_at_once_says_nothing_of_images() -> None:
    row = replace(ROW, seconds=0.9, data_wait_s=0.28)  # a head on cached features
    assert "--cache ram" not in describe_use(row, 15.0)
    assert "--cache ram" in describe_use(replace(row, seconds=4.0, data_wait_s=1.2), 15.0)


def test_it_is_said_once_in_each_process_and_the_start_is_recorded(tmp_path: Path) -> None:
    run, progress = create_run(tmp_path / "run"), Silent()
    run.update_run(device="GPU: one")
    for _ in range(2):
        use = TimeUse(progress, lambda: 10.0, run=run)
        for _ in range(3):
            use.on_epoch(ROW, False)
    assert len(progress.notes) == 2
    assert "4 % the GPU waiting for images, 76 % computing" in progress.notes[0]
    assert run.read_record()["start_s"] == 4.0, "of both processes"
