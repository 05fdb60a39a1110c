"""The tables that hold names, at three widths of the terminal."""

import os
import shutil
from pathlib import Path

import pytest

from cnnclf.models.backbones import BACKBONES
from tests.terminal.terminal import ROOT, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_name_of_a_backbone_is_broken(columns: int) -> None:
    shown = run("backbones", columns=columns)
    first = [line.split()[0] for line in shown.screen if line and not line.startswith(" ")]
    assert {row.name for row in BACKBONES} <= set(first)
    if columns >= 80:  # one line for each, below the headings
        assert len(shown.screen) <= len(BACKBONES) + 5


def test_runs_are_a_table_and_nothing_is_no_table(tmp_path: Path) -> None:
    shown = run("runs", "list", ROOT / "sample_data")
    assert shown.screen[0].split()[:3] == ["run", "status", "test"]
    shown = run("cache", "list", CNNCLF_CACHE_DIR=str(tmp_path))
    assert shown.screen[0].startswith("0 entries")


def test_predictions_continue_below_the_column_of_paths(tmp_path: Path) -> None:
    names = ("1.png", f"folder/{'p' * 18}.png", f"{'long' * 11}.png", "broken.png")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "sample_data/x_or_o/x/x001.jpg", tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"")
    run_path = ROOT / "sample_data/tiny_run"
    shown = run("predict", run_path, "--engine", "keras", *names, columns=60, cwd=tmp_path)
    lines = [*shown.screen]
    heading = next(line for line in lines if line.startswith("label "))
    at = heading.index("path")
    rows = [line for line in lines if line[:1] in {"x", "o", "-"} and line[1:2] == " "]
    assert len(rows) == len(names)
    assert rows[0][at:].startswith("1.png  (")  # what fits is one line
    assert rows[1][at:] == names[1]
    assert lines[lines.index(rows[1]) + 1].startswith(" " * at + "(")
    assert lines[lines.index(rows[2]) + 1].startswith(f"  {names[2]}")
    assert rows[3][at:].startswith("broken.png  error: ")
