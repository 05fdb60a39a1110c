"""The commands of docs/how-to/describe.md run, on the sample data."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/describe.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^cnnclf (.+)$", PAGE.replace("\\\n", ""), flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(
    command: str, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    result = cli(*shlex.split(command, comments=True))
    assert result.code == 0, result.stderr
    assert result.stdout
    written = re.search(r"--(?:out|diagram|animate) (\S+)", command)
    assert written is None or (tmp_path / written[1]).stat().st_size
