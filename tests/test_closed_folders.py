"""Folders that cannot be entered, too deep or gone: one named failure, and the rest goes on."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from cnnclf.errors import ExitCode, RunError
from cnnclf.prediction.patterns import match_pattern
from tests.conftest import Cli, Close

SAMPLES = Path(__file__).parents[1] / "sample_data" / "x_or_o"
DENIED = "the folder cannot be read: Permission denied"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label in ("o", "x"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for image in sorted((SAMPLES / label).iterdir())[:4]:
            shutil.copy(image, folder)
    (tmp_path / "photos" / "locked").mkdir()
    (tmp_path / "photos" / "x" / "closed").mkdir()
    return tmp_path / "photos"


def test_import_names_closed_folders(
    cli: Cli, photos: Path, tmp_path: Path, close_folder: Close
) -> None:
    close_folder(photos / "locked")
    close_folder(photos / "x" / "closed")
    result = cli("import", photos, "--out", tmp_path / "ds", "--json")
    assert result.code == ExitCode.SOME_FAILED
    report = json.loads(result.stdout)
    assert (report["images"], report["skipped"], report["failed"]) == (8, 2, 2)
    rows = (tmp_path / "ds" / "skipped.csv").read_text().splitlines()[1:]
    assert sorted(rows) == [f"locked,{DENIED}", f"x/closed,{DENIED}"]
    assert "empty folders" not in result.stderr


@pytest.mark.parametrize("way", ["copy", "link", "move"])
def test_a_closed_folder_to_sort_into_is_one_error(
    cli: Cli, photos: Path, tmp_path: Path, close_folder: Close, way: str
) -> None:
    place = tmp_path / "sorted"
    place.mkdir()
    close_folder(place)
    result = cli("predict", SAMPLES.parent / "tiny_run", photos / "x", f"--{way}-to", place / "a")
    assert result.code == RunError.exit_code
    assert f"cannot write {place / 'a'}: {place} is closed to you" in result.stderr
    assert f"hint: choose another --{way}-to" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("closed", ["train/x", "test", ""])
def test_import_names_closed_folders_of_any_level(
    cli: Cli, photos: Path, tmp_path: Path, closed: str, close_folder: Close
) -> None:
    source = tmp_path / "source"
    for split in ("train", "test"):
        shutil.copytree(photos, source / split)
    close_folder(source / closed)
    result = cli("import", source, "--out", tmp_path / "ds")
    if closed == "train/x":  # no class is left but one
        assert result.code == ExitCode.SOME_FAILED
        assert "train/x" in (tmp_path / "ds" / "skipped.csv").read_text()
    elif closed:
        assert result.code == ExitCode.SOME_FAILED
        assert f"test,{DENIED}" in (tmp_path / "ds" / "skipped.csv").read_text()
    else:
        assert result.code == ExitCode.DATA
        assert result.stderr.splitlines()[0] == (f"error: cannot read {source}: {DENIED}")


def test_training_on_a_source_with_a_closed_folder_plans(
    cli: Cli, photos: Path, close_folder: Close
) -> None:
    close_folder(photos / "locked")
    result = cli("train", photos, "--dry-run", "--json")
    assert (result.code, DENIED in result.stderr) == (ExitCode.OK, True)


def test_a_closed_label_file_loses_its_image(
    cli: Cli, photos: Path, tmp_path: Path, close_folder: Close
) -> None:
    source = tmp_path / "source"
    for split in ("train", "test"):
        (source / split).mkdir(parents=True)
        for image in photos.glob("[ox]/*.jpg"):
            name = f"{split}_{image.parent.name}{image.name}"
            shutil.copy(image, source / split / name)
            (source / split / name).with_suffix(".txt").write_text(image.parent.name)
    closed = min((source / "train").glob("*.txt"))
    close_folder(closed)
    result = cli("import", source, "--out", tmp_path / "ds", "--json")
    assert result.code == ExitCode.SOME_FAILED
    assert json.loads(result.stdout)["images"] == 15
    assert f"train/{closed.name}" in (tmp_path / "ds" / "skipped.csv").read_text()


@pytest.mark.parametrize("options", [["--out", "runs/one"], []])
def test_a_run_that_cannot_be_written_is_refused_before_anything_starts(
    cli: Cli, photos: Path, tmp_path: Path, close_folder: Close, options: list[str]
) -> None:
    (photos / "locked").rmdir()
    (photos / "x" / "closed").rmdir()
    (tmp_path / "here").mkdir()
    close_folder(tmp_path / "here")
    (tmp_path / "here").chmod(0o555)
    with chdir(tmp_path / "here"):
        result = cli("train", photos, *options)
    assert result.code == ExitCode.CONFIG
    last = result.stderr.splitlines()[-2]
    assert last.startswith("error: cannot write runs/")
    assert last.endswith(f": {tmp_path / 'here'} is closed to you")
    assert "TensorFlow" not in result.stderr


@pytest.mark.parametrize("name", ["evaluate", "calibrate", "report", "explain", "export"])
def test_nothing_is_computed_for_what_cannot_be_written(
    cli: Cli, tmp_path: Path, close_folder: Close, name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(SAMPLES.parent / "tiny_run", run)
    for folder in (run, *filter(Path.is_dir, run.rglob("*"))):
        close_folder(folder)
        folder.chmod(0o555)
    options: dict[str, list[str | Path]] = {
        "calibrate": [SAMPLES],
        "evaluate": [SAMPLES],
        "explain": [SAMPLES / "x"],
        "export": ["--format", "keras", "--no-verify"],
    }
    with chdir(run):
        result = cli(name, run, *options.get(name, []))
    for folder in (run, *filter(Path.is_dir, run.rglob("*"))):
        folder.chmod(0o755)
    assert result.code == ExitCode.CONFIG, result.stderr
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith("error: cannot write ")
    assert error.endswith(" is closed to you")
    assert ("--out" in hint) is (name != "calibrate")
    assert "TensorFlow" not in result.stderr


def test_an_export_that_cannot_be_replaced_is_refused(
    cli: Cli, tmp_path: Path, close_folder: Close
) -> None:
    """It is made next to the earlier one, in the folder above."""
    options = ("--format", "keras", "--no-verify", "--out", tmp_path / "here" / "keras")
    assert cli("export", SAMPLES.parent / "tiny_run", *options).code == 0
    close_folder(tmp_path / "here")
    (tmp_path / "here").chmod(0o555)
    result = cli("export", SAMPLES.parent / "tiny_run", *options, "--overwrite")
    assert result.code == ExitCode.CONFIG
    assert f"{tmp_path / 'here'} is closed to you" in result.stderr
    assert "TensorFlow" not in result.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["describe", "--diagram", "FILE/a.svg"], "another --diagram"),
        (["convolve", "IMAGE", "--animate", "FILE/a.gif", "--overwrite"], "another --animate"),
        (["predict", "RUN", "IMAGE", "--copy-to", "FILE/sorted"], "another --copy-to"),
        (["evaluate", "RUN", "IMAGE", "--out", "FILE/report"], "another --out"),
        (["tune", "PHOTOS", "--out", "FILE/search"], "--out"),
        (["sample-data", "FILE/here"], "a directory that does not exist yet"),
    ],
)
def test_a_place_below_a_file_is_refused_with_the_option_that_named_it(
    cli: Cli, photos: Path, tmp_path: Path, words: list[str], option: str
) -> None:
    (tmp_path / "file").touch()
    names = {"RUN": SAMPLES.parent / "tiny_run", "PHOTOS": photos}
    names["IMAGE"] = next(photos.glob("x/*.jpg"))
    given = (names.get(each, each.replace("FILE", str(tmp_path / "file"))) for each in words)
    result = cli(*given)
    assert result.code == ExitCode.CONFIG
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith(f"error: cannot write {tmp_path / 'file'}/")
    assert option in hint
    assert "TensorFlow" not in result.stderr


def test_a_file_that_cannot_be_written_is_named(
    cli: Cli, photos: Path, tmp_path: Path, close_folder: Close
) -> None:
    image = next(photos.glob("x/*.jpg"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "old.png").touch()
    close_folder(tmp_path / "here")
    (tmp_path / "here").chmod(0o555)
    with chdir(tmp_path / "here"):
        for name in ("new.png", "old.png"):
            result = cli("convolve", image, "--out", name, "--overwrite")
            assert f"cannot write {name}: {tmp_path / 'here'} is closed to you" in result.stderr


def test_runs_list_names_a_closed_folder(cli: Cli, tmp_path: Path, close_folder: Close) -> None:
    (tmp_path / "runs" / "locked").mkdir(parents=True)
    close_folder(tmp_path / "runs" / "locked")
    result = cli("runs", "list", tmp_path / "runs", "--json")
    assert result.code == ExitCode.SOME_FAILED
    [row] = json.loads(result.stdout)["runs"]
    assert (row["name"], row["status"]) == ("locked", "unreadable")
    assert "cannot be read: Permission denied" in result.stderr
    close_folder(tmp_path / "runs")
    result = cli("runs", "list", tmp_path / "runs")
    assert (result.code, "Permission denied" in result.stderr) == (ExitCode.CONFIG, True)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.png", ["a/1.png", "a/closed"]),
        ("a/*/1.png", ["a/closed/1.png"]),
        ("a/closed/*", ["a/closed"]),
        ("**/1.png", ["a/1.png", "a/closed/1.png", "a/closed"]),
        ("b/*", []),
        ("a/1.png/*", []),
    ],
)
def test_patterns_yield_what_cannot_be_read(
    tmp_path: Path, pattern: str, found: list[str], close_folder: Close
) -> None:
    (tmp_path / "a" / "closed").mkdir(parents=True)
    (tmp_path / "a" / "1.png").touch()
    close_folder(tmp_path / "a" / "closed")
    with chdir(tmp_path):
        assert list(match_pattern(pattern, sort_at_once=10)) == found


@pytest.fixture
def deep(photos: Path) -> Iterator[Path]:
    """Photos with an image 1,100 folders deep, more than Python calls functions."""
    image = next((SAMPLES / "x").iterdir()).read_bytes()
    with chdir(photos / "x"):
        for _ in range(1100):
            Path("d").mkdir()
            os.chdir("d")
        Path("1.jpg").write_bytes(image)
    yield photos
    with chdir(photos / "x"):  # deeper than pytest can remove
        for _ in range(1100):
            os.chdir("d")
        Path("1.jpg").unlink()
        for _ in range(1100):
            os.chdir("..")
            Path("d").rmdir()


@pytest.mark.parametrize("options", [(), ("--copy",)])
def test_deep_folders_are_imported(
    cli: Cli, deep: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = cli("import", deep, "--out", tmp_path / "ds", *options, "--json")
    assert (result.code, json.loads(result.stdout)["images"]) == (ExitCode.OK, 9)


def test_patterns_find_deep_files(deep: Path) -> None:
    with chdir(deep):
        assert len(list(match_pattern("**/1.jpg", sort_at_once=10))) == 1


def test_deep_members_and_arrays_are_skipped(cli: Cli, photos: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    name = f"x/{'d/' * 1100}1.jpg"
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"")
    result = cli("import", archive, "--out", tmp_path / "ds")
    assert result.code == ExitCode.SOME_FAILED
    assert f"{name},more than 100 folders deep" in (tmp_path / "ds/skipped.csv").read_text()
