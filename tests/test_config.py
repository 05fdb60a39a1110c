"""Settings: layers, errors, and the parity of options, file and --set."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.config import (
    MODEL_PRESETS,
    CommandConfig,
    FinetuneConfig,
    PredictConfig,
    TrainConfig,
    TrainingConfig,
    explicit_settings,
    list_fields,
    load_config,
    option_name,
)
from cnnclf.errors import ConfigError, ExitCode, UsageError


def test_defaults_need_nothing() -> None:
    config, origins = load_config(kind=TrainConfig)
    assert config == TrainConfig()
    assert origins == {}


def test_stronger_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[model]\npreset = 'textbook'\ndropout = 0.1\nkernel_size = 5\n")
    config, origins = load_config(
        file,
        assignments=["model.dropout=0.2", "model.stride=2"],
        options={"model.dropout": "0.3"},
        kind=TrainConfig,
    )
    assert config.model.dropout == 0.3
    assert config.model.kernel_size == 5
    assert config.model.stride == 2
    assert config.model.padding == "valid", "the preset stands where nothing else was given"
    assert origins["model.dropout"] == "option"
    assert origins["model.kernel_size"].startswith("file")
    assert origins["model.padding"] == "preset textbook"


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("model.filters=32,64", "filters", [32, 64]),
        ("model.filters=[32, 64]", "filters", [32, 64]),
        ("model.filters=32", "filters", [32]),
        ("model.filters=auto", "filters", "auto"),
        ("model.batch_norm=false", "batch_norm", False),
        ("model.activation=gelu", "activation", "gelu"),
    ],
)
def test_assignments_as_typed_in_a_terminal(assignment: str, key: str, value: object) -> None:
    config, _ = load_config(assignments=[assignment], kind=TrainConfig)
    assert getattr(config.model, key) == value


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("48x64", (48, 64)), ("auto", "auto")]
)
def test_sizes_are_height_by_width(text: str, size: object) -> None:
    config, _ = load_config(options={"data.image_size": text}, kind=TrainConfig)
    assert config.data.image_size == size


SIZE = "auto or a size such as 64 or 48x64 (height x width), 1 to 4096 pixels each"


def refusal(**arguments: Any) -> tuple[str, ExitCode]:
    with pytest.raises((ConfigError, UsageError)) as caught:
        load_config(**{"kind": TrainConfig} | arguments)
    message, hint = caught.value.message, caught.value.hint
    assert "\n" not in message + hint
    assert not re.search("pydantic|input|validation|Value|union", message)
    return message, caught.value.exit_code


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "training.epochs",
            "three",
            "--epochs three: expected auto or a whole number from 1 to 100,000",
        ),
        (
            "training.epochs",
            "0",
            "--epochs 0: expected auto or a whole number from 1 to 100,000",
        ),
        ("model.dropout", "1", "--dropout 1: expected a number of at least 0 and less than 1"),
        (
            "optimizer.learning_rate",
            "-1",
            "--learning-rate -1: expected auto, find or a number greater than 0 and at most 10",
        ),
        ("augment.flip", "2", "--flip 2: expected a number from 0 to 1"),
        ("runtime.seed", "-1", "--seed -1: expected a whole number from 0 to 4,294,967,295"),
        (
            "optimizer.name",
            "adamm",
            (
                "--optimizer adamm: expected one of auto, sgd, adam, adamw, rmsprop, muon; "
                "did you mean adam?"
            ),
        ),
        ("data.color", "blue", "--color blue: expected one of auto, rgb, gray"),
        (
            "runtime.device",
            "gpux",
            (
                "--device gpux: expected auto, cpu, gpu, gpu:all or gpu:N (N = 0, 1, ...); "
                "did you mean gpu?"
            ),
        ),
        (
            "model.filters",
            "32,x",
            "--filters 32,x: expected auto or whole numbers from 1 to 8,192, separated by commas",
        ),
        ("data.image_size", "1x2x3", f"--image-size 1x2x3: expected {SIZE}"),
        ("data.image_size", "", f"--image-size '': expected {SIZE}"),
    ],
)
def test_an_option_is_refused_as_it_was_typed(key: str, value: str, message: str) -> None:
    assert refusal(options={key: value}) == (message, ExitCode.USAGE)


def test_an_assignment_is_refused_as_it_was_typed() -> None:
    assert refusal(assignments=["model.batch_norm=maybe"]) == (
        "--set model.batch_norm=maybe: expected true or false",
        ExitCode.USAGE,
    )
    assert refusal(assignments=["model.filtres=32"]) == (
        "--set model.filtres=32: unknown setting; did you mean model.filters?",
        ExitCode.USAGE,
    )


FILE = """# my run
[training]
epochs = "three"

[model]
filters = [
    32,
    0,
]
'dropout' = 2

