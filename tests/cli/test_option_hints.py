"""Options of other tools, typed by people who know those."""

from pathlib import Path

import pytest

from cnnclf.cli.option_hints import _OTHER_COMMANDS, _OTHER_NAMES
from tests.conftest import Cli


@pytest.mark.parametrize(
    ("typed", "row"),
    [("tflite", "litert"), ("TF", "savedmodel"), ("h5", "keras"), ("tensorrt", "onnx")],
)
def test_formats_by_other_names(cli: Cli, typed: str, row: str) -> None:
    result = cli("export", "run", "--format", typed)
    assert result.code == 2
    assert f"did you mean {row}?" in result.stderr


@pytest.mark.parametrize(
    ("command", "option", "hint"),
    [
        ("train", "--lr", "did you mean --learning-rate? cnnclf train --help lists the options"),
        ("train", "--batch", "did you mean --batch-size?"),
        ("train", "--arch", "did you mean --preset?"),
        ("train", "--model", "did you mean --preset?"),
        ("train", "--img_size", "did you mean --image-size?"),
        ("train", "--backbone", "cnnclf finetune trains pretrained backbones;"),
        ("train", "--epoch", "did you mean --epochs?"),
        ("train", "--amp", "did you mean --precision?"),
        ("train", "--name", "did you mean --out?"),
        ("train", "--cos-lr", "did you mean --schedule?"),
        ("train", "--time-limit", "did you mean --minutes?"),
        ("train", "--early-stopping", "did you mean --patience?"),
        (
            "import",
            "--test",
            "folders or tables named train, val and test are read from the folder",
        ),
        ("finetune", "--val-split", "cnnclf import DATASET --split TRAIN,VAL,TEST makes splits;"),
        ("train", "--no-batch-nrm", "did you mean --no-batch-norm?"),
        ("finetune", "--arch", "did you mean --backbone?"),
        ("finetune", "--extend", "only runs of train are extended; --config RUN --tail-epochs N"),
        ("finetune", "--epochs", "did you mean --head-epochs or --tail-epochs?"),
        ("check", "--drop", "cnnclf import DATASET --drop changes a dataset; cnnclf check --help"),
        ("check", "--fix", "cnnclf import DATASET --fix-splits changes a dataset;"),
        ("explain", "--view", "did you mean --show?"),
        ("explain", "--method", "did you mean --show?"),
        ("augment-preview", "--preset", "did you mean --augment?"),
        ("convolve", "--kernel", "did you mean --filter or --kernel-size?"),
        ("tune", "--preset", "--fix model.preset=VALUE sets it in all trials; cnnclf tune"),
        ("tune", "--image-size", "--fix data.image_size=VALUE sets it in all trials;"),
        ("tune", "--lr", "--fix optimizer.learning_rate=VALUE sets it in all trials;"),
        ("tune", "--backbone", "--fix backbone.name=VALUE sets it in all trials;"),
        ("tune", "--time-limit", "did you mean --minutes?"),
        ("describe", "--out", "did you mean --diagram?"),
        ("predict", "--output", "did you mean --out?"),
        ("predict", "--tta", "did you mean --views?"),
        ("export", "--half", "did you mean --quantize?"),
        ("export", "--int8", "did you mean --quantize?"),
        ("export", "--opset", "the opset is the one that the converter chooses; cnnclf export"),
        ("export", "--dynamic", "exports take batches of any size; cnnclf export --help lists"),
        ("calibrate", "--recall", "its promises are about all classes together: --precision,"),
        ("predict", "--model", "give it without an option: cnnclf predict RUN IMAGES...; cnnclf"),
        ("import", "--source", "give it without an option: cnnclf import SOURCE;"),
        ("train", "--data", "give it without an option: cnnclf train DATASET;"),
    ],
)
def test_options_of_other_tools(cli: Cli, command: str, option: str, hint: str) -> None:
    result = cli(command, "pets", option, "1")
    assert result.code == 2
    assert f"error: cnnclf {command}: no such option: {option}" in result.stderr
    assert f"hint: {hint}" in result.stderr


