"""File names with control characters: a terminal shows them, files hold them as they are."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.terminal.terminal import ROOT, Shown, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")

RUN = ROOT / "sample_data" / "tiny_run"
NUMBERS = "tests.cli.commands.predict_process"
NAME = "=a\nb\x1b[2J\x9bJ\u202e\u2028"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images whose name a terminal would obey."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"")
    (folder / "2.jpg").write_bytes(b"")
    return folder


def predict(*arguments: object, module: str = NUMBERS, **how: str) -> Shown:
    return run(*arguments, module=module, columns=120, CNNCLF_TEST_SLOW_S="0", **how)  # type: ignore[arg-type]


def assert_tame(text: str) -> None:
    ours = re.sub(r"\x1b\[(\?25[lh]|[0-9;]*[mK]|1A|2K)", "", text).replace("\r", "")
    assert {each for each in ours if not each.isprintable()} <= {"\n"}


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_rows_on_a_terminal(folder: Path, more: tuple[str, ...]) -> None:
    shown = predict("predict", RUN, folder, *more)
    assert shown.code == 0, shown.stdout
    assert_tame(shown.stdout)
    assert "\\u202e" in shown.stdout


def test_rows_in_a_pipe_hold_the_name(folder: Path) -> None:
    shown = predict("predict", RUN, folder, "--json", stdout="pipe")
    assert json.loads(shown.stdout)["rows"][0]["path"] == str(folder / "1.jpg")
    assert_tame(shown.stderr)


def test_errors_notes_and_tracebacks(folder: Path) -> None:
    for arguments in (("show", folder), ("list", folder), ("show", folder, "--traceback")):
        shown = predict("runs", *arguments, module="cnnclf")
        assert_tame(shown.stdout)
        assert "\\x1b[2J" in "".join(shown.screen)
