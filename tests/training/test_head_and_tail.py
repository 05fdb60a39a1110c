"""Whole fine-tuning runs: the best of all phases is kept, resume is exact."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.data.cache import cache_dir
from cnnclf.data.manifest import Dataset
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.errors import DataError
from cnnclf.evaluation.learning_diagnosis import read_rows
from cnnclf.files import read_json
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.finetune_pace import FORWARD, FinetuneWork
from cnnclf.planning.pace import Pace
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import open_run
from cnnclf.training import head_and_tail, interpolation
from cnnclf.training.epochs import EpochRow
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting import judging
from cnnclf.training.fitting.callbacks import Conductor
from cnnclf.training.fitting.fit import Phase, build_loss
from cnnclf.training.fitting.judging import Verdict
from cnnclf.training.fitting.state import Snapshot, save_state
from cnnclf.training.frozen.features import FeatureBatches, Features
from cnnclf.training.run import TrainResult
from tests.training.tiny_finetune import TINY, build_tiny, tune_tiny

Finetune = Callable[..., TrainResult]


@pytest.fixture
def tune(colors: Dataset) -> Finetune:
    """Fine-tune a tiny backbone: `tune(path, **{"features.views": 2})`."""
    return lambda path, **options: tune_tiny(colors, path, **options)


def read_weights(path: Path) -> list[Any]:
    return list(Classifier.load(path).model.get_weights())


def test_both_phases_are_traced_and_nothing_else_changes(tune: Finetune, tmp_path: Path) -> None:
    plain = tune(tmp_path / "plain")
    traced = tune(tmp_path / "traced", **{"training.trace": True})
    assert [row.loss for row in traced.history] == [row.loss for row in plain.history]
    rows = read_rows(traced.run.trace)
    heads = [row for row in rows if row["epoch"] <= 3]
    assert [row["layer"] for row in heads] == ["logits"] * 3
    tails = [row for row in rows if row["epoch"] > 3]
    assert [row["layer"] for row in tails] == ["conv3", "logits"] * 3
    assert tails[0]["dead_fraction"] is not None  # a ReLU follows
    assert all(row["gradient_norm"] > 0 and row["update_ratio"] > 0 for row in rows)
    without = tune(tmp_path / "without", **{"training.trace": True, "features.cache": False})
    tail = read_rows(without.run.trace)[-2:]  # in a model within the model
    assert [row["layer"] for row in tail] == ["conv3", "logits"]
    assert all(row["gradient_norm"] > 0 for row in tail)


def test_the_head_is_the_epoch_with_the_lowest_val_loss_of_its_whole_schedule(
    tune: Finetune, tmp_path: Path
) -> None:
    options = {"tail.unfreeze": "none", "head.epochs": 12, "head.learning_rate": 0.5}
    result = tune(tmp_path / "run", **options)
    losses = [row.val_loss or 0.0 for row in result.history]
    assert len(losses) == 12  # patience would end it once a loss is not the lowest
    assert result.state.best_epoch == 1 + losses.index(min(losses))
    given = tune(tmp_path / "given", **options, **{"training.patience": 1})
    assert len(given.history) < 12


def test_both_phases_leave_one_whole_network(tune: Finetune, tmp_path: Path) -> None:
    progress = Silent()
    searched = {"head.search": True, "head.learning_rate": "auto", "head.weight_decay": "auto"}
    result = tune(tmp_path / "run", progress=progress, **searched)
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["head"] * 3 + ["tail"] * 3
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    model = Classifier.load(tmp_path / "run").model
    assert model.input_shape == (None, 16, 16, 3)
    assert model.output_shape == (None, 3)
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"best", "last"}
    record = open_run(tmp_path / "run").read_record()
    assert record["status"] == "finished"
    assert record["best_phase"] == rows[result.state.best_epoch - 1]["phase"]
    assert record["feature_engine"] == "keras-float32"
    assert len(record["head_search"]) == 6
    notes = "\n".join(progress.notes)
    assert "head search: of 6 settings" in notes
    assert "frozen layers of 34 images and 7 images with keras-float32, once: " in notes
    assert "kB in " in notes
    assert " free)" in notes


@pytest.mark.parametrize(
    ("engine", "bound"),
    # float16, in which features are kept, has 11 bits, and bfloat16 has 8; measured: 4e-4 and 8e-3
    [("keras-float32", 0.01), ("openvino-bf16", 0.05)],
)
def test_cached_and_whole_path_are_compared_and_agree(
    tune: Finetune, tmp_path: Path, engine: str, bound: float
) -> None:
    """After two phases, logits of both ways differ by a small part of their spread."""
    if engine.startswith("openvino"):
        pytest.importorskip("openvino", reason="the extra 'openvino' brings it")
    progress = Silent()
    tune(tmp_path / "run", progress=progress, engine=engine)
    record = open_run(tmp_path / "run").read_record()
    assert record["feature_engine"] == engine
    for figures in record["phases"].values():
        assert figures["images"] == 7
        assert figures["other_labels"] == 0
        assert figures["cached_val_accuracy"] == figures["val_accuracy"]
        assert 0 < figures["mean_logit_difference"] <= figures["largest_logit_difference"]
        assert figures["largest_logit_difference"] < bound * figures["logit_spread"]
    said = next(note for note in progress.notes if note.startswith("head: val accuracy"))
    assert "through the whole network" in said
    assert "from cached features (0 of 7 labels differ; logits, " in said


def test_features_far_from_what_the_network_gives_are_warned_of(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = Features.gather
    monkeypatch.setattr(Features, "gather", lambda self, rows: -gather(self, rows))
    progress = Silent()
    tune(tmp_path / "run", progress=progress, **{"tail.unfreeze": "none"})
    (warning,) = (text for text in progress.warnings if "features" in text)
    assert "--feature-precision float32 reduces the difference" in warning
    record = open_run(tmp_path / "run").read_record()
    figures = record["phases"]["head"]
    assert figures["val_accuracy"] != pytest.approx(figures["cached_val_accuracy"])
    assert record["best_val_accuracy"] == figures["val_accuracy"]


@pytest.mark.parametrize(
    ("mean", "other_labels", "is_large"), [(0.027, 3, False), (0.2, 2, False), (0.2, 3, True)]
)
def test_close_calls_are_no_reason_to_warn(mean: float, other_labels: int, is_large: bool) -> None:
    found = judging.Difference(
        mean, 1.0, spread=1.0, other_labels=other_labels, images=50, accuracy=0.6
    )
    assert found.is_large == is_large


def test_a_worse_second_phase_never_wins_even_if_its_epochs_look_better(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Conductor._measure

    def praise_the_tail(conductor: Conductor, epoch: int, logs: Any) -> EpochRow:
        row = measure(conductor, epoch, logs)
        return replace(row, val_accuracy=1.0) if row.phase == "tail" else row

    monkeypatch.setattr(Conductor, "_measure", praise_the_tail)
    progress = Silent()
    wild = {"tail.learning_rate": 10.0, "tail.warmup": 0.0, "tail.layer_decay": 1.0}
    result = tune(tmp_path / "run", progress=progress, **wild)
    record = open_run(tmp_path / "run").read_record()
    judged = record["phases"]
    assert judged["tail"]["val_loss"] > judged["head"]["val_loss"]
    assert "the tail is not better: the best epoch of the head is kept" in progress.notes
    assert result.state.best_epoch <= 3
    assert record["best_phase"] == "head"
    best = Classifier.load(tmp_path / "run")
    assert best.bundle["extra"]["epoch"] == result.state.best_epoch
    frozen = best.model.get_layer("conv3").kernel  # the tail would have changed it
    last = Classifier.load(tmp_path / "run" / "checkpoints" / "last").model
    assert np.abs(frozen - last.get_layer("conv3").kernel).max() > 1


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, 6), ({"training.patience": 9}, 4), ({"tail.schedule": "plateau"}, 4)],
    ids=["its last epoch", "with patience the most accurate", "so with plateaus"],
)
def test_the_tail_is_its_last_epoch_whatever_val_says_of_epochs(
    tune: Finetune,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    kept: int,
) -> None:
    measure = Conductor._measure

    def praise_the_first(conductor: Conductor, epoch: int, logs: Any) -> EpochRow:
        row = measure(conductor, epoch, logs)
        return replace(row, val_accuracy=0.9 - 0.1 * epoch if row.phase == "tail" else 0.1)

    monkeypatch.setattr(Conductor, "_measure", praise_the_first)
    monkeypatch.setattr(head_and_tail._Phases, "_is_tail_better", lambda _self: True)
    praised: list[int] = []

    def note(row: EpochRow, is_best: bool) -> None:
        praised.extend([row.epoch] if is_best and row.phase == "tail" else [])

    result = tune(tmp_path / "run", listeners=[note], **{"tail.interpolate": False} | options)
    assert praised == ([] if kept == 6 else [4])
    assert [row.phase for row in result.state.history] == ["head"] * 3 + ["tail"] * 3
    assert result.state.best_epoch == kept
    assert Classifier.load(tmp_path / "run").bundle["extra"]["epoch"] == kept


@pytest.mark.parametrize(("interpolates", "winner"), [(True, "tail"), (False, "head")])
def test_phases_are_compared_by_loss_like_the_weights_between_them(
    tune: Finetune,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interpolates: bool,
    winner: str,
) -> None:
    seen: list[Verdict] = []

    def score(verdict: Verdict) -> tuple[float, float]:
        if not any(each is verdict for each in seen):
            seen.append(verdict)  # that of the head comes first
        return (0.9, -0.5) if verdict is seen[0] else (0.8, -0.4)

    monkeypatch.setattr(Verdict, "score", property(score))
    result = tune(tmp_path / "run", **{"tail.interpolate": interpolates})
    assert len(seen) == 2
    assert result.run.read_record()["best_phase"] == winner


def test_weights_between_the_phases_are_kept_if_they_are_better(
    tune: Finetune, colors: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With val rigged to prefer the middle, the best bundle is exactly between its two parents."""
    kept: dict[str, list[Any]] = {}
    choose = interpolation.choose_fraction

    def prefer_half(part: Any, *, head: Any, tail: Any, **options: Any) -> float:
        kept.update(head=head, tail=tail)
        monkeypatch.setattr("cnnclf.training.interpolation.FRACTIONS", (0.5,))
        return choose(part, head=head, tail=tail, **options)

    monkeypatch.setattr("cnnclf.training.head_and_tail.choose_fraction", prefer_half)
    monkeypatch.setattr(head_and_tail._Phases, "_is_tail_better", lambda _self: True)
    progress = Silent()
    result = tune(tmp_path / "run", progress=progress)
    best = Classifier.load(tmp_path / "run")
    assert best.bundle["extra"] == {"epoch": result.state.best_epoch, "tail_fraction": 0.5}
    assert result.state.best_epoch > 3
    rows = colors.manifest.select("val")
    pixels = np.stack([best.decode(colors.file(row)) for row in rows.tolist()])
    is_right = best.logits(pixels).argmax(axis=1) == colors.manifest.class_indices[rows]
    figure = result.run.read_record()["best_val_accuracy"]
    assert figure == pytest.approx(float(is_right.mean())), "that of these weights, not of an epoch"
    assert any("tail: 50 % of the way from the weights of the head" in n for n in progress.notes)
    ends = zip(kept["head"], kept["tail"], strict=True)
    middle = {tuple(np.shape(a)): (a + b) / 2 for a, b in ends}
    kernel = best.model.get_layer("conv3").kernel
    np.testing.assert_allclose(kernel, middle[tuple(kernel.shape)], rtol=1e-6, atol=1e-7)
    moved = [np.abs(a - b).max() for a, b in zip(kept["head"], kept["tail"], strict=True)]
    assert max(moved) > 1e-3, "else the middle would be anywhere"