def test_nothing_is_suggested_for_an_option_like_no_other(cli: Cli) -> None:
    result = cli("convolve", "x.png", "--list")
    assert "hint: cnnclf convolve --help lists the options" in result.stderr


@pytest.mark.parametrize(
    ("option", "following"),
    [("--epochs", "--seed"), ("--out", "--json"), ("-o", "-q"), ("--out", "--device=cpu")],
)
def test_an_option_without_its_value_does_not_take_the_next_option(
    cli: Cli, option: str, following: str
) -> None:
    result = cli("train", "pets", option, following, "1")
    assert result.code == 2
    assert f"error: cnnclf train: {option} needs a value, but {following} follows" in result.stderr
    assert f"for this very value: {option}={following}" in result.stderr


def test_values_that_begin_with_a_dash_are_still_values(cli: Cli, tmp_path: Path) -> None:
    result = cli("check", tmp_path / "none", "--strict", "--json", "-o", "-x")  # brackets: optional
    assert "needs a value" not in result.stderr
    result = cli("check", tmp_path / "none", "--out=--json")
    assert "needs a value" not in result.stderr


def test_values_of_one_option_are_joined_by_commas(cli: Cli) -> None:
    result = cli("train", "pets", "--filters", "32", "64", "128")
    assert result.code == 2
    assert "hint: the values of one option are joined by commas, such as --filters" in result.stderr
    assert "commas" not in cli("train", "pets", "runs/pets").stderr


def test_assignments_are_typed_as_options(cli: Cli) -> None:
    result = cli("train", "pets", "batch_size=16")
    assert result.code == 2
    assert "hint: options are typed with dashes: --batch-size 16; cnnclf train" in result.stderr


@pytest.mark.parametrize("name", _OTHER_COMMANDS)
def test_commands_of_other_tools(cli: Cli, name: str) -> None:
    meant = _OTHER_COMMANDS[name]
    assert f"did you mean 'cnnclf {meant}'?" in cli(name, "pets").stderr
    assert cli(*meant.split(), "--help").code == 0


def test_commands_of_other_tools_in_a_group(cli: Cli) -> None:
    assert "did you mean 'cnnclf runs remove'?" in cli("runs", "rm", "pets").stderr


def test_a_second_argument_is_taken_for_the_place_to_write_to(cli: Cli, tmp_path: Path) -> None:
    result = cli("import", str(tmp_path), "pets")
    assert result.code == 2
    assert "hint: to write there, --out pets; cnnclf import --help" in result.stderr
    assert "--out" not in cli("import", str(tmp_path), str(tmp_path)).stderr, "it exists"


def test_several_sources_are_one_folder(cli: Cli, tmp_path: Path) -> None:
    for name in ("c.jpg", *(f"photos/{number}.jpg" for number in range(20))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [tmp_path / "photos" / f"{number}.jpg" for number in range(20)]
    for command in ("import", "train"):
        result = cli(command, *names)
        assert result.code == 2
        assert "unexpected extra arguments: " in result.stderr
        assert " and 14 more\n" in result.stderr
        assert f"that holds them: cnnclf {command} {tmp_path / 'photos'};" in result.stderr
    result = cli("check", names[0], tmp_path / "c.jpg")
    assert "put all into one folder;" in result.stderr
    result = cli("report", names[0], names[1])
    assert "folder" not in result.stderr, "it reads runs"


def test_each_suggested_option_exists(cli: Cli) -> None:
    commands = (
        "train",
        "finetune",
        "explain",
        "convolve",
        "predict",
        "export",
        "augment-preview",
        "describe",
    )
    pages = "".join(cli(command, "--help").stdout for command in commands)
    for names in _OTHER_NAMES.values():
        assert [name for name in names if f"--{name} " not in pages] == []
