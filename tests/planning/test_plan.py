"""What "auto" becomes for which images, and that the plan survives its file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.data.manifest import Dataset, Manifest
from cnnclf.errors import ConfigError, RunError
from cnnclf.files import write_json_atomic
from cnnclf.planning.choices import count_blocks
from cnnclf.planning.network_settings import resolve_model
from cnnclf.planning.plan import count_threads, parse_plan
from cnnclf.planning.train_plan import TrainPlan, plan_training


def dataset(
    *,
    size: tuple[int, int] = (28, 28),
    mode: str = "L",
    train: int = 60,
    val: int = 20,
    classes: int = 3,
    sizes: list[tuple[int, int]] | None = None,
) -> Dataset:
    """A dataset on paper."""
    count = train + val
    sizes = (sizes or [size]) * count
    indices = np.array([i % classes for i in range(count)], np.int32)
    manifest = Manifest(
        paths=[f"{i}.png" for i in range(count)],
        class_indices=indices,
        splits=np.array([0] * train + [1] * val, np.int8),
        widths=np.array([each[1] for each in sizes[:count]], np.int32),
        heights=np.array([each[0] for each in sizes[:count]], np.int32),
        modes=[mode] * count,
        sha256=["0" * 64] * count,
        groups=[""] * count,
        notes=[""] * count,
    )
    labels = tuple(f"label{i}" for i in range(classes))
    return Dataset(Path("d"), Path("d"), labels, manifest, {}, "fingerprint")


def plan(data: Dataset, **options: Any) -> TrainPlan:
    keyed = {key.replace("__", "."): value for key, value in options.items()}
    config, origins = load_config(options=keyed, kind=TrainConfig)
    return plan_training(config, data, given=origins)


def test_small_gray_images_are_taken_as_they_are() -> None:
    made = plan(dataset())
    assert made.input_spec.shape == (28, 28, 1)
    assert made.config.model.blocks == 3
    assert "28x28" in made.reasons["data.image_size"]
    assert "gray" in made.reasons["data.color"]


@pytest.mark.parametrize(
    ("images", "used"),
    [
        ((20, 2000), (13, 1280)),
        ((20, 100), (20, 100)),
        ((400, 100), (256, 64)),
        ((90, 240), (90, 90)),
    ],
)
def test_images_much_longer_than_wide_keep_their_proportions(
    images: tuple[int, int], used: tuple[int, int]
) -> None:
    made = plan(dataset(size=images, mode="RGB"))
    assert made.input_spec.shape[:2] == used
    assert made.input_spec.fit == ("pad" if used == (90, 90) else "squash")


def test_large_images_are_scaled_to_128() -> None:
    made = plan(dataset(size=(384, 512), mode="RGB"))
    assert made.input_spec.shape == (128, 128, 3)
    assert made.input_spec.fit == "pad", "nothing of a wide image may be lost"
    assert made.config.model.blocks == 5


def test_mixed_modes_are_seen_in_color() -> None:
    data = dataset(mode="L")
    data.manifest.modes[3] = "RGB"
    assert plan(data).input_spec.channels == 3


def test_one_odd_shape_in_a_hundred_does_not_change_the_fit() -> None:
    sizes = [(50, 50)] * 99 + [(50, 150)]
    made = plan(dataset(sizes=sizes, train=200))
    assert made.input_spec.fit == "squash"


@pytest.mark.parametrize(
    ("count", "batch", "epochs"), [(54_000, 128, 15), (3_000, 64, 32), (210, 32, 60), (10, 4, 60)]
)
def test_small_data_gets_more_epochs_and_smaller_batches(
    count: int, batch: int, epochs: int
) -> None:
    training = plan(dataset(train=count, val=3), model__preset="default").config.training
    assert training.batch_size == batch
    assert training.epochs == epochs


def test_nothing_is_left_open_but_the_machine() -> None:
    made = plan(dataset()).to_dict()
    open_keys = [
        f"{section}.{key}"
        for section, values in made["config"].items()
        for key, value in values.items()
        if value == "auto"
    ]
    assert set(open_keys) == {
        "data.seconds",  # of sounds
        "runtime.device",
        "runtime.precision",
        "runtime.threads",
    }


def test_every_resolved_setting_has_a_reason_and_given_ones_have_none() -> None:
    made = plan(dataset(), training__epochs=3, model__filters="8,16", data__color="gray")
    assert "training.epochs" not in made.reasons
    assert "model.filters" not in made.reasons
    assert "data.color" not in made.reasons
    assert all(made.reasons.values())


def test_a_list_of_filters_says_how_many_blocks() -> None:
    made = plan(dataset(), model__preset="textbook", model__filters="8,16")
    assert made.config.model.blocks == 2
    assert made.config.model.convs_per_block == [1, 1]


def test_a_list_of_convolutions_says_how_many_blocks() -> None:
    made = plan(dataset(size=(64, 64)), model__convs_per_block="1,3")
    assert (made.config.model.blocks, made.config.model.filters) == (2, [32, 64])
    assert plan(dataset(size=(64, 64)), model__convs_per_block="3").config.model.blocks == 4


@pytest.mark.parametrize(
    ("options", "blocks", "side"),
    [
        ({}, 4, 8),
        ({"padding": "valid"}, 3, 9),
        ({"stride": 2}, 2, 8),
        ({"pool_size": 3}, 3, 7),
        ({"kernel_size": 7, "padding": "valid"}, 2, 17),
        ({"pooling": "none"}, 4, 64),
        ({"kernel_size": 31, "padding": "valid", "convs_per_block": 2}, 1, 4),
    ],
)
def test_blocks_follow_how_fast_feature_maps_shrink(
    options: dict[str, Any], blocks: int, side: int
) -> None:
    given = {f"model__{key}": value for key, value in options.items()}
    made = plan(dataset(size=(64, 64)), **given)
    assert made.config.model.blocks == blocks
    assert made.reasons["model.blocks"] == f"the last feature maps are {side}x{side}"
    last = made.anatomy.last_local
    assert last is not None
    assert last.output_shape[:2] == (side, side)


def test_the_default_network_has_the_usual_number_of_blocks() -> None:
    found = {
        side: resolve_model(TrainConfig().model, (side, side + 3), given={})[0].blocks
        for side in (*range(1, 159), 160, 224, 512)
    }
    assert found == {side: count_blocks(side, side + 3) for side in found}


def test_one_number_of_filters_is_for_every_block_that_was_asked_for() -> None:
    made = plan(dataset(), model__blocks=3, model__filters="8")
    assert made.config.model.filters == [8, 8, 8]
    assert made.anatomy == plan(dataset(), model__filters="8,8,8").anatomy
    assert plan(dataset(), model__filters="8").config.model.blocks == 1


def test_blocks_given_over_a_preset_get_usual_filters() -> None:
    made = plan(dataset(), model__preset="textbook", model__blocks=2)
    assert made.config.model.filters == [32, 64]


def test_the_preset_fast_fits_batches_epochs_and_rate_to_the_images() -> None:
    def figures(count: int, **options: Any) -> tuple[Any, ...]:
        config = plan(dataset(train=count), model__preset="fast", **options).config
        training = config.training
        return training.batch_size, training.epochs, config.optimizer.learning_rate

    assert figures(50_000) == (1024, 10, 0.24)
    assert figures(3_000) == (64, 10, 0.24 / 4)
    assert figures(50_000, training__batch_size=256) == (256, 10, 0.24 / 2)
    assert figures(300) == (32, 40, pytest.approx(0.24 / 32**0.5))
    assert figures(300, training__epochs=3, optimizer__learning_rate=0.5) == (32, 3, 0.5)
    assert "flip" not in plan(dataset(), model__preset="fast").operations


def test_minutes_are_laid_out_as_epochs_without_patience() -> None:
    many = dataset(train=50_000)
    made, longer = (
        plan(many, training__minutes=minutes, model__preset="default") for minutes in (10, 20)
    )
    training = made.config.training
    assert training.patience == 0
    assert 1 <= int(training.epochs) < int(longer.config.training.epochs)
    assert "10 minutes" in made.reasons["training.epochs"]


def test_too_few_minutes_name_the_least_and_epochs_exclude_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cnnclf.planning.pace.is_estimable", lambda: True)
    with pytest.raises(ConfigError, match=r"minutes = 0\.1 is too short") as caught:
        plan(dataset(), training__minutes=0.1)
    least = float(str(caught.value.hint).split()[-1])
    assert plan(dataset(), training__minutes=least * 1.5).config.training.minutes == least * 1.5
    with pytest.raises(ConfigError, match="exclude each other"):
        plan(dataset(), training__minutes=5, training__epochs=3)


def test_contradicting_lists_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"filters = 8,16: 2 numbers for 3 blocks"):
        plan(dataset(), model__blocks=3, model__filters="8,16")


@pytest.mark.parametrize("setting", [{"pool_size": 3}, {"pool_stride": 1}, {"pool_last": True}])
def test_settings_of_pooling_are_refused_without_it(setting: dict[str, Any]) -> None:
    options = {f"model__{key}": value for key, value in setting.items()}
    with pytest.raises(ConfigError, match=r"pooling = none has no use for model\.pool_"):
        plan(dataset(), model__pooling="none", **options)
    plan(dataset(), model__pooling="none", model__preset="textbook")  # which pools at the end


def test_weight_decay_is_refused_where_the_optimizer_has_none() -> None:
    with pytest.raises(
        ConfigError,
        match=r"weight decay \(got optimizer\.weight_decay = 0\.5\)",
    ):
        plan(dataset(), optimizer__name="adam", optimizer__weight_decay=0.5)
    for options in ({}, {"optimizer__weight_decay": 0}):
        assert plan(dataset(), optimizer__name="adam", **options).config.optimizer.name == "adam"


def test_hue_on_gray_images_is_refused_when_asked_for() -> None:
    with pytest.raises(ConfigError, match="hue"):
        plan(dataset(), augment__hue=0.1)


def test_many_small_images_are_trained_with_the_preset_fast() -> None:
    many, few, large = (
        dataset(train=10_000),
        dataset(train=9999),
        dataset(train=10_000, size=(41, 28)),
    )
    assert plan(many).config.model.preset == "fast"
    assert plan(many).config.optimizer.schedule == "linear"
    assert "10,000 images" in plan(many).reasons["model.preset"]
    assert plan(many, training__epochs=3).config.training.epochs == 3
    assert [plan(each).config.model.preset for each in (few, large)] == ["default", "default"]


@pytest.mark.parametrize(
    "options", [{"model__dropout": 0.3}, {"optimizer__momentum": 0.5}, {"model__preset": "default"}]
)
def test_who_shapes_the_network_gets_the_default_one(options: dict[str, Any]) -> None:
    made = plan(dataset(train=10_000), **options)
    assert made.config.model.preset == "default"
    assert made.config.optimizer.name == "muon"


@pytest.mark.parametrize(
    ("options", "name", "rate", "momentum"),
    [
        ({}, "muon", 0.071, 0.6),
        ({"training__batch_size": 8}, "muon", 0.025, 0.6),
        ({"training__batch_size": 128}, "muon", 0.1, 0.6),
        ({"training__batch_size": 4096}, "muon", 0.24, 0.6),
        ({"model__batch_norm": False}, "muon", 0.021, 0.6),
        ({"optimizer__learning_rate": "find"}, "adamw", "find", 0.9),
        ({"optimizer__momentum": 0.5}, "muon", 0.071, 0.5),
        ({"optimizer__learning_rate": 0.001}, "adamw", 0.001, 0.9),
        ({"optimizer__weight_decay": 0.01}, "adamw", 4e-3, 0.9),
        ({"model__l2": 0.001}, "adamw", 4e-3, 0.9),
        ({"model__preset": "textbook"}, "adamw", 1e-3, 0.9),
        ({"optimizer__name": "muon", "optimizer__learning_rate": 0.05}, "muon", 0.05, 0.6),
        ({"optimizer__name": "sgd"}, "sgd", 0.1, 0.9),
    ],
)
def test_muon_is_chosen_unless_settings_are_meant_for_another_optimizer(
    options: dict[str, Any], name: str, rate: float | str, momentum: float
) -> None:
    made = plan(dataset(train=9999), **options)
    chosen = made.config.optimizer
    assert (chosen.name, chosen.learning_rate, chosen.momentum) == (name, rate, momentum)
    is_chosen = not {"optimizer__name", "model__preset"} & options.keys()
    assert ("optimizer.name" in made.reasons) == is_chosen
    if name == "adamw" and is_chosen:
        assert "is given" in made.reasons["optimizer.name"]


def test_another_optimizer_does_not_get_the_rate_of_a_preset() -> None:
    made = plan(dataset(), model__preset="fast", optimizer__name="adamw").config.optimizer
    assert (made.name, made.learning_rate, made.momentum) == ("adamw", 4e-3, 0.9)


def test_single_operations_change_the_preset() -> None:
    made = plan(dataset(), augment__preset="none", augment__flip=0.5)
    assert dict(made.operations) == {"flip": 0.5}
    assert "flip" not in plan(dataset()).operations, "the default may not change a class"


def test_a_missing_val_split_is_remarked() -> None:
    made = plan(dataset(val=0))
    assert any("no val split" in text for text in made.remarks)
    assert made.config.training.patience == 0


def test_the_plan_survives_its_file(tmp_path: Path) -> None:
    made = plan(dataset(), model__l2=0.01, augment__flip=0.5)
    path = tmp_path / "plan.json"
    write_json_atomic(path, made.to_dict())
    assert parse_plan(path, TrainPlan.from_dict) == made
    write_json_atomic(path, made.to_dict() | {"plan_version": 99})
    with pytest.raises(RunError, match=r"plan\.json was written by a newer version"):
        parse_plan(path, TrainPlan.from_dict)
    write_json_atomic(path, made.to_dict() | {"plan_version": None})
    with pytest.raises(RunError, match=r"plan\.json is damaged: its format version is missing"):
        parse_plan(path, TrainPlan.from_dict)


def test_threads_follow_the_setting() -> None:
    config, _ = load_config(options={"runtime.threads": 3}, kind=TrainConfig)
    assert count_threads(config.runtime.threads) == 3
    assert count_threads("auto") >= 1