def test_without_interpolation_the_phases_alone_are_compared(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnclf.training.head_and_tail.choose_fraction", pytest.fail)
    tune(tmp_path / "run", **{"tail.interpolate": False, "head.epochs": 1, "tail.epochs": 1})
    assert "tail_fraction" not in Classifier.load(tmp_path / "run").bundle["extra"]


@pytest.mark.parametrize("has_val", [True, False])
def test_a_second_phase_whose_loss_is_no_number_ends_and_the_run_continues(
    colors: Dataset, tmp_path: Path, has_val: bool
) -> None:
    if not has_val:
        splits = np.where(colors.manifest.splits == SPLITS.index("val"), 0, colors.manifest.splits)
        colors = replace(colors, manifest=replace(colors.manifest, splits=splits))
    progress = Silent()
    wild: dict[str, Any] = {
        "tail.learning_rate": 10.0,
        "tail.warmup": 0.0,
        "tail.clip_norm": 0.0,
        "tail.epochs": 40,
        "tail.weight_decay": 1.0,  # each step multiplies kernels by -9
        "tail.schedule": "constant",
        "tail.layer_decay": 1.0,
        "training.patience": 0,
        "head.epochs": 1,
        "optimizer.name": "sgd",
    }
    result = tune_tiny(colors, tmp_path / "run", progress=progress, **wild)
    assert any("loss became NaN in epoch" in w for w in progress.warnings)
    assert result.state.epoch < 41
    assert result.state.epoch >= 2  # there were epochs of the second phase before
    assert result.state.best_epoch == 1
    assert Classifier.load(tmp_path / "run").bundle["extra"]["epoch"] == 1
    assert open_run(tmp_path / "run").read_record()["status"] == "finished"


EVERYTHING: dict[str, Any] = {
    "features.views": 2,
    "tail.layer_decay": 0.5,
    "tail.schedule": "one_cycle",
    "head.schedule": "one_cycle",
    "head.learning_rate": 1e-4,
    "head.units": 4,
    "optimizer.ema": 0.5,
}


@pytest.fixture(scope="module")
def whole_run(colors: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run with everything that has a state, never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNCLF_CACHE_DIR", str(path.parent / "cache"))
        patch.setattr(head_and_tail, "_SAVE_EVERY_S", 0.0)
        result = tune_tiny(colors, path, **EVERYTHING)
    assert result.state.best_epoch > 3, "else there is no choice to be stopped in"
    return result


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param("epoch 2", marks=pytest.mark.slow),
        pytest.param("judging 1", marks=pytest.mark.slow),
        pytest.param("epoch 4", marks=pytest.mark.slow),
        "saving 4",
        "judging 2",
    ],
)
@pytest.mark.usefixtures("saves_every_epoch")
def test_resuming_equals_never_having_stopped(
    tune: Finetune,
    tmp_path: Path,
    whole_run: TrainResult,
    stop: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_and_tail, "_SAVE_EVERY_S", 0.0)
    what, _, number = stop.partition(" ")
    judged: list[Path] = []
    judge = judging.judge_checkpoint

    def press_ctrl_c(row: EpochRow, _best: bool) -> None:
        if what == "epoch" and row.epoch == int(number):
            raise KeyboardInterrupt

    def judge_or_stop(checkpoint: Path, *arguments: Any, **options: Any) -> Any:
        judged.append(checkpoint)
        if what == "judging" and len(judged) == int(number):
            raise KeyboardInterrupt
        return judge(checkpoint, *arguments, **options)

    def save_or_stop(directory: Path, snapshot: Snapshot) -> None:
        if what == "saving" and snapshot.state.epoch == int(number):
            raise KeyboardInterrupt  # between the best checkpoint and the last
        save_state(directory, snapshot)

    monkeypatch.setattr("cnnclf.training.work.judge_checkpoint", judge_or_stop)
    with monkeypatch.context() as patch:
        patch.setattr("cnnclf.training.fitting.checkpoints.save_state", save_or_stop)
        with pytest.raises(KeyboardInterrupt):
            tune(tmp_path / "parts", listeners=[press_ctrl_c], **EVERYTHING)
    assert Classifier.load(tmp_path / "parts").labels, "what there is can be used"
    resumed = tune(tmp_path / "parts", resume=True, **EVERYTHING)
    measured = ("epoch", "phase", "loss", "val_loss", "learning_rate")
    for ours, theirs in zip(resumed.state.history, whole_run.state.history, strict=True):
        assert all(getattr(ours, name) == getattr(theirs, name) for name in measured)
    assert resumed.state.best_epoch == whole_run.state.best_epoch
    assert (
        open_run(tmp_path / "parts").read_record()["phases"]
        == (whole_run.run.read_record()["phases"])
    )
    for name in ("best", "last"):
        both = [
            read_weights(path / "checkpoints" / name)
            for path in (tmp_path / "parts", whole_run.run.path)
        ]
        for mine, other in zip(*both, strict=True):
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
    figures = open_run(tmp_path / "run").read_record()["phases"]["head"]
    assert "cached_val_accuracy" not in figures, "there is one way only"


