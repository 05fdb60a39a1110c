"""Options are made from the settings: none missing, none of its own."""

import pytest
import typer.main

from cnnclf.augmentation.table import AUGMENTATIONS, PRESETS
from cnnclf.cli.app import COMMANDS, load_command
from cnnclf.cli.settings import blaming_options, given_settings
from cnnclf.config import (
    AugmentConfig,
    CommandConfig,
    EvaluateConfig,
    ExportConfig,
    FinetuneConfig,
    ImportConfig,
    PredictConfig,
    RuntimeConfig,
    TrainConfig,
    choices_of,
    list_fields,
    option_name,
)
from cnnclf.errors import ConfigError, UsageError
from cnnclf.inference.engines.engine_table import PRECISIONS
from cnnclf.runtime import POLICIES
from tests.conftest import Cli

KINDS = pytest.mark.parametrize(
    ("command", "kind"),
    [
        (kind.command, kind)
        for kind in (
            ImportConfig,
            TrainConfig,
            FinetuneConfig,
            EvaluateConfig,
            PredictConfig,
            ExportConfig,
        )
    ],
)


def parameters_of(command_name: str) -> dict[str, object]:
    row = next(row for row in COMMANDS if row[0] == command_name)
    command = load_command(row)
    assert isinstance(command, typer.core.TyperCommand)
    return {option: parameter for parameter in command.params for option in parameter.opts}


@KINDS
def test_every_setting_is_an_option(command: str, kind: type[CommandConfig]) -> None:
    options = parameters_of(command)
    assert not [key for key in list_fields(kind) if option_name(key) not in options]


@KINDS
def test_option_names_do_not_collide(command: str, kind: type[CommandConfig]) -> None:
    names = [option_name(key) for key in list_fields(kind)]
    assert len(set(names)) == len(names)


def test_only_typed_options_count_as_given() -> None:
    typed = {
        "setting__model__dropout": "0.5",
        "setting__model__batch_norm": False,
        "setting__training__epochs": None,
    }
    assert given_settings(typed) == {"model.dropout": "0.5", "model.batch_norm": False}


def test_augment_settings_are_the_table_of_augmentations() -> None:
    fields = set(AugmentConfig.model_fields) - {"preset"}
    assert fields == set(AUGMENTATIONS)
    assert choices_of(AugmentConfig.model_fields["preset"]) == tuple(PRESETS)


@KINDS
def test_every_setting_is_described(command: str, kind: type[CommandConfig]) -> None:
    for name, field in list_fields(kind).items():
        assert (field.description or "").endswith("."), name


def test_precisions_are_those_that_keras_and_the_engines_compute_in() -> None:
    trained = choices_of(RuntimeConfig.model_fields["precision"])
    computed = choices_of(PredictConfig.model_fields["precision"])
    assert trained == ("auto", *POLICIES)
    assert computed == choices_of(EvaluateConfig.model_fields["precision"]) == ("auto", *PRECISIONS)
    assert set(trained) <= set(computed)


def test_settings_that_do_not_fit_are_named_as_they_were_typed() -> None:
    error = ConfigError("tail.unfreeze = 9 and tail.unfreezes: no data.fit", "see tail.unfreeze.")
    for origins, message, hint in (
        ({"tail.unfreeze": "option"}, "--unfreeze 9 and tail.unfreezes: no data.fit", "--unfreeze"),
        ({"tail.unfreeze": "--set"}, error.message, "tail.unfreeze"),
        ({}, error.message, "tail.unfreeze"),
    ):
        with pytest.raises(UsageError) as caught, blaming_options(origins):
            raise error
        assert (caught.value.message, caught.value.hint) == (message, f"see {hint}.")


def test_a_command_refuses_a_wrong_setting_as_it_was_typed(cli: Cli) -> None:
    for arguments, words in (
        (("predict", "run", "a.jpg", "--top-k", "0"), "--top-k 0: expected a whole number"),
        (("predict", "run", "a.jpg", "--engine", "openvno"), "did you mean openvino?"),
        (("evaluate", "run", "--split", "tset"), "did you mean test?"),
        (("import", "a", "--out", "b", "--format", "ziip"), "did you mean zip?"),
        (("export", "run", "--format", "onnx", "--quantize", "int4"), "expected one of float16"),
    ):
        result = cli(*arguments)
        assert result.code == 2
        assert words in result.stderr
        assert result.stderr.startswith(f"error: {arguments[-2]} {arguments[-1]}: expected")


@pytest.mark.parametrize(
    "command", ["augment-preview", "lr-find", "check-order", "describe", "train"]
)
def test_the_hint_names_the_command_that_was_called(cli: Cli, command: str) -> None:
    option = ["--rotate", "999"] if command == "augment-preview" else ["--dropout", "9"]
    source = [] if command == "describe" else ["sample_data/x_or_o"]
    for words in ([option] if command != "check-order" else []) + [["--color", "blue"]]:
        result = cli(command, *source, *words)
        assert result.code == 2
        assert f"hint: cnnclf {command} --help lists every setting" in result.stderr
