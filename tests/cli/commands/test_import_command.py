import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.data.manifest import is_dataset, load_dataset
from cnnclf.errors import ExitCode
from cnnclf.importers import IMPORTERS
from tests.conftest import Cli


@pytest.fixture
def source(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label, count in (("10", 12), ("2", 20)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def test_a_folder_becomes_a_dataset_and_is_counted(source: Path, cli: Cli) -> None:
    out = source.parent / "data"
    result = cli("import", source, "--out", out)
    assert result.code == ExitCode.OK
    assert is_dataset(out)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[:3] == [
        ["label", "train", "val", "test"],
        ["2", "14", "3", "3"],
        ["10", "8", "2", "2"],
    ]
    assert ["images", "32"] in lines
    assert f"hint: cnnclf finetune {out}" in result.stderr
    assert f"cnnclf train {out}" in result.stderr
    assert "read as class-folders, because it holds folders of files: 2, 10" in result.stderr


def test_json_says_it_all(source: Path, cli: Cli) -> None:
    (source / "2" / "bad.png").write_bytes(b"bad")
    result = cli("import", source, "--out", source.parent / "data", "--json", "--quiet")
    assert result.code == ExitCode.SOME_FAILED
    found = json.loads(result.stdout)
    assert found["labels"] == ["2", "10"]
    assert found["counts"]["train"] == {"2": 14, "10": 8}
    assert (found["images"], found["skipped"], found["failed"]) == (32, 1, 1)
    assert found["directory"] == str(source.parent / "data")
    assert found["schema_version"] == 1
    assert "skipped.csv" in result.stderr  # a warning stays with --quiet


def test_files_beside_the_classes_are_no_failure(source: Path, cli: Cli) -> None:
    (source / "README.txt").write_text("about")
    result = cli("import", source, "--out", source.parent / "data")
    assert result.code == ExitCode.OK
    assert "1 file skipped" in result.stderr


def test_options_reach_the_import(source: Path, cli: Cli) -> None:
    classes = source.parent / "classes.txt"
    classes.write_text("10\n2\n")
    out = source.parent / "data"
    arguments = ["--split", "0.5,0,0.5", "--seed", 4, "--copy", "--threads", 1]
    result = cli("import", source, "-o", out, *arguments, "--classes-file", classes)
    assert result.code == ExitCode.OK
    dataset = load_dataset(out)
    assert dataset.labels == ("10", "2")
    assert dataset.root == out / "images"
    assert dataset.source["seed"] == 4
    assert {split: sum(each.values()) for split, each in dataset.counts().items()} == {
        "train": 16,
        "val": 0,
        "test": 16,
    }


def test_one_class_is_not_advised_to_be_trained(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in" / "cat").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "cat" / "1.png")
    result = cli("import", tmp_path / "in", "--out", tmp_path / "data", "--one-class")
    assert f"hint: cnnclf evaluate RUN {tmp_path / 'data'}" in result.stderr
    assert "cnnclf train" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--split", "0.5,0.5"], ExitCode.USAGE, "--split 0.5,0.5: expected three fractions"),
        (["--split", "a,b,c"], ExitCode.USAGE, "--split a,b,c: expected three fractions"),
        (["--split", "0.5,0.1,0.1"], ExitCode.USAGE, "add up to 1"),
        (["--format", "class-folder"], ExitCode.USAGE, "did you mean class-folders"),
        (["--classes-file", "nowhere.txt"], ExitCode.DATA, "nowhere.txt"),
        (["--format", "split-folders"], ExitCode.DATA, "no split folders with class folders"),
    ],
)
def test_wrong_options_are_reported(
    source: Path, cli: Cli, arguments: list[str], code: ExitCode, told: str
) -> None:
    result = cli("import", source, "--out", source.parent / "data", *arguments)
    assert result.code == code
    assert told in result.stderr
    assert not (source.parent / "data").exists()
    if "--split" in arguments:
        assert "checking images" not in result.stderr


def test_the_place_is_required(source: Path, cli: Cli) -> None:
    result = cli("import", source)
    assert result.code == ExitCode.USAGE
    assert "--out" in result.stderr


def test_help_names_every_importer(cli: Cli) -> None:
    words = " ".join(cli("import", "--help").stdout.split())
    assert all(importer.name in words.replace("- ", "-") for importer in IMPORTERS)
