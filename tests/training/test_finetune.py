"""Fine-tuning: cached and whole path agree, the best of all phases is kept, resume is exact."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import FinetuneConfig, load_config
from cnnclf.data.cache import cache_dir
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import ConfigError, DeviceError, RunError
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Silent
from cnnclf.runs import create_run, open_run
from cnnclf.runtime import setup_runtime
from cnnclf.training import engines, feature_cache, features, finetune, phase_data
from cnnclf.training.callbacks import Conductor
from cnnclf.training.finetune_plan import FinetunePlan, plan_finetuning
from cnnclf.training.run import TrainResult
from cnnclf.training.train_plan import TrainPlan

TINY = {
    "backbone.name": "mobilenet-0.25",
    "backbone.weights": "none",
    "data.image_size": 32,
    "head.epochs": 3,
    "tail.epochs": 2,
    "tail.unfreeze": "1",
    "training.batch_size": 16,
    "runtime.device": "cpu",
    "runtime.deterministic": True,
}

Finetune = Callable[..., TrainResult]


def make_plan(dataset: Dataset, **options: object) -> FinetunePlan:
    config, given = load_config(options=TINY | options, kind=FinetuneConfig)
    return plan_finetuning(config, dataset, given=given)


@pytest.fixture
def tune(shapes: Dataset, monkeypatch: pytest.MonkeyPatch) -> Finetune:
    """Fine-tune a tiny backbone: `tune(path, **{"features.views": 2})`."""
    monkeypatch.setattr(phase_data, "choose_engine", lambda *_: "keras-float32")

    def call(
        path: Path,
        *,
        resume: bool = False,
        on_epoch: Any = None,
        progress: Silent | None = None,
        **options: object,
    ) -> TrainResult:
        runtime = setup_runtime(device="cpu", seed=0, deterministic=True)
        return finetune.finetune(
            make_plan(shapes, **options),
            shapes,
            open_run(path) if resume else create_run(path),
            runtime,
            resume=resume,
            on_epoch=on_epoch,
            progress=progress or Silent(),
        )

    return call


def test_both_phases_leave_one_whole_network(tune: Finetune, tmp_path: Path) -> None:
    progress = Silent()
    result = tune(tmp_path / "run", progress=progress)
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["head"] * 3 + ["tail"] * 2
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    model = Classifier.load(tmp_path / "run").model
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 3)
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in result.state.history]
    assert result.state.best_epoch == scores.index(max(scores)) + 1
    record = open_run(tmp_path / "run").read_record()
    assert record["status"] == "finished"
    assert record["best_phase"] == rows[result.state.best_epoch - 1]["phase"]
    assert len(record["head_search"]) == 6
    assert any(note.startswith("head search: of 6 settings") for note in progress.notes)
    assert any("frozen layers of" in note and "kB" in note for note in progress.notes)


def test_cached_and_whole_path_agree(shapes: Dataset) -> None:
    """Float16 keeps 11 bits: logits differ by less than a hundredth of the largest.

    With trained weights, for random ones make features too small for the difference to show.
    """
    setup_runtime(device="cpu", seed=0)
    lite0 = {"backbone.name": "efficientnet-lite0", "backbone.weights": "imagenet"}
    plan = make_plan(shapes, **lite0, **{"tail.unfreeze": "2"})
    transfer, _ = finetune.build_from_weights(plan, progress=Silent())
    logits = transfer.whole.get_layer("logits")
    logits.kernel.assign(np.random.default_rng(0).normal(0, 0.5, logits.kernel.shape))
    stage = plan.frozen_stage
    assert stage == "stage6"
    frozen = transfer.features(stage)
    pixels = open_pixels(shapes, plan.input_spec, cache="ram", progress=Silent())
    rows = np.arange(len(shapes.manifest))
    job = make_job(shapes, plan, frozen, rows)
    (made,) = feature_cache.open_features(
        [job],
        pixels,
        lambda: engines.build_engine("keras-float32", frozen),
        "keras-float32",
        threads=1,
        progress=Silent(),
    )
    whole = np.asarray(transfer.whole(pixels.gather(rows), training=False))
    from_pooled = np.asarray(transfer.head(made[0].gather(rows), training=False))
    from_maps = np.asarray(transfer.cut(stage)[1](made[1].gather(rows), training=False))
    largest = np.abs(whole).max()
    assert largest > 0.01
    assert np.abs(from_pooled - whole).max() < 0.01 * largest
    assert np.abs(from_maps - whole).max() < 0.01 * largest
    (again,) = feature_cache.open_features(
        [job], pixels, pytest.fail, "keras-float32", threads=1, progress=Silent()
    )
    np.testing.assert_array_equal(again[1].array, made[1].array)


def make_job(
    dataset: Dataset, plan: FinetunePlan, frozen: Any, rows: Any, views: int = 1
) -> features.FeatureJob:
    return features.FeatureJob(
        dataset,
        plan.input_spec,
        rows,
        views,
        {"flip": 1.0} if views > 1 else {},
        0,
        graph="test",
        weights=features.hash_weights(frozen),
        shapes=tuple(tuple(output.shape[1:]) for output in frozen.outputs),
    )


def test_a_worse_second_phase_never_wins(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Conductor._measure

    def see_a_bad_tail(conductor: Conductor, epoch: int, logs: Any) -> dict[str, Any]:
        row = measure(conductor, epoch, logs)
        return row | {"val_accuracy": 0.0} if row["phase"] == "tail" else row

    monkeypatch.setattr(Conductor, "_measure", see_a_bad_tail)
    result = tune(tmp_path / "run")
    assert result.state.epoch == 5
    assert result.state.best_epoch <= 3
    assert open_run(tmp_path / "run").read_record()["best_phase"] == "head"
    assert Classifier.load(tmp_path / "run").bundle["extra"]["epoch"] == result.state.best_epoch


@pytest.mark.parametrize("stop", [2, 4], ids=["in the head", "in the tail"])
def test_resuming_equals_never_having_stopped(
    tune: Finetune, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "_SAVE_EVERY_S", 0.0)

    def press_ctrl_c(row: dict[str, Any], _best: bool) -> None:
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    whole = tune(tmp_path / "whole", **{"features.views": 2})
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", on_epoch=press_ctrl_c, **{"features.views": 2})
    resumed = tune(tmp_path / "parts", resume=True, **{"features.views": 2})
    measured = ("epoch", "phase", "loss", "val_loss", "learning_rate")
    for ours, theirs in zip(resumed.state.history, whole.state.history, strict=True):
        assert [ours[name] for name in measured] == [theirs[name] for name in measured]
    ours, theirs = (Classifier.load(tmp_path / name).model for name in ("parts", "whole"))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_without_a_cache_the_whole_network_trains_with_the_frozen_part_as_it_was(
    tune: Finetune, tmp_path: Path
) -> None:
    tune(
        tmp_path / "run",
        **{"features.cache": False, "head.epochs": 1, "tail.epochs": 1, "head.units": 4},
    )
    model = Classifier.load(tmp_path / "run" / "checkpoints" / "last").model
    norm = next(layer for layer in model.layers if "bn" in layer.name)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(norm.moving_mean.shape))
    assert not (cache_dir() / "features").exists()


def test_all_trains_every_layer_on_pixels(tune: Finetune, tmp_path: Path) -> None:
    result = tune(tmp_path / "run", **{"tail.unfreeze": "all", "head.epochs": 1, "tail.epochs": 1})
    assert [row["phase"] for row in result.state.history] == ["head", "tail"]


def test_views_are_drawn_anew_in_each_epoch(shapes: Dataset) -> None:
    array = np.arange(3 * 8, dtype=np.float16)[:, None]
    source = features.Features(array, np.arange(8), {5: "unreadable"})
    batches = features.FeatureBatches(
        source, shapes.manifest.class_indices, num_classes=3, batch_size=4, threads=1
    )
    first, second = batches.order(0), batches.order(1)
    assert sorted(first % 8) == [0, 1, 2, 3, 4, 6, 7]
    assert first.tolist() != second.tolist()
    assert first.max() >= 8
    x, y = next(batches.epoch(0))
    assert x.dtype == np.float16
    expected = shapes.manifest.class_indices[x[:, 0].astype(int) % 8]
    np.testing.assert_array_equal(y.argmax(axis=1), expected)


def test_a_full_disk_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match=r"of free disk for the frozen layers'") as caught:
        feature_cache.check_room(tmp_path / "not" / "yet", 1 << 60)
    assert "--feature-fallback" in caught.value.hint


def test_features_beyond_float16_are_refused(shapes: Dataset) -> None:
    class Huge:
        name = "huge"

        def run(self, batches: Any, write: Any) -> None:
            for index, x in batches:
                write(index, [np.full((len(x), 2), 1e6, np.float32)])

    plan = make_plan(shapes)
    pixels = open_pixels(shapes, plan.input_spec, cache="ram", progress=Silent())
    job = features.FeatureJob(
        shapes, plan.input_spec, np.arange(4), 1, {}, 0, graph="g", weights="w", shapes=((2,),)
    )
    with pytest.raises(RunError, match="within float16, received 1000000"):
        feature_cache.open_features([job], pixels, Huge, "huge", threads=1, progress=Silent())
    assert not list((cache_dir() / "features").iterdir())


def test_plans_do_not_mix(shapes: Dataset) -> None:
    content = make_plan(shapes).to_dict()
    assert FinetunePlan.from_dict(content).to_dict() == content
    with pytest.raises(RunError, match="received one of cnnclf finetune"):
        TrainPlan.from_dict(content)
    with pytest.raises(RunError, match="received one of cnnclf train"):
        FinetunePlan.from_dict(content | {"command": "train"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone.name": "efficientnet-lite1"}, "name of a backbone"),
        ({"data.image_size": 16}, "image size of at least 32x32"),
        ({"tail.unfreeze": "stage9"}, "a stage of mobilenet-0.25 to unfreeze, received 'stage9'"),
        ({"tail.unfreeze": "7"}, "at most 6 stages"),
        ({"augment.mixup": 0.2, "features.views": 2}, "expected no mixup with cached features"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(
    shapes: Dataset, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan(shapes, **options)


def test_missing_weights_are_told_by_the_plan(shapes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="found no file"):
        make_plan(shapes, **{"backbone.weights": str(tmp_path / "none.h5")})


def test_grey_pictures_are_repeated_and_it_is_said(shapes: Dataset) -> None:
    shapes.manifest.modes[:], kept = ["L"] * len(shapes.manifest), list(shapes.manifest.modes)
    try:
        plan = make_plan(shapes)
    finally:
        shapes.manifest.modes[:] = kept
    assert plan.input_spec.channels == 3
    assert "all training pictures are grey" in plan.remarks[0]


def test_auto_depends_on_the_backbone_and_the_data(shapes: Dataset) -> None:
    plan = make_plan(shapes, **{"tail.unfreeze": "auto"})
    assert plan.config.tail.unfreeze in ("1", "none")
    assert "tail.unfreeze" in plan.reasons