[optimiser]
name = "adam"
"""


def test_a_setting_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(FILE)
    message, code = refusal(file=file)
    assert code == ExitCode.CONFIG
    assert message.split("; ", 1)[0] == (
        f'{file}, line 3: training.epochs = "three": expected auto or a whole number from 1 to '
        "100,000"
    )
    assert f"{file}, line 6: model.filters = [32, 0]: expected auto or whole numbers" in message
    assert f"{file}, line 10: model.dropout = 2: expected a number" in message
    assert message.endswith(
        f'{file}, line 13: optimiser.name = "adam": unknown setting; did you mean optimizer.name?'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.dropout = 2", "line 1: model.dropout = 2: expected a number"),
        ("\nmodel = {stride = 1, dropout = 2}", "line 2: model.dropout = 2: expected a number"),
        ('[ model ]\n\n"dropout"=2', "line 3: model.dropout = 2: expected a number"),
        ("modle = 3", "line 1: modle = 3: unknown setting; did you mean model?"),
        ("model = 3", "line 1: model = 3: expected a section with settings"),
        ("[model.dropout]\nx = 1", 'line 1: model.dropout = {"x": 1}: expected a number'),
    ],
)
def test_the_line_of_a_setting_is_found(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    assert refusal(file=file)[0].startswith(f"{file}, {message}")


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[model]\nstride = 0\n")
    message, code = refusal(
        file=file, assignments=["optimizer.name=sgdd"], options={"training.epochs": "abc"}
    )
    assert message.split("; ") == [
        f"{file}, line 2: model.stride = 0: expected a whole number from 1 to 8",
        "--set optimizer.name=sgdd: expected one of auto, sgd, adam, adamw, rmsprop, muon",
        "did you mean sgd?",
        "--epochs abc: expected auto or a whole number from 1 to 100,000",
    ]
    assert code == ExitCode.CONFIG, "the file has to be changed"


def test_a_stronger_layer_heals_a_weaker_one(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[model]\nstride = 0\n")
    config, _ = load_config(file, options={"model.stride": "2"}, kind=TrainConfig)
    assert config.model.stride == 2


@pytest.mark.parametrize("assignment", ["model.dropout", "dropout=1", "=", ""])
def test_a_malformed_assignment_is_explained(assignment: str) -> None:
    with pytest.raises(UsageError, match=r"expected section\.key=value"):
        load_config(assignments=[assignment], kind=TrainConfig)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.toml", kind=TrainConfig)
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(broken, kind=TrainConfig)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, kind=TrainConfig)


@pytest.mark.parametrize(
    ("kind", "key", "old", "new"),
    [
        (TrainConfig, "runtime.precision", "mixed_bfloat16", "bfloat16"),
        (FinetuneConfig, "runtime.precision", "mixed_float16", "float16"),
        (FinetuneConfig, "head.pooling", "avg", "global_average"),
        (FinetuneConfig, "head.pooling", "max", "global_max"),
        (PredictConfig, "precision", "mixed_bfloat16", "bfloat16"),
    ],
)
def test_names_in_plans_of_earlier_versions_are_still_read(
    kind: type[CommandConfig], key: str, old: str, new: str
) -> None:
    config, _ = load_config(options={key: old}, kind=kind)
    section, _, name = key.rpartition(".")
    assert getattr(getattr(config, section) if section else config, name) == new


@pytest.mark.parametrize("preset", MODEL_PRESETS)
def test_every_preset_is_a_choice_and_names_only_known_settings(preset: str) -> None:
    config, origins = load_config(options={"model.preset": preset}, kind=TrainConfig)
    assert config.model.preset == preset
    assert set(origins) <= set(list_fields(TrainConfig))


@given(key=st.sampled_from([*list_fields(TrainConfig)]), text=st.text(max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_value_is_taken_or_refused_by_name(key: str, text: str) -> None:
    message = ""
    try:
        load_config(options={key: text}, kind=TrainConfig)
    except UsageError as error:
        message = error.message
    assert message == "" or message.startswith(option_name(key))


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_config_survives_its_own_json(data: Any) -> None:
    options = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "model.filters": st.lists(st.integers(1, 64), min_size=1, max_size=4),
                "model.dropout": st.floats(0, 0.9),
                "data.image_size": st.tuples(st.integers(1, 99), st.integers(1, 99)),
                "training.epochs": st.integers(1, 99),
                "runtime.seed": st.integers(0, 99),
            },
        )
    )
    config, _ = load_config(options=options, kind=TrainConfig)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("text", ["3", "'3'", "stage5", "all"])
def test_stages_to_unfreeze_need_no_quotes(text: str) -> None:
    config, _ = load_config(assignments=[f"tail.unfreeze={text}"], kind=FinetuneConfig)
    assert config.tail.unfreeze == text.strip("'")


def test_settings_are_changed_by_dotted_key() -> None:
    config = TrainConfig(training=TrainingConfig(epochs=2)) | {"model.filters": "8,16"}
    assert config.training.epochs == 2
    assert config.model.filters == [8, 16]
    assert explicit_settings(config) == {"training.epochs": 2, "model.filters": [8, 16]}
    assert (PredictConfig() | {"top_k": 1}).top_k == 1


def test_a_wrong_change_is_named_as_python_wrote_it() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig() | {"training.epoch": 2, "optimizer.name": "adma"}
    assert "training.epoch = 2: unknown setting; did you mean training.epochs?" in str(caught.value)
    assert 'optimizer.name = "adma"' in caught.value.message


@pytest.mark.parametrize(
    "take",
    [
        lambda given: load_config(arguments=given, kind=TrainConfig)[0],
        lambda given: TrainConfig() | given,
    ],
)
def test_settings_by_section_are_those_by_dotted_key(take: Any) -> None:
    assert take({"model": {"preset": "tiny"}}) == take({"model.preset": "tiny"})
    with pytest.raises(ConfigError) as caught:
        take({"training": {"epochs": "three", "epoch": 3}, "model.dropout": 0.2, 5: 1})
    message = caught.value.message
    assert 'training.epochs = "three": expected auto or a whole number' in message
    assert "training.epoch = 3: unknown setting; did you mean training.epochs?" in message
    assert "5 = 1: unknown setting" in message
