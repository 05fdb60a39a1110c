"""The tables that hold names, at three widths of the terminal."""

import os
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
