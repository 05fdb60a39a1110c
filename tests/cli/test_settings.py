"""Options are made from the settings: none missing, none of its own."""

import pytest
import typer.main

from cnnclf.augmentation.table import AUGMENTATIONS, PRESETS
from cnnclf.cli.app import COMMANDS, load_command
from cnnclf.cli.settings import given_settings
from cnnclf.config import (
    AugmentConfig,
    CommandConfig,
    FinetuneConfig,
    TrainConfig,
    choices_of,
    option_name,
    setting_keys,
)

KINDS = pytest.mark.parametrize(
    ("command", "kind"), [("train", TrainConfig), ("finetune", FinetuneConfig)]
)


def parameters_of(command_name: str) -> dict[str, object]:
    row = next(row for row in COMMANDS if row[0] == command_name)
    command = load_command(row)
    assert isinstance(command, typer.core.TyperCommand)
    return {option: parameter for parameter in command.params for option in parameter.opts}


@KINDS
def test_every_setting_is_an_option(command: str, kind: type[CommandConfig]) -> None:
    options = parameters_of(command)
    assert not [key for key in setting_keys(kind) if option_name(key) not in options]


@KINDS
def test_option_names_do_not_collide(command: str, kind: type[CommandConfig]) -> None:
    names = [option_name(key) for key in setting_keys(kind)]
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
    for section in kind.model_fields.values():
        model = section.annotation
        assert model is not None
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name
