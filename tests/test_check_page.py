"""The commands of docs/how-to/check.md run, on the sample data, and its table is complete."""

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnclf.quality.check_table import CHECKS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/check.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^cnnclf (.+)$", PAGE, flags=re.MULTILINE)


def prepare_changes(cli: Callable[..., Any], *, is_undo: bool) -> None:
    """Make what the commands that change a dataset start from."""
    assert cli("import", "sample_data/x_or_o", "--out", "data/photos").code == 0
    with Path("data/photos/manifest.csv").open(encoding="utf-8") as file:
        path = next(csv.DictReader(file))["path"]
    Path("decisions.csv").write_text(f"path,decision,label\n{path},remove,\n")
    Path("report").mkdir()
    Path("report/findings.csv").write_text("check,severity,path,other,detail\n")
    if is_undo:
        assert cli("import", "data/photos", "--apply", "decisions.csv").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(
    command: str, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    if "data/photos" in command:
        prepare_changes(cli, is_undo="--undo" in command)
    result = cli(*shlex.split(command))
    assert result.code == 0, result.stderr
    assert result.stdout
    written = re.search(r"--out (\S+)", command)
    assert written is None or (tmp_path / written[1] / "findings.csv").stat().st_size


def test_the_program_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = re.search(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)
    assert program is not None
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("import cnnclf\n" + program[1], names)
    assert names["report"].images == 300


def test_the_table_of_the_page_is_that_of_the_program() -> None:
    table = PAGE.partition("## Checks")[2].partition("## ")[0]
    rows = re.findall(r"^\| (`.+?) \| (\w+) \|", table, flags=re.MULTILINE)
    listed = [(name, severity) for names, severity in rows for name in re.findall("`(.+?)`", names)]
    assert listed == [(check.name, check.severity.value) for check in CHECKS]
