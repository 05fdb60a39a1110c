"""Features on disk: found again, made whole or not at all, and what happens without room."""

import errno
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.data.cache import cache_dir
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DeviceError, RunError
from cnnclf.images.input_spec import InputSpec
from cnnclf.progress import Silent
from cnnclf.training.frozen import feature_cache
from cnnclf.training.frozen.feature_cache import NoRoomError, check_room, open_features
from cnnclf.training.frozen.features import FeatureBatches, FeatureJob, Features

SPEC = InputSpec(16, 16, channels=3, fit="squash")


class Means:
    """An engine that gives the mean of each channel and of each image, batches last first."""

    name = "means"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.images = 0

    def run(self, batches: Any, write: Callable[..., None]) -> None:
        for index, x in reversed(list(batches)):
            self.images += len(x)
            means = x.astype(np.float32).mean((1, 2)) * self.scale
            with ThreadPoolExecutor(1) as pool:
                pool.submit(write, index, [means, means[:, :1]]).result()


@pytest.fixture
def pixels(colors: Dataset) -> Pixels:
    return open_pixels(colors, SPEC, cache="ram", progress=Silent())


MEANS: dict[str, Any] = {
    "spec": SPEC,
    "views": 1,
    "operations": {},
    "seed": 0,
    "graph": "means",
    "weights": "none",
    "makers": "this test",
    "shapes": ((3,), (1,)),
}


def make_job(dataset: Dataset, rows: Any, **options: Any) -> FeatureJob:
    return FeatureJob(dataset=dataset, rows=rows, **MEANS | options)


def open_all(
    jobs: list[FeatureJob], pixels: Pixels, engine: Any, progress: Silent | None = None
) -> list[list[Features]]:
    return open_features(
        jobs,
        pixels,
        build=lambda: engine,
        engine="means",
        threads=1,
        progress=progress or Silent(),
    )


def read(features: Features) -> Any:
    return features.gather(np.arange(len(features.array)))


def test_every_image_gets_its_own_features_whatever_order_they_come_in(
    colors: Dataset, pixels: Pixels
) -> None:
    rows = np.arange(48)[::-1]
    ((means, firsts),) = open_all([make_job(colors, rows)], pixels, Means())
    expected = pixels.gather(rows).astype(np.float32).mean((1, 2))
    np.testing.assert_allclose(read(means), expected, rtol=1e-3)
    np.testing.assert_array_equal(read(firsts), read(means)[:, :1])
    assert means.dtype == np.float16
    assert means.gather(np.array([5, 2, 5])).tolist() == read(means)[[5, 2, 5]].tolist()


def test_they_are_found_again_and_only_what_is_missing_is_made(
    colors: Dataset, pixels: Pixels
) -> None:
    train, val, progress = np.arange(32), np.arange(32, 48), Silent()
    open_all([make_job(colors, train)], pixels, Means())
    engine = Means()
    made = open_all([make_job(colors, rows) for rows in (train, val)], pixels, engine, progress)
    assert engine.images == 16
    assert [len(features[0].array) for features in made] == [32, 16]
    assert "using the cached features of frozen layers for 32 images" in progress.notes
    assert any(note.startswith("frozen layers of 16 images with means") for note in progress.notes)
    open_all([make_job(colors, val)], pixels, pytest.fail)


@pytest.mark.parametrize(
    "change",
    [
        {"views": 2},
        {"views": 2, "seed": 1},
        {"views": 2, "operations": {"flip": 1.0}},
        {"dtype": "float32"},
        {"weights": "others"},
        {"graph": "means, scaled"},
        {"makers": "the next version"},
        {"spec": replace(SPEC, fit="pad")},
        {"spec": replace(SPEC, interpolation="nearest")},
    ],
    ids=str,
)
def test_other_settings_are_other_features(
    colors: Dataset, pixels: Pixels, change: dict[str, Any]
) -> None:
    rows = np.arange(8)
    for options in ({}, {"views": 2, "operations": {"flip": 0.5}}):
        open_all([make_job(colors, rows, **options)], pixels, Means())
    engine = Means()
    ((means, _),) = open_all([make_job(colors, rows, **change)], pixels, engine)
    assert engine.images == 8 * change.get("views", 1)
    assert means.dtype == change.get("dtype", "float16")


