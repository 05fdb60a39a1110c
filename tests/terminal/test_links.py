"""Paths of results can be opened with a click, where a terminal shows them and nowhere else."""

import os
from pathlib import Path

import pytest

from tests.terminal.terminal import ROOT, Shown, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")
SAMPLES = ROOT / "sample_data" / "x_or_o"
LINK = "\x1b]8;"


def do_import(place: Path, **how: str) -> Shown:
    shown = run("import", SAMPLES, "-o", place / "my data", **how)  # type: ignore[arg-type]
    assert shown.code == 0, shown.stderr
    return shown


def test_a_path_on_a_terminal_is_a_link(tmp_path: Path) -> None:
    shown = do_import(tmp_path, SSH_CONNECTION="")
    address = f"{tmp_path}/my%20data"
    assert f";file://{os.uname().nodename}{address}\x1b" in shown.stdout
    assert "my data" in "".join(shown.screen)
    assert "file:" not in "".join(shown.screen)
    assert shown.stdout.count(LINK) % 2 == 0  # each link ends


@pytest.mark.parametrize("how", [{"stdout": "pipe"}, {"stdout": "file"}, {"TERM": "dumb"}])
def test_elsewhere_it_is_plain_text(tmp_path: Path, how: dict[str, str]) -> None:
    shown = do_import(tmp_path, **how)
    assert LINK not in shown.stdout
    assert "my data" in shown.stdout.replace("\n", "")
