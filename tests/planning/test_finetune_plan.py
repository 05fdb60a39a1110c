"""What a plan for fine-tuning leaves open, refuses and says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError, DataError, RunError
from cnnclf.planning.choices import choose_tail_epochs
from cnnclf.planning.finetune_pace import FORWARD
from cnnclf.planning.finetune_plan import FinetunePlan, plan_operations
from cnnclf.planning.train_plan import TrainPlan
from tests.training.tiny_finetune import TINY, plan_tiny, tiny_backbone

SEARCH: dict[str, object] = {
    "head.search": True,
    "head.learning_rate": "auto",
    "head.weight_decay": "auto",
}


def test_plans_do_not_mix(shapes: Dataset) -> None:
    content = plan_tiny(shapes).to_dict()
    assert FinetunePlan.from_dict(content).to_dict() == content
    with pytest.raises(RunError, match="this is a run of cnnclf finetune, not of cnnclf train"):
        TrainPlan.from_dict(content)
    with pytest.raises(RunError, match="this is a run of cnnclf train, not"):
        FinetunePlan.from_dict(content | {"command": "train"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone.name": "efficientnet-lite9"}, "unknown backbone 'efficientnet-lite9'"),
        ({"data.image_size": 6}, "image size of at least 8x8"),
        ({"tail.unfreeze": "stage9"}, "a stage of tiny to unfreeze, received 'stage9'"),
        ({"tail.unfreeze": "7"}, "has 4 stages, cannot unfreeze 7"),
        (
            {"optimizer.name": "adam", "head.weight_decay": 0.5},
            r"adam does not support weight decay \(got head.weight_decay = 0.5\)",
        ),
        (
            {"optimizer.name": "adam", "head.weight_decay": 0, "tail.weight_decay": 0.1},
            r"got tail.weight_decay = 0.1",
        ),
        (
            {"augment.mixup": 0.2, "features.views": 2},
            "mixup cannot be used with several cached views",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(
    shapes: Dataset, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_tiny(shapes, **options)


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs"),
    [(1, 4, 10), (200, 32, 10), (480, 32, 10), (481, 32, 10), (640, 32, 8), (1_000, 32, 5)],
)
def test_fewer_epochs_of_the_tail_where_they_have_many_steps(
    count: int, batch_size: int, epochs: int
) -> None:
    def choose(
        *stages: str, train: int = count, val: int = 9, batch_size: int = batch_size, **kind: str
    ) -> tuple[int, str]:
        counts = {"train": train, "val": val}
        settings = {"kind": "image"} | kind
        return choose_tail_epochs(stages, counts=counts, batch_size=batch_size, **settings)

    light = ("stem", "b1", "final")
    chosen, why = choose(*light)
    assert (chosen, "150 steps" in why) == (epochs, True)
    assert choose(*light, train=10**6, batch_size=128)[0] == 5
    assert choose("b1") == (10, "the usual number")
    assert choose(*light, val=0) == (10, "there is no val split")
    assert choose(*light, kind="sound")[0] == 10


def test_missing_weights_are_reported_by_the_plan(shapes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no weights file or run"):
        plan_tiny(shapes, **{"backbone.weights": str(tmp_path / "none.h5")})


def test_fewer_images_than_twice_the_classes_are_refused(shapes: Dataset) -> None:
    labels = shapes.labels
    try:
        object.__setattr__(shapes, "labels", tuple(f"label{i}" for i in range(25)))
        with pytest.raises(
            DataError, match="48 images for 25 classes; fine-tuning needs at least 50"
        ):
            plan_tiny(shapes)
    finally:
        object.__setattr__(shapes, "labels", labels)


def test_gray_images_are_repeated_and_it_is_said(shapes: Dataset) -> None:
    shapes.manifest.modes[:], kept = ["L"] * len(shapes.manifest), list(shapes.manifest.modes)
    try:
        plan = plan_tiny(shapes)
    finally:
        shapes.manifest.modes[:] = kept
    assert plan.input_spec.channels == 3
    assert "all training images are gray" in plan.remarks[0]


def test_auto_depends_on_the_backbone_and_the_data(shapes: Dataset) -> None:
    plan = plan_tiny(shapes, **{"tail.unfreeze": "auto"})
    assert plan.config.tail.unfreeze in ("1", "none")
    assert "tail.unfreeze" in plan.reasons


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"features.cache": False}, "it needs cached features"),
        ({"optimizer.name": "sgd"}, "it supports adamw only, not sgd"),
        ({"head.learning_rate": 0.01, "head.weight_decay": 0.1}, "both rates are given"),
    ],
    ids=str,
)
def test_the_head_search_is_off_with_a_reason_and_the_rates_are_settled(
    shapes: Dataset, options: dict[str, object], reason: str
) -> None:
    plan = plan_tiny(shapes, **SEARCH | options)
    assert plan.reasons["head.search"] == reason
    assert not plan.config.head.search
    assert plan.config.head.learning_rate == options.get("head.learning_rate", 3e-3)
    assert plan.config.head.weight_decay == options.get("head.weight_decay", 0.01)


def test_an_optimizer_without_weight_decay_gets_none(shapes: Dataset) -> None:
    plan = plan_tiny(shapes, **SEARCH | {"optimizer.name": "adam"})
    assert plan.config.head.weight_decay == 0
    assert plan.reasons["head.weight_decay"] == "adam does not support weight decay"


def test_the_head_search_is_off_where_nothing_can_be_chosen_by(shapes: Dataset) -> None:
    kept = shapes.manifest.splits.copy()
    try:
        shapes.manifest.splits[kept == 1] = 0
        plan = plan_tiny(shapes, **SEARCH)
    finally:
        shapes.manifest.splits[:] = kept
    assert plan.reasons["head.search"] == "it needs a val split"
    assert plan.config.training.patience == 0


def test_the_head_search_is_on_for_hidden_layers_too(shapes: Dataset) -> None:
    head = plan_tiny(shapes, **SEARCH, **{"head.units": 8}).config.head
    assert head.search
    assert head.learning_rate == "auto"


def test_one_cached_view_is_the_image_as_it_is(shapes: Dataset) -> None:
    plan = plan_tiny(shapes, **{"augment.preset": "medium"})
    assert dict(plan.operations) == {}


def test_further_views_are_cropped_and_flipped_only_if_asked(shapes: Dataset) -> None:
    plan = plan_tiny(shapes, **{"features.views": 3})
    assert dict(plan.operations) == {"translate": 0.04, "crop": 0.3}
    assert plan.config.augment.crop == 0.3
    assert "augment.crop" in plan.reasons
    asked = plan_tiny(shapes, **{"features.views": 3, "augment.flip": 0.5})
    assert asked.operations["flip"] == 0.5
    named = plan_tiny(shapes, **{"features.views": 3, "augment.preset": "light"})
    assert dict(named.operations) == {"translate": 0.04}


@pytest.mark.parametrize("options", [{"features.cache": False}, {"tail.unfreeze": "all"}], ids=str)
def test_what_trains_on_images_is_augmented(shapes: Dataset, options: dict[str, object]) -> None:
    plan = plan_tiny(shapes, **options, **{"augment.preset": "strong"})
    assert {"flip", "mixup", "cutmix"} <= set(plan.operations)
    views = plan_operations(plan.config, on_pixels=False)
    assert not {"mixup", "cutmix"} & set(views)


@pytest.mark.parametrize(
    ("backbone", "unfreeze", "rate", "decay"),
    [
        ("efficientnet-lite0", "4", 1e-3, 1.0),
        ("mobilenetv2", "4", 1e-3, 1.0),
        ("resnet50", "1", 3e-4, 0.7),
    ],
)
def test_what_is_trained_and_how_fast_follows_from_the_kind_of_stages(
    shapes: Dataset, backbone: str, unfreeze: str, rate: float, decay: float
) -> None:
    options: dict[str, object] = {"backbone.name": backbone, "data.image_size": 64}
    tail = {"tail.unfreeze": "auto", "tail.learning_rate": "auto", "tail.layer_decay": "auto"}
    plan = plan_tiny(shapes, **options, **tail)
    chosen = plan.config.tail
    assert (chosen.unfreeze, chosen.learning_rate, chosen.layer_decay) == (unfreeze, rate, decay)
    assert set(tail) <= set(plan.reasons)
    given = plan_tiny(shapes, **options, **{"tail.unfreeze": "none", "tail.learning_rate": 0.2})
    assert given.config.tail.learning_rate == 0.2
    assert not set(tail) & set(given.reasons)


def test_few_val_images_are_said_to_be_few(shapes: Dataset) -> None:
    plan = plan_tiny(shapes)
    count = plan.counts["val"]
    assert 0 < count < 100
    assert plan.remarks[-1].startswith(f"val has only {count} images: each is ")


@pytest.fixture
def in_table() -> Iterator[None]:
    """Let plans find the row of the tiny backbone after they were made, too."""
    with tiny_backbone():
        yield


@pytest.mark.usefixtures("in_table")
def test_minutes_become_epochs_of_the_tail_and_the_plan_says_what_it_expects(
    shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnclf.planning.pace.is_estimable", lambda: True)
    monkeypatch.delitem(TINY, "tail.epochs")
    plan, longer = (plan_tiny(shapes, **{"training.minutes": each}) for each in (2, 4))
    assert 1 <= plan.planned_epochs < longer.planned_epochs
    assert plan.config.training.patience == 0
    assert "2 minutes" in plan.reasons["tail.epochs"]
    expected = plan.expect()
    assert expected.seconds == pytest.approx(120, rel=0.1)
    assert sum(expected.parts.values()) < expected.seconds
    assert "2 min, with evaluation; 9 epochs expected; " in expected.describe(2, epochs=9)
    with pytest.raises(ConfigError, match=r"minutes = 0\.1 is too short") as caught:
        plan_tiny(shapes, **{"training.minutes": 0.1})
    least = float(str(caught.value.hint).split()[-1])
    assert plan_tiny(shapes, **{"training.minutes": least}).planned_epochs >= 1
    with pytest.raises(ConfigError, match="exclude each other"):
        plan_tiny(shapes, **{"training.minutes": 5, "tail.epochs": 3})


@pytest.mark.usefixtures("in_table")
def test_without_a_tail_minutes_are_the_most_that_a_run_takes(shapes: Dataset) -> None:
    plan = plan_tiny(shapes, **{"training.minutes": 5, "tail.unfreeze": "none"})
    assert plan.planned_epochs == 0
    assert list(plan.expect().parts) == ["the first phase"]
    assert plan.expect().seconds < 300
    assert plan.expect().describe(5, epochs=0).startswith("at most 5 min; about ")


@pytest.mark.usefixtures("in_table")
def test_a_larger_backbone_or_one_without_cached_maps_takes_longer(shapes: Dataset) -> None:
    def expect(**options: object) -> float:
        return plan_tiny(shapes, **options).expect().parts["the second phase"]

    large = {"backbone.name": "resnet50", "data.image_size": 64}
    assert expect(**large) > 2 * expect()
    assert expect(**large, **{"features.cache": False}) > 1.5 * expect(**large)


@pytest.mark.usefixtures("in_table")
def test_a_measured_pace_replaces_the_estimate(shapes: Dataset) -> None:
    plan = plan_tiny(shapes)
    assert not plan.pace.is_measured
    plan.keep_pace({"float32": 5.0, "bfloat16": 8.0, FORWARD: 20.0})
    assert plan.pace.choose() == "bfloat16", "the rate of the whole network is no precision"
    assert plan.expect().parts["the second phase"] > plan.planned_epochs * 34 / 8
    assert not plan_tiny(shapes, **{"tail.unfreeze": "2"}).pace.is_measured