@pytest.mark.parametrize("first", ["bad", "good"])
def test_val_images_that_went_bad_are_skipped_whether_or_not_features_are_found(
    colors: Dataset, tmp_path: Path, first: str
) -> None:
    shutil.copytree(colors.root, tmp_path / "images")
    dataset = replace(colors, root=tmp_path / "images")
    bad = dataset.file(int(dataset.manifest.select("val")[2]))
    short: dict[str, Any] = {"data.cache": "none", "head.epochs": 1, "tail.unfreeze": "none"}

    def tune() -> tuple[int, int]:
        run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        failed = tune_tiny(dataset, run, **short).failed
        return failed, open_run(run).read_record()["phases"]["head"]["images"]

    if first == "good":
        assert tune() == (0, 7)
    bad.write_bytes(b"no image any more")
    assert tune() == (1, 6)
    assert tune() == (1, 6), "its features, or that it has none, are found on disk"


def test_val_images_that_all_went_bad_are_an_error_of_one_line(
    colors: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(colors.root, tmp_path / "images")
    dataset = replace(colors, root=tmp_path / "images")
    short: dict[str, Any] = {"data.cache": "none", "head.epochs": 1, "tail.unfreeze": "none"}
    tune_tiny(dataset, tmp_path / "first", **short)
    for row in dataset.manifest.select("val"):
        dataset.file(int(row)).unlink()
    with pytest.raises(DataError, match=r"none of the val images in .* can be decoded"):
        tune_tiny(dataset, tmp_path / "second", **short)


@pytest.mark.parametrize(
    "options",
    [{}, {"features.cache": False}, {"tail.unfreeze": "all"}],
    ids=["cached", "plain", "all"],
)
def test_batch_normalization_of_unfrozen_stages_keeps_what_it_came_with(
    tune: Finetune, tmp_path: Path, options: dict[str, Any]
) -> None:
    import keras

    tune(tmp_path / "run", **{"head.epochs": 1, "tail.epochs": 1, **options})
    model = Classifier.load(tmp_path / "run" / "checkpoints" / "last").model
    before = build_tiny(input_tensor=keras.Input((16, 16, 3))).get_layer("conv3").kernel
    assert np.abs(model.get_layer("conv3").kernel - before).max() > 1e-4, "its stage was trained"
    norm = model.get_layer("bn3")
    for values, as_made in [
        (norm.moving_mean, 0.0),
        (norm.moving_variance, 1.0),
        (norm.gamma, 1.0),
        (norm.beta, 0.0),
    ]:
        np.testing.assert_array_equal(values, np.full(values.shape, as_made))


def test_all_trains_every_layer_on_pixels(tune: Finetune, tmp_path: Path) -> None:
    result = tune(tmp_path / "run", **{"tail.unfreeze": "all", "head.epochs": 1, "tail.epochs": 1})
    assert [row.phase for row in result.state.history] == ["head", "tail"]


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "plain"])
def test_a_backbone_whose_cut_two_maps_cross_is_fine_tuned(
    tune: Finetune, tmp_path: Path, cache: bool
) -> None:
    options = {"backbone.name": "tiny-joined", "features.cache": cache}
    result = tune(tmp_path / "run", **options, **{"head.epochs": 1, "tail.epochs": 1})
    assert [row.phase for row in result.state.history] == ["head", "tail"]


