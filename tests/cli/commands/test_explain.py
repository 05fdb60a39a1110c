"""`cnnclf explain` on the command line, and the commands of its page."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cnnclf.errors import ExitCode
from cnnclf.explainers.explainer_table import EXPLAINERS
from cnnclf.inference.classifier import Classifier
from tests.conftest import Cli

ROOT = Path(__file__).parents[3]
RUN = ROOT / "sample_data/tiny_run"
IMAGES = ROOT / "sample_data/x_or_o"
PAGE = (ROOT / "docs/how-to/explain.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^cnnclf explain (.*)$", PAGE, re.MULTILINE)


def test_the_commands_of_the_page(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, "runs/xo")
    Path("photos").mkdir()
    for name in ("x/x001.jpg", "o/o001.jpg"):
        shutil.copy(IMAGES / name, "photos")
    assert COMMANDS
    for command in COMMANDS:
        words = shlex.split(command)
        result = cli("explain", *words, "--data", IMAGES, "--samples", 12, "--device", "cpu")
        assert result.code == ExitCode.OK, result.stderr
        assert ".png" in result.stdout
        assert " 0 images" not in result.stderr
    assert Path("explained/x001-evidence.png").is_file()


def test_the_page_has_every_view() -> None:
    rows = re.findall(r"^\| `([a-z][a-z-]*)` \|", PAGE, re.MULTILINE)
    assert rows == [row.name for row in EXPLAINERS]


def test_a_file_that_is_no_image_is_reported(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image", encoding="utf-8")
    good = IMAGES / "x/x001.jpg"
    result = cli("explain", RUN, broken, good, "--out", tmp_path / "out", "--json", "--no-checks")
    assert result.code == ExitCode.SOME_FAILED
    report = json.loads(result.stdout)
    assert report["failed"] == 1
    assert [bool(row["error"]) for row in report["rows"]] == [True, False]
    assert Path(report["rows"][1]["figure"]).is_file()
    assert "broken.png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--show", "evidnce"), "did you mean evidence?"),
        (("--class", "y"), "the network has no class of this name"),
        (("--layer", "conv1"), "did you mean"),
        (("--top-k", "0"), "--top-k"),
    ],
)
def test_wrong_usage_is_one_error_before_a_library_is_loaded(
    cli: Cli,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Classifier, "load", None)
    result = cli("explain", RUN, IMAGES / "x/x001.jpg", "--out", tmp_path, *arguments)
    assert result.code == ExitCode.USAGE
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_images_are_missing(cli: Cli) -> None:
    result = cli("explain", RUN)
    assert result.code == ExitCode.USAGE
    assert "IMAGES" in result.stderr


def test_a_limit_is_said(cli: Cli, tmp_path: Path) -> None:
    result = cli("explain", RUN, IMAGES, "--limit", 2, "--out", tmp_path / "out", "--no-checks")
    assert result.code == ExitCode.OK
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert "only the first 2 images" in result.stderr