def test_other_images_another_order_and_another_engine_are_other_features(
    colors: Dataset, pixels: Pixels
) -> None:
    rows = np.arange(8)
    open_all([make_job(colors, rows)], pixels, Means())
    for others in (rows + 1, rows[::-1]):
        engine = Means()
        open_all([make_job(colors, others)], pixels, engine)
        assert engine.images == 8
    changed = replace(colors, manifest=replace(colors.manifest, sha256=["0" * 64] * len(colors)))
    engine = Means()
    open_all([make_job(changed, rows)], pixels, engine)
    assert engine.images == 8, "the content of files counts, not their names"

    def build() -> Any:
        raise KeyboardInterrupt

    job = make_job(colors, rows)
    open_features([job], pixels, build=build, engine="means", threads=1, progress=Silent())
    with pytest.raises(KeyboardInterrupt):
        open_features([job], pixels, build=build, engine="medians", threads=1, progress=Silent())


def test_views_are_augmented_and_the_first_is_the_image_itself(
    colors: Dataset, pixels: Pixels
) -> None:
    rows = np.arange(8)
    job = make_job(colors, rows, views=3, operations={"brightness": 0.5})
    ((means, _),) = open_all([job], pixels, Means())
    plain, *changed = np.split(read(means), 3)
    np.testing.assert_allclose(plain, pixels.gather(rows).astype("f4").mean((1, 2)), rtol=1e-3)
    assert all(np.abs(view - plain).max() > 1 for view in changed)
    assert np.abs(changed[0] - changed[1]).max() > 1


@pytest.mark.parametrize("damage", ["cut", "gone", "zeros", "description"])
def test_what_is_damaged_is_made_again(colors: Dataset, pixels: Pixels, damage: str) -> None:
    job = make_job(colors, np.arange(8))
    ((before, _),) = open_all([job], pixels, Means())
    expected = read(before)
    (file,) = (cache_dir() / "features").glob("*-0.features")
    (description,) = (cache_dir() / "features").glob("*.json")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "gone":
        file.unlink()
    elif damage == "zeros":  # what a crash leaves where pages were not yet written
        file.write_bytes(bytes(file.stat().st_size))
    else:
        description.write_text("{")
    engine = Means()
    ((after, _),) = open_all([job], pixels, engine)
    assert engine.images == 8
    np.testing.assert_array_equal(read(after), expected)


def test_what_a_killed_process_left_is_removed_after_a_while(
    colors: Dataset, pixels: Pixels
) -> None:
    directory = cache_dir() / "features"
    directory.mkdir(parents=True)
    names = (".old-0.1a2b3c4d.features", ".new-0.1a2b3c4d.features", "whole-0.features")
    for name in names:
        (directory / name).write_bytes(b"x")
    for name in (names[0], names[2]):
        os.utime(directory / name, (0, 0))
    open_all([make_job(colors, np.arange(8))], pixels, Means())
    assert [(directory / name).exists() for name in names] == [False, True, True]


def test_a_file_that_is_cut_meanwhile_is_an_error(colors: Dataset, pixels: Pixels) -> None:
    ((means, _),) = open_all([make_job(colors, np.arange(8))], pixels, Means())
    (file,) = (cache_dir() / "features").glob("*-0.features")
    with file.open("r+b") as opened:
        opened.truncate(20)
    assert means.gather(np.array([2])).shape == (1, 3)
    with pytest.raises(RunError, match="row 7 of 8 is missing"):
        means.gather(np.array([1, 7]))


def test_values_beyond_float16_are_refused_and_float32_holds_them(
    colors: Dataset, pixels: Pixels
) -> None:
    with pytest.raises(RunError, match=r"up to [0-9.]+, too large for float16") as error:
        open_all([make_job(colors, np.arange(4))], pixels, Means(1e4))
    assert error.value.hint == "use --feature-dtype float32"
    assert not list((cache_dir() / "features").iterdir())
    job = make_job(colors, np.arange(4), dtype="float32")
    ((means, _),) = open_all([job], pixels, Means(1e4))
    assert read(means).max() > 65_504