@pytest.mark.slow
def test_a_nasnet_is_fine_tuned(tune: Finetune, tmp_path: Path) -> None:
    options = {"backbone.name": "nasnet-mobile", "data.image_size": 32}
    result = tune(tmp_path / "run", **options, **{"head.epochs": 1, "tail.epochs": 1})
    assert [row.phase for row in result.state.history] == ["head", "tail"]


@pytest.mark.parametrize("schedule", ["plateau", pytest.param("constant", marks=pytest.mark.slow)])
def test_patience_starts_again_in_each_phase(tune: Finetune, tmp_path: Path, schedule: str) -> None:
    still = {"head.learning_rate": 1e-9, "tail.learning_rate": 1e-9}
    result = tune(
        tmp_path / "run",
        **still,
        **{"head.epochs": 9, "tail.epochs": 9, "training.patience": 1},
        **{"head.schedule": schedule, "tail.schedule": schedule},
    )
    phases = [row.phase for row in result.state.history]
    assert 2 <= phases.count("head") < 9
    assert 2 <= phases.count("tail") < 9


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("balance", ["none", "weights", "sample", "focal"])
def test_balance_reaches_features_images_and_the_loss(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balance: str, cache: bool
) -> None:
    class SeenError(Exception):
        pass

    def look(_: Any, phase: Phase, *, batches: Batches, val_batches: Batches, **__: Any) -> None:
        assert isinstance(batches, FeatureBatches) == cache
        assert (batches.class_weights is not None) == (balance == "weights")
        assert batches.balanced_sampling == (balance == "sample")
        assert val_batches.class_weights is None
        assert not val_batches.balanced_sampling
        loss = build_loss(phase.training)
        assert (getattr(loss, "gamma", None) == 3.0) == (balance == "focal")
        raise SeenError

    monkeypatch.setattr(head_and_tail, "fit_phase", look)
    options = {"training.balance": balance, "training.focal_gamma": 3.0, "features.cache": cache}
    with pytest.raises(SeenError):
        tune(tmp_path / "run", **options)


