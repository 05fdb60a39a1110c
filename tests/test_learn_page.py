"""The tour of docs/learn/: its commands run, and its images are those that they draw."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
from PIL import Image

from tests.conftest import Cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/learn/README.md").read_text(encoding="utf-8")
SCRIPT = run_path(str(ROOT / "docs/make_images.py"))


def test_images_are_small_and_have_alt_texts() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[(.*?)\]\((images/\S+)\)", PAGE)
    used = re.findall(r"!\[(.*?)\]\((docs/learn/images/\S+)\)", readme)
    files = {ROOT / "docs/learn" / file for _, file in shown}
    assert files == set((ROOT / "docs/learn/images").iterdir())
    assert {ROOT / file for _, file in used} <= files
    assert len(used) == 3
    assert all(len(text) > 30 for text, _ in shown + used)
    for file in files:
        assert file.stat().st_size < 60_000
        with Image.open(file) as image:
            assert image.width <= 640


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_run_in_order_and_draw_the_images(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)
    commands = SCRIPT["read_commands"]()
    assert len(commands) == 16
    for program, *arguments in commands:
        if program == "python":
            [script] = arguments
            done = subprocess.run(
                [sys.executable, ROOT / script], capture_output=True, text=True, check=True
            )
            assert len(done.stdout.splitlines()) == 5
            continue
        assert program == "cnnclf"
        result = cli(*arguments)
        assert result.code == 0, (arguments, result.stderr)
    assert (tmp_path / "runs/first/report.html").exists()
    assert (tmp_path / "runs/first/trace.csv").exists()
    assert SCRIPT["keep_images"](tmp_path, check=True) == []
