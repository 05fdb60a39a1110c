"""The history of a run, read back."""

import shutil
from pathlib import Path

import pytest

from cnnclf.errors import RunError
from cnnclf.runs.run_opening import open_run
from cnnclf.training.recording import read_epochs

ROOT = Path(__file__).parents[2]


def test_the_history_of_a_run_that_was_copied_without_its_state(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sample_data" / "tiny_run", tmp_path / "run")
    rows = read_epochs(open_run(tmp_path / "run"))
    assert [row.epoch for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0].loss == pytest.approx(0.912927508354187)
    (tmp_path / "run" / "history.csv").write_text("epoch,phase\n1,train\n")
    with pytest.raises(RunError, match=r"history\.csv is damaged: line 2"):
        read_epochs(open_run(tmp_path / "run"))