def test_the_room_for_all_that_is_missing_is_asked_for_at_once(
    colors: Dataset, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [make_job(colors, rows) for rows in (np.arange(32), np.arange(32, 48))]
    needed = sum(job.nbytes for job in jobs)
    assert needed == 48 * 4 * 2
    spare = feature_cache._SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=spare + needed - 1))
    with pytest.raises(NoRoomError, match=r"need 67\.1 MB"):
        open_all(jobs, pixels, pytest.fail)


def test_the_message_names_both_sizes_and_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(NoRoomError, match=r"need .* TB in .*B are free") as error:
        check_room(tmp_path / "not" / "yet", 1 << 60)
    assert "--feature-fallback" in error.value.hint
    assert "CNNCLF_CACHE_DIR" in error.value.hint
    assert check_room(tmp_path, 0) > 0


def test_a_disk_that_fills_up_on_the_way_is_an_error_and_leaves_nothing(
    colors: Dataset, pixels: Pixels
) -> None:
    class Full(Means):
        def run(self, batches: Any, write: Callable[..., None]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DeviceError, match="the disk is full"):
        open_all([make_job(colors, np.arange(8))], pixels, Full())
    assert not list((cache_dir() / "features").iterdir())


def test_images_that_cannot_be_read_are_skipped_of_batches(colors: Dataset) -> None:
    class Bad:
        shape, failed, nbytes = SPEC.shape, dict[int, str](), 0

        def gather(self, rows: Any) -> Any:
            from cnnclf.errors import ImageError

            if 3 in rows:
                raise ImageError("unreadable")
            return np.zeros((len(rows), *self.shape), np.uint8)

    bad: Any = Bad()
    ((means, _),) = open_all([make_job(colors, np.arange(8))], bad, Means())
    assert means.failed == {3: "unreadable"}
    (description,) = (cache_dir() / "features").glob("*.json")
    assert json.loads(description.read_text())["failed"] == {"3": "unreadable"}
    batches = FeatureBatches(
        means, colors.manifest.class_indices, num_classes=3, batch_size=4, threads=1
    )
    assert sorted(batches.order(0)) == [0, 1, 2, 4, 5, 6, 7]


def test_a_image_that_was_missing_is_looked_for_again(colors: Dataset, tmp_path: Path) -> None:
    shutil.copytree(colors.root, tmp_path / "images")
    dataset, rows = replace(colors, root=tmp_path / "images"), np.arange(8)

    def look(engine: Any) -> tuple[Features, Pixels, Silent]:
        progress = Silent()
        pixels = open_pixels(dataset, SPEC, cache="none", progress=progress)
        ((means, _),) = open_all([make_job(dataset, rows)], pixels, engine, progress)
        return means, pixels, progress

    content = dataset.file(3).read_bytes()
    dataset.file(3).unlink()
    first, *_ = look(Means())
    again, pixels, progress = look(pytest.fail)
    assert list(first.failed) == list(again.failed) == list(pixels.failed) == [3]
    assert [warning.partition(" is skipped: ")[0] for warning in progress.warnings] == [
        str(dataset.file(3))
    ], "it is said each time"
    dataset.file(3).write_bytes(content)
    whole, pixels, _ = look(Means())
    assert (whole.failed, pixels.failed) == ({}, {})
    assert np.abs(read(whole)[3]).max() > 0


def test_views_are_drawn_again_in_each_epoch(colors: Dataset) -> None:
    array = np.arange(3 * 8, dtype=np.float16)[:, None]
    source = Features(array, np.arange(8), failed={5: "unreadable"})
    batches = FeatureBatches(
        source, colors.manifest.class_indices, num_classes=3, batch_size=4, threads=1
    )
    first, second = batches.order(0), batches.order(1)
    assert sorted(first % 8) == [0, 1, 2, 3, 4, 6, 7]
    assert first.tolist() != second.tolist()
    assert first.max() >= 8
    x, y = next(batches.epoch(0))
    assert x.dtype == np.float16
    expected = colors.manifest.class_indices[x[:, 0].astype(int) % 8]
    np.testing.assert_array_equal(y.argmax(axis=1), expected)


