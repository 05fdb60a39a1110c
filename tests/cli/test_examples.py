"""The examples at the end of the help pages: all can be parsed, and the quick ones are run."""

import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from cnnclf.cli.app import COMMANDS, CommandRow, load_command
from cnnclf.cli.examples import EXAMPLES
from cnnclf.cli.output import out
from cnnclf.errors import ExitCode
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
LINES = [(name, line) for name, lines in EXAMPLES.items() for line in lines]

# These load Keras or a model, or look for packages that load slowly.
SLOW = {
    "adopt",
    "finetune",
    "calibrate",
    "evaluate",
    "predict",
    "explain",
    "export",
    "describe",
    "doctor",
    "tune",
    "lr-find",
    "check-order",
    "runs export",
}


def list_commands(rows: tuple[CommandRow, ...], path: str = "") -> Iterator[tuple[str, CommandRow]]:
    for row in rows:
        target = getattr(import_module(row[1]), row[2])
        name = f"{path} {row[0]}".strip()
        if isinstance(target, tuple):
            yield from list_commands(target, name)
        else:
            yield name, row


ALL = dict(list_commands(COMMANDS))


def split(line: str) -> list[str]:
    """Split a line as a shell does: quotes, patterns that match, and nothing after > ."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    return [each for word in words for each in (_match(word) or [word])]


def _match(word: str) -> list[str]:
    return sorted(map(str, Path().glob(word))) if "*" in word else []


def test_every_command_has_two_examples_of_its_own() -> None:
    assert list(EXAMPLES) == list(ALL)
    for name, lines in EXAMPLES.items():
        assert len(set(lines)) == 2
        assert all(f"{line} ".startswith(f"cnnclf {name} ") for line in lines)
        assert all(len(line) <= 76 for line in lines)


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_an_example_can_be_parsed(name: str, line: str) -> None:
    words = split(line)[len(name.split()) :]
    context = load_command(ALL[name]).make_context(name, words)
    out.reset()
    assert context.params


def test_a_wrong_example_would_be_found() -> None:
    with pytest.raises(Exception, match="--epoch"):
        load_command(ALL["train"]).make_context("train", ["pets", "--epoch", "40"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what the examples name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sample_data" / "x_or_o", "photos")
    images = sorted(Path("photos").glob("*/*"))
    rows = "".join(f"{path},{path.parent.name}\n" for path in images)
    Path("labels.csv").write_text("path,label\n" + rows)
    for name in ("runs/pets", "runs/pets-001", "runs/pets-002", "runs/pets-003"):
        shutil.copytree(ROOT / "sample_data" / "tiny_run", name)
        Path(name, "reference_logits.json").unlink()  # not of a run, for other tests
    shutil.copytree("runs", "experiments")
    return tmp_path


def test_quick_examples_run(cli: Cli, place: Path) -> None:
    for name, line in LINES:
        if name in SLOW or name in ("weights pull", "weights import"):
            continue
        if line == LINES[1][1]:
            shutil.rmtree("pets")  # the first example made it
        if name == "train" and "--dry-run" not in line:
            continue
        if line == EXAMPLES["sample-data"][1]:
            shutil.rmtree("x_or_o")
        words = split(line)
        if name == "runs remove":
            words.append("--yes")
        result = cli(*words)
        assert result.code == ExitCode.OK, f"{line}\n{result.stderr}"
