"""The tables that hold names, at three widths of the terminal."""

import os

import pytest

from cnnclf.models.backbones import BACKBONES
from tests.terminal.terminal import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_name_of_a_backbone_is_broken(columns: int) -> None:
    shown = run("backbones", columns=columns)
    first = [line.split()[0] for line in shown.screen if line and not line.startswith(" ")]
    assert {row.name for row in BACKBONES} <= set(first)
    if columns >= 80:  # one line for each, below the headings
        assert len(shown.screen) <= len(BACKBONES) + 5
