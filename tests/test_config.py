"""Settings: layers, errors, and the parity of options, file and --set."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.config import (
    MODEL_PRESETS,
    FinetuneConfig,
    TrainConfig,
    load_config,
    setting_keys,
)
from cnnclf.errors import ConfigError, ExitCode


def test_defaults_need_nothing() -> None:
    config, origins = load_config()
    assert config == TrainConfig()
    assert origins == {}


def test_stronger_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[model]\npreset = 'textbook'\ndropout = 0.1\nkernel_size = 5\n")
    config, origins = load_config(
        file, assignments=["model.dropout=0.2", "model.stride=2"], options={"model.dropout": "0.3"}
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
    config, _ = load_config(assignments=[assignment])
    assert getattr(config.model, key) == value


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("48x64", (48, 64)), ("auto", "auto")]
)
def test_sizes_are_height_by_width(text: str, size: object) -> None:
    config, _ = load_config(options={"data.image_size": text})
    assert config.data.image_size == size


def test_all_errors_are_told_at_once_with_nearest_names() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            assignments=["model.filtres=32", "optimizer.name=sgdd", "training.epochs=abc"],
            options={"model.dropout": 2},
        )
    message = caught.value.message
    assert "unknown setting model.filtres (--set), did you mean model.filters?" in message
    assert "model.dropout (option) received 2" in message
    assert "optimizer.name (--set) received 'sgdd'" in message
    assert "training.epochs (--set) received 'abc'" in message
    assert "\n" not in message
    assert caught.value.exit_code == ExitCode.CONFIG


@pytest.mark.parametrize("assignment", ["model.dropout", "dropout=1", "=", ""])
def test_a_malformed_assignment_is_explained(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"expected --set section\.key=value"):
        load_config(assignments=[assignment])


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing at"):
        load_config(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n")
    with pytest.raises(ConfigError, match="expected TOML in"):
        load_config(broken)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize("preset", MODEL_PRESETS)
def test_every_preset_is_a_choice_and_names_only_known_settings(preset: str) -> None:
    config, origins = load_config(options={"model.preset": preset})
    assert config.model.preset == preset
    assert set(origins) <= set(setting_keys())


@given(key=st.sampled_from(setting_keys()), text=st.text(max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_value_is_taken_or_refused_by_name(key: str, text: str) -> None:
    refusal = ""
    try:
        load_config(options={key: text})
    except ConfigError as error:
        refusal = error.message
    assert refusal == "" or key in refusal


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
    config, _ = load_config(options=options)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("text", ["3", "'3'", "stage5", "all"])
def test_stages_to_unfreeze_need_no_quotes(text: str) -> None:
    config, _ = load_config(assignments=[f"tail.unfreeze={text}"], kind=FinetuneConfig)
    assert config.tail.unfreeze == text.strip("'")
