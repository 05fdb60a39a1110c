"""-o, --overwrite and -q mean the same in every command."""

import shutil
from pathlib import Path

import pytest

from cnnclf.cli.app import load_command
from cnnclf.errors import ExitCode
from tests.cli.test_examples import ALL
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_data" / "x_or_o"


@pytest.mark.parametrize("name", [name for name in ALL if name != "help"])
def test_every_command_has_the_output_options(name: str) -> None:
    names = {each for param in load_command(ALL[name]).params for each in param.opts}
    assert {"-q", "--quiet", "--json"} <= names
    if "--out" in names:
        assert "-o" in names


WRITERS = ("check", "convolve", "import", "train", "finetune", "evaluate", "predict")


@pytest.mark.parametrize("name", [*WRITERS, "export", "explain", "augment-preview", "adopt"])
def test_what_writes_one_result_replaces_it_on_demand(name: str) -> None:
    names = {each for param in load_command(ALL[name]).params for each in param.opts}
    assert {"--out", "--overwrite"} <= names


RUN = ROOT / "sample_data" / "tiny_run"


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (("check", SAMPLES), ".html"),
        (("import", SAMPLES), ".csv"),
        (("train", SAMPLES), ".keras"),
        (("finetune", SAMPLES), ".h5"),
        (("tune", SAMPLES), ".json"),
        (("evaluate", RUN), ".json"),
        (("explain", RUN, SAMPLES), ".png"),
        (("export", RUN, "--format", "onnx"), ".onnx"),
    ],
)
def test_a_directory_that_is_named_like_a_file_is_refused(
    cli: Cli, tmp_path: Path, words: tuple[object, ...], ending: str
) -> None:
    result = cli(*words, "--out", tmp_path / f"out{ending}")
    assert result.code == ExitCode.USAGE
    assert "writes a directory with several files" in result.stderr
    assert f"--out {tmp_path / 'out'}" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["evaluate", "export", "explain"])
def test_an_existing_out_is_refused_before_anything_is_loaded(
    cli: Cli, tmp_path: Path, name: str
) -> None:
    (tmp_path / "out" / "mine").mkdir(parents=True)
    more = ("--format", "onnx") if name == "export" else ()
    result = cli(name, ROOT / "sample_data" / "tiny_run", "-o", tmp_path / "out", *more)
    assert result.code == ExitCode.USAGE
    assert f"{tmp_path / 'out'} already exists" in result.stderr
    assert "--overwrite" in result.stderr


def test_a_preview_is_replaced_on_demand(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "mine.png"
    own.write_text("mine")
    draw = ("augment-preview", SAMPLES, "--augment", "light", "--images", 2, "--variants", 1)
    assert cli(*draw, "-o", own).code == ExitCode.USAGE
    assert own.read_text() == "mine"
    assert cli(*draw, "-o", own, "--overwrite").code == ExitCode.OK
    assert own.read_bytes().startswith(b"\x89PNG")
    for _ in range(2):  # the file that nobody named is a preview, too
        assert cli(*draw).code == ExitCode.OK
    assert (tmp_path / "augment-preview.png").exists()


def test_a_dataset_is_replaced_on_demand(cli: Cli, tmp_path: Path) -> None:
    source, dataset = tmp_path / "source", tmp_path / "dataset"
    shutil.copytree(SAMPLES, source)
    assert cli("import", source, "-o", dataset, "--copy").code == ExitCode.OK
    (source / "x" / "x000.jpg").unlink()
    refused = cli("import", source, "-o", dataset)
    assert refused.code == ExitCode.USAGE
    assert "contains a dataset already" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert "x/x000.jpg" in (dataset / "manifest.csv").read_text()
    assert cli("import", source, "-o", dataset, "--overwrite").code == ExitCode.OK
    assert "x/x000.jpg" not in (dataset / "manifest.csv").read_text()
    assert not (dataset / "images").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_a_dataset_is_replaced(cli: Cli, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    assert cli("import", SAMPLES, "-o", dataset, "--copy").code == ExitCode.OK
    inside = cli("import", dataset / "images", "-o", dataset, "--overwrite")
    assert (inside.code, "the source is inside it" in inside.stderr) == (ExitCode.USAGE, True)
    (dataset / "notes.txt").write_text("mine")
    more = cli("import", SAMPLES, "-o", dataset, "--overwrite")
    assert (more.code, "it also contains notes.txt" in more.stderr) == (ExitCode.USAGE, True)
    assert (dataset / "notes.txt").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").write_text("mine")
    other = cli("import", SAMPLES, "-o", tmp_path / "folder", "--overwrite")
    assert (other.code, "is not empty" in other.stderr) == (ExitCode.USAGE, True)
