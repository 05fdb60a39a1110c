"""The pages say what the program does: generated pages are fresh, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnnclf.cli.app import COMMANDS
from cnnclf.cli.settings import option_name
from cnnclf.config import FinetuneConfig, setting_keys

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))


def test_reference_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_and_setting_is_in_the_reference() -> None:
    commands = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    settings = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert not [row[0] for row in COMMANDS if f"## cnnclf {row[0]}" not in commands]
    assert not [key for key in setting_keys() if f"`{option_name(key)}`" not in settings]
    finetune = (ROOT / "docs/reference/finetune-settings.md").read_text(encoding="utf-8")
    keys = setting_keys(FinetuneConfig)
    assert not [key for key in keys if f"`{option_name(key)}`" not in finetune]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_readme_commands_are_one_line_each() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("first-command", "second-command"):
        found = re.search(rf"<!-- {name} -->\n```\n([^\n]+)\n```", readme)
        assert found is not None, name
        assert "python3 -m venv" in found[1]


def test_every_option_in_a_readme_example_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    settings = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("cnnclf ")]
    used = {option for line in lines for option in re.findall(r"(?<= )--[a-z-]+", line)}
    assert used
    assert not [each for each in used if f"`{each}`" not in reference + settings]