def test_the_time_of_the_rest_is_estimated_without_the_first_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter([0.0, 10.0, 12.0, 14.0])  # the first batch warms up
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    with Silent().task("", None, unit="") as task, (tmp_path / "file").open("wb") as file:
        writer = feature_cache._Writer([file], "float16", task)
        assert writer.seconds_for(100) == 0
        next(clock)
        for start in (0, 4, 8):
            writer.write(start, [np.zeros((4, 2), np.float32)])
    assert writer.seconds_for(100) == pytest.approx((100 - 12) * 4 / 8)


@pytest.mark.parametrize(("per_batch_s", "is_said"), [(2.0, True), (0.01, False)])
def test_how_long_the_rest_takes_is_said_after_the_first_images(
    colors: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    per_batch_s: float,
    is_said: bool,
) -> None:
    """18 batches of 16 images: 5 are timed, of which the first does not count."""
    rows, clock = np.arange(288) % 48, itertools.count(0.0, per_batch_s)
    pixels = open_pixels(colors, SPEC, cache="ram", progress=Silent())

    class InOrder(Means):
        def run(self, batches: Any, write: Callable[..., None]) -> None:
            for index, x in batches:
                self.images += len(x)
                said_before.append([note for note in progress.notes if note.endswith("s left")])
                write(index, [np.zeros((len(x), 3)), np.zeros((len(x), 1))])

    said_before: list[list[str]] = []
    progress = Silent()
    monkeypatch.setattr(feature_cache, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    open_all([make_job(colors, rows)], pixels, InOrder(), progress)
    expected = [f"frozen layers: about {13 * per_batch_s:,.0f} s left"] if is_said else []
    assert said_before == [[]] * 5 + [expected] * 13, "once, as soon as it is known"


@pytest.fixture(scope="module")
def frozen() -> Iterator[tuple[Any, Any]]:
    """EfficientNet-Lite0 with its ImageNet weights, pooled and behind stage6, and images."""
    import keras
    from keras import layers

    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.trunk import build_backbone, find_cut, find_stage_end
    from cnnclf.models.weights.filling import load_weights
    from cnnclf.models.weights.sources import find_weights

    row = find_backbone("efficientnet-lite0")
    backbone = build_backbone(row, height=96, width=96)
    load_weights(backbone, find_weights(row, "imagenet"), progress=Silent())
    [cut] = find_cut(backbone, find_stage_end(backbone, row, stage="stage6"))
    pooled = layers.GlobalAveragePooling2D()(backbone.output)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 12, 12, 3)).repeat(8, axis=1).repeat(8, axis=2)
    yield keras.Model(backbone.input, [pooled, cut]), coarse.astype(np.uint8)
    keras.backend.clear_session()


@pytest.mark.parametrize(
    ("name", "bound"),
    # the largest difference, as a part of the largest feature
    [("openvino-f32", 1e-3), ("openvino-bf16", 0.1)],
)
def test_openvino_computes_the_features_of_keras(
    frozen: tuple[Any, Any], name: str, bound: float
) -> None:
    pytest.importorskip("openvino", reason="the extra 'openvino' brings it")
    pytest.importorskip("scipy", reason="Keras needs it to export")
    from cnnclf.training.frozen.feature_engines import FrozenNetwork, open_engine

    model, images = frozen
    expected = [np.asarray(each) for each in model(images.astype("f4"), training=False)]
    received: dict[int, list[Any]] = {}
    network = FrozenNetwork("tiny", __name__, lambda: model)
    engine = open_engine(name, network, progress=Silent())
    engine.run(iter([(0, images[:5]), (5, images[5:])]), received.__setitem__)
    assert sorted(received) == [0, 5]
    for index, whole in enumerate(expected):
        ours = np.concatenate([received[0][index], received[5][index]])
        assert ours.shape == whole.shape
        assert np.abs(whole).max() > 0.1
        assert np.abs(ours - whole).max() < bound * np.abs(whole).max()
