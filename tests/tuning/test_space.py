from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import ConfigError
from cnnclf.importers import import_source
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.tuning.recipes import RECIPES
from cnnclf.tuning.space import Dimension, describe_settings, load_space, read_space
from tests.images.test_sound_files import encode, tone


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_choices_ranges_scales_and_conditions_are_read(tmp_path: Path) -> None:
    text = """
[optimizer]
name = ["sgd", "adamw"]
momentum = { low = 0.5, high = 0.99, when = { "optimizer.name" = ["sgd"] } }
learning_rate = { low = 0.001, high = 0.1, log = true }
[model]
filters = [[8, 16], [16, 32]]
[training]
batch_size = { low = 16, high = 64 }
"""
    space = read_space(load_space(write(tmp_path / "space.toml", text)), source="a file")
    keys = [each.key for each in space.dimensions]
    middle = space.decode(dict.fromkeys(keys, 0.49))
    assert middle["optimizer.name"] == "sgd"
    assert middle["optimizer.momentum"] == pytest.approx(0.74, abs=0.01)
    assert middle["optimizer.learning_rate"] == pytest.approx(0.01, rel=0.06)
    assert middle["model.filters"] == [8, 16]
    assert middle["training.batch_size"] == 40
    assert "optimizer.momentum" not in space.decode(dict.fromkeys(keys, 0.9))
    again = read_space(space.to_dict(), source="again")
    assert again == space
    assert "momentum" not in str(space.fix({"optimizer.momentum": 0.9}).to_dict())
    assert "momentum" not in str(space.fix({"optimizer.name": "adamw"}).to_dict())
    always = space.fix({"optimizer.name": "sgd"})
    assert [each.key for each in always.dimensions] == keys[1:]
    assert always.decode({"optimizer.momentum": 0.0}) == {"optimizer.momentum": 0.5}


def test_values_are_found_at_their_places() -> None:
    content = {
        "optimizer.learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
        "training.batch_size": {"low": 8, "high": 64},
        "model.activation": ["relu", "gelu", "swish"],
    }
    for dimension in read_space(content, source="here").dimensions:
        for place in np.linspace(0, 1, 13):
            value = dimension.decode(float(place))
            assert dimension.decode(dimension.encode(value)) == value


@pytest.mark.parametrize(("low", "high"), [(0.99, 0.9999), (0.00012345, 0.00012349), (0.0, 0.2)])
@pytest.mark.parametrize("log", [False, True])
def test_values_stay_in_a_narrow_range_and_differ(low: float, high: float, log: bool) -> None:
    dimension = Dimension("optimizer.momentum", (), low or 1e-9, high, log=log)
    values = [dimension.decode(place / 20) for place in range(21)]
    assert min(values) >= dimension.low
    assert max(values) <= high
    assert len(set(values)) > 15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"optimizer": {"learnig_rate": [1]}}, "unknown setting optimizer.learnig_rate; did you"),
        (
            {"model": {"dropout": {"low": 0.5, "high": 0.1}}},
            "dropout: the range 0.5 to 0.1 is",
        ),
        ({"model": {"dropout": {"low": 0.1, "high": 0.1}}}, "is empty"),
        ({"model": {"dropout": [0.1, 0.2, 0.1]}}, "model.dropout: the choice 0.1 is there twice"),
        (
            {"optimizer": {"weight_decay": {"low": 0, "high": 1, "log": True}}},
            "low = 0: with log = true, low must be above 0",
        ),
        ({"model": {"dropout": {"low": 0.1, "high": 2}}}, "model.dropout = 2: expected a number"),
        ({"model": {"activation": ["relu", "rleu"]}}, "did you mean relu"),
        ({"model": {"activation": []}}, "expected choices or a range"),
        ({"model": {"activation": "relu"}}, "--fix sets one value"),
        ({"model": {"dropout": {"low": 0.1, "high": 0.2, "choices": [1]}}}, "choices or a range"),
        ({"model": {"dropout": {"low": 0.1, "hihg": 0.2}}}, "unknown word 'hihg'"),
        ({"model": {"dropout": {"low": "a", "high": 0.2}}}, "expected numbers low and high"),
        (
            {"model": {"dropout": {"low": 0.1, "high": 0.2, "when": {"model.top": ["flatten"]}}}},
            "is never so",
        ),
        ({"model.dropout": {"low": 0.1, "high": 0.2, "when": 3}}, "expected when = {"),
        (
            {
                "model.top": ["flatten", "global_max"],
                "model.dropout": {"low": 0.1, "high": 0.2, "when": {"model.top": []}},
            },
            "is never so",
        ),
        ({}, "no setting is searched"),
        (
            {"model.dropout": {"low": 0.1, "high": 0.2, "log": "no"}},
            "expected log = true or false, received 'no'",
        ),
        (
            {"optimizer.learning_rate": {"low": -2, "high": 4, "relative": True}},
            "expected factors above 0 with relative = true, received -2",
        ),
        (
            {"optimizer.learning_rate": {"choices": ["a", 2], "relative": True}},
            "expected factors above 0 with relative = true, received 'a'",
        ),
        ({"training.epochs": [5, 10]}, "cannot be searched: trials are compared after equal"),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="space a: ") as caught:
        RECIPES["train"].read_space(content, source="space a")
    assert message in caught.value.message


def test_a_mark_of_the_encoding_is_no_mistake(tmp_path: Path) -> None:
    file = write(tmp_path / "notepad.toml", "\ufeff[model]\ndropout = [0.1, 0.2]\n")
    assert load_space(file) == {"model": {"dropout": [0.1, 0.2]}}
    file = write(tmp_path / "settings.toml", "\ufeff[model]\ndropout = 0.1\n")
    assert load_config(file, kind=TrainConfig)[0].model.dropout == 0.1


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_space(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_space(write(tmp_path / "a.toml", "[model"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_space(tmp_path)


def test_the_space_of_sounds_has_their_augmentation(tmp_path: Path) -> None:
    for label, frequency in (("low", 200), ("high", 900)):
        for number in range(6):
            file = tmp_path / "tones" / label / f"{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(tone(frequency + number)))
    place = import_source(tmp_path / "tones", tmp_path / "data", progress=Silent()).directory
    plan = plan_training(TrainConfig(), load_dataset(place))
    (found,) = [
        each
        for each in RECIPES["train"].default_space(plan).dimensions
        if each.key == "augment.preset"
    ]
    assert found.choices == ("none", "sound")


def test_the_default_space_holds_the_default_and_can_be_planned(tmp_path: Path) -> None:
    place = import_source(
        Path("sample_data/x_or_o"), tmp_path / "data", progress=Silent()
    ).directory
    dataset = load_dataset(place)
    plan = plan_training(TrainConfig(), dataset)
    space = RECIPES["train"].default_space(plan)
    by_key = {each.key: each for each in space.dimensions}
    for key in ("training.batch_size", "model.filters", "model.activation", "augment.preset"):
        section, _, name = key.partition(".")
        assert getattr(getattr(plan.config, section), name) in by_key[key].choices
    assert space.factors == ["optimizer.learning_rate"]
    assert describe_settings({"optimizer.name": "sgd", "model.filters": [8, 16]}) == (
        "optimizer=sgd filters=8,16"
    )
    assert describe_settings({}) == "default"