def test_a_balanced_sample_changes_what_both_phases_learn(tune: Finetune, tmp_path: Path) -> None:
    plain, weighted = (
        tune(tmp_path / balance, **{"training.balance": balance, "features.views": 2})
        for balance in ("none", "sample")
    )
    assert [row.phase for row in weighted.history] == ["head"] * 3 + ["tail"] * 3
    assert weighted.history[0].loss != plain.history[0].loss


def test_a_tail_that_could_not_win_is_skipped_and_that_is_said(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_and_tail, "cannot_improve", lambda _verdict, **_given: True)
    monkeypatch.setattr(judging.Verdict, "score", (1.0, -0.1))
    monkeypatch.delitem(TINY, "tail.unfreeze")
    progress = Silent()
    result = tune(tmp_path / "run", progress=progress)
    assert {row.phase for row in result.history} == {"head"}
    assert any(note.startswith("tail skipped: the head has all 7") for note in progress.notes)
    assert open_run(tmp_path / "run").read_record()["status"] == "finished"


@pytest.mark.parametrize(
    ("images", "wrong", "given", "expected"),
    [
        (200, 0, (), True),
        (200, 1, (), False),
        (50, 0, (), False),
        (200, 0, ("tail.unfreeze",), False),
    ],
)
def test_only_a_head_without_mistakes_on_enough_images_cannot_improve(
    images: int, wrong: int, given: tuple[str, ...], expected: bool
) -> None:
    truth = np.arange(images) % 2
    logits = np.eye(2, dtype=np.float32)[truth]
    logits[:wrong] = logits[:wrong, ::-1]
    verdict = judging.Verdict(logits, truth)
    assert head_and_tail.cannot_improve(verdict, given=given) is expected


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that each look moves by 50 ms, on a machine that starts and finishes at once."""
    now = [0.0]

    def look(*_arguments: object) -> float:
        now[0] += 0.05
        return now[0]

    monkeypatch.setattr("cnnclf.training.work.Work.seconds", look)
    for name in ("planning.finetune_pace.START_S", "planning.finetune_pace._HEAD_S"):
        monkeypatch.setattr(f"cnnclf.{name}", 0.1)
    monkeypatch.setattr(head_and_tail, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("cnnclf.planning.pace._FINISH_S", 0.1)
    monkeypatch.setattr("cnnclf.training.fitting.pacing._FINISH_S", 0.1)
    # so far, nothing was measured: a step of 16 images takes about as long as a look at the clock
    monkeypatch.setattr(
        FinetuneWork,
        "find_pace",
        lambda _self: Pace({"float32": 300.0, FORWARD: 300.0}, is_measured=True),
    )
    judge = judging.judge_checkpoint
    monkeypatch.setattr(
        "cnnclf.training.work.judge_checkpoint",
        lambda *args, **more: replace(judge(*args, **more), image_s=0.001, load_s=0.1),
    )
    return now


@pytest.mark.usefixtures("saves_every_epoch")
def test_a_run_with_minutes_trains_the_tail_for_the_time_that_is_left_and_resumes(
    colors: Dataset, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"training.minutes": 0.1, "tail.schedule": "linear"}
    monkeypatch.delitem(TINY, "tail.epochs")
    progress = Silent()

    def press_ctrl_c(row: EpochRow, _best: bool) -> None:
        if row.phase == "tail" and row.epoch == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_tiny(colors, tmp_path / "run", listeners=[press_ctrl_c], progress=progress, **options)
    state = read_json(tmp_path / "run" / "checkpoints" / "last" / "state.json")
    assert 0 < state["spent_s"] < 6
    clock[0] = 0.0
    result = tune_tiny(colors, tmp_path / "run", resume=True, **options)
    assert result.state.is_time_up
    assert result.state.epoch > 6
    assert result.state.spent_s == pytest.approx(6, rel=0.1)
    tail = [row.learning_rate for row in result.state.history if row.phase == "tail"]
    assert tail[-1] < 0.25 * max(tail), "the schedule ran to its end"
    assert [row.epoch for row in result.state.history] == [*range(1, result.state.epoch + 1)]
    assert any(note.startswith("tail: ") and "expected to take" in note for note in progress.notes)


@pytest.mark.usefixtures("saves_every_epoch")
def test_a_bad_head_gets_a_longer_tail_also_after_an_interruption(
    colors: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"head.learning_rate": 1e-9, "training.patience": 0}
    monkeypatch.delitem(TINY, "tail.epochs")
    monkeypatch.setattr("cnnclf.planning.choices.MOST_TAIL_EPOCHS", 2)
    monkeypatch.setattr("cnnclf.training.tail_time.MOST_TAIL_EPOCHS", 4)
    progress = Silent()
    whole = tune_tiny(colors, tmp_path / "whole", progress=progress, **options)
    assert [row.phase for row in whole.history] == ["head"] * 3 + ["tail"] * 4
    assert any(note.startswith("tail: 4 epochs") for note in progress.notes)

    def press_ctrl_c(row: EpochRow, _best: bool) -> None:
        if row.phase == "tail" and row.epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_tiny(colors, tmp_path / "run", listeners=[press_ctrl_c], **options)
    resumed = tune_tiny(colors, tmp_path / "run", resume=True, **options)
    for ours, theirs in zip(resumed.history, whole.history, strict=True):
        assert (ours.loss, ours.learning_rate) == (theirs.loss, theirs.learning_rate)


def test_a_tail_that_there_is_no_time_for_is_skipped_and_that_is_said(
    colors: Dataset, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Silent()
    monkeypatch.delitem(TINY, "tail.epochs")
    clock[0] = 5.9
    short: dict[str, Any] = {"training.minutes": 0.1}
    result = tune_tiny(colors, tmp_path / "run", progress=progress, **short)
    assert {row.phase for row in result.history} == {"head"}
    assert any("are left, which is too short for it" in note for note in progress.notes)


def test_a_tail_that_can_hardly_win_is_stopped_in_the_middle(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Conductor._measure

    def fail_the_tail(conductor: Conductor, epoch: int, logs: Any) -> EpochRow:
        row = measure(conductor, epoch, logs)
        return replace(row, val_accuracy=0.1 if row.phase == "tail" else 0.9)

    monkeypatch.setattr(Conductor, "_measure", fail_the_tail)
    progress = Silent()
    result = tune(tmp_path / "run", progress=progress, **{"tail.epochs": 6})
    assert len(result.history) == 3 + 3
    assert any("its val accuracy can hardly reach that of" in note for note in progress.notes)
    assert "the tail is much less accurate: the best epoch of the head is kept" in progress.notes
    assert result.run.read_record()["best_phase"] == "head"
    extra = Classifier.load(tmp_path / "run").bundle["extra"]
    assert extra == {"epoch": result.state.best_epoch}, "no weights of half a schedule"


def test_a_head_that_folds_find_perfect_needs_no_tail_although_val_is_small(
    tune: Finetune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging.Verdict, "score", (1.0, -0.1))
    monkeypatch.setattr("cnnclf.planning.choices._IMAGES_FOR_A_TAIL", 1)
    monkeypatch.setattr(head_and_tail, "count_right", lambda *_, **__: 200)
    monkeypatch.delitem(TINY, "tail.unfreeze")
    progress = Silent()
    result = tune(tmp_path / "run", progress=progress)
    assert {row.phase for row in result.history} == {"head"}
    (note,) = (note for note in progress.notes if note.startswith("tail skipped"))
    assert "the head has all 200 images of train and val, in folds" in note
