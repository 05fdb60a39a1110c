"""Batches: every image once, the same with any threads, and what Keras is handed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.augmentation.table import Augmenter
from cnnclf.errors import DataError, ImageError
from cnnclf.training.feeding.batches import Batch, Batches


class StandInPixels:
    """Images whose values tell their row."""

    def __init__(self, count: int = 256, bad: set[int] | None = None, delay_s: float = 0) -> None:
        self.shape = (4, 5, 1)
        self.failed: dict[int, str] = {}
        self._bad = bad or set()
        self._delay_s = delay_s
        values = np.arange(count, dtype=np.uint8)[:, None, None, None]
        self._array = np.broadcast_to(values, (count, *self.shape))

    def gather(self, rows: np.ndarray) -> np.ndarray:
        time.sleep(self._delay_s)
        bad = self._bad & set(rows.tolist())
        if bad:
            self.failed = self.failed | dict.fromkeys(bad, "bad")
            raise ImageError("bad")
        return np.take(self._array, rows, axis=0)


CLASSES = np.arange(256) % 3


def make(rows: Any = 100, **more: Any) -> Batches:
    options: dict[str, Any] = {"num_classes": 3, "batch_size": 8, "seed": 1, "threads": 2}
    pixels = more.pop("pixels", None) or StandInPixels()
    return Batches(pixels, np.arange(256)[:rows], class_indices=CLASSES, **options | more)


def rows_of(batches: Iterator[Batch]) -> list[list[int]]:
    return [batch[0][:, 0, 0, 0].tolist() for batch in batches]


def flat(batches: Iterator[Batch]) -> list[int]:
    return [row for rows in rows_of(batches) for row in rows]


def test_an_epoch_shows_every_image_once_with_its_label() -> None:
    batches = make()
    seen = []
    for x, y in batches.epoch(0):
        rows = x[:, 0, 0, 0]
        assert (x.dtype.name, y.dtype.name) == ("uint8", "float32")
        assert x.shape[1:] == (4, 5, 1)
        assert (y.argmax(axis=1) == CLASSES[rows]).all()
        assert (y.sum(axis=1) == 1).all()
        seen += rows.tolist()
    assert sorted(seen) == list(range(100))
    assert batches.count == 100


def test_the_shuffle_is_global_new_each_epoch_and_of_the_seed() -> None:
    batches = make(256)
    first, second = batches.order(0), batches.order(1)
    assert (first != second).any()
    assert (make(256).order(0) == first).all()
    assert (make(256, seed=2).order(0) != first).any()
    # A shuffle buffer would keep rows near where they were.
    assert np.abs(np.corrcoef(first, np.arange(256))[0, 1]) < 0.2
    assert rows_of(make(shuffle=False).epoch(3)) == rows_of(make(shuffle=False).epoch(0))
    assert flat(make(shuffle=False).epoch(0)) == list(range(100))


def collect(batches: Iterator[Batch]) -> list[list[np.ndarray]]:
    return [[array.copy() for array in batch] for batch in batches]


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (5, 20)])
def test_threads_change_nothing(threads: int, prefetch: int) -> None:
    def run(**more: Any) -> list[list[np.ndarray]]:
        augmenter = Augmenter({"translate": 0.4, "mixup": 1.0, "erasing": 0.5}, seed=4)
        return collect(make(augmenter=augmenter, **more).epoch(2))

    for one, other in zip(run(), run(threads=threads, prefetch=prefetch), strict=True):
        for array, same in zip(one, other, strict=True):
            assert (array == same).all()


def test_augmentation_differs_between_epochs_and_batches() -> None:
    pixels = StandInPixels()
    pixels._array = np.random.default_rng(0).integers(0, 256, (256, 4, 5, 1), dtype=np.uint8)
    augmenter = Augmenter({"brightness": 0.5}, seed=4)
    batches = make(16, pixels=pixels, augmenter=augmenter, shuffle=False)
    first, again, later = (collect(batches.epoch(epoch)) for epoch in (0, 0, 1))
    assert (first[0][0] == again[0][0]).all()
    assert (first[0][0] != later[0][0]).any()
    assert (pixels._array == pixels.gather(np.arange(256))).all(), "the store is left alone"


def test_alternating_flips_show_each_image_either_way_in_turn() -> None:
    pixels = StandInPixels()
    pixels._array = np.random.default_rng(0).integers(0, 256, (256, 4, 5, 1), dtype=np.uint8)
    batches = make(256, pixels=pixels, alternate_flips=True, shuffle=False)
    epochs = [np.concatenate([x for x, _ in batches.epoch(epoch)]) for epoch in range(3)]
    np.testing.assert_array_equal(epochs[1], epochs[0][:, :, ::-1])
    np.testing.assert_array_equal(epochs[2], epochs[0])
    flipped = [(one != other).any() for one, other in zip(epochs[0], pixels._array, strict=True)]
    assert 0.35 < np.mean(flipped) < 0.65


def test_class_weights_follow_the_labels_even_mixed_ones() -> None:
    weights = np.array([1.0, 2.0, 4.0], np.float32)
    for augmenter in (None, Augmenter({"mixup": 1.0})):
        for x, y, w in make(class_weights=weights, augmenter=augmenter).epoch(0):
            assert w.dtype == np.float32
            np.testing.assert_allclose(w, y @ weights, rtol=1e-6)
            assert len(x) == len(w)


def test_balanced_sampling_is_of_the_epoch_and_keeps_the_length() -> None:
    classes = np.array([0] * 90 + [1] * 8 + [2] * 2)
    batches = Batches(
        StandInPixels(),
        np.arange(100),
        class_indices=classes,
        num_classes=4,
        batch_size=8,
        balanced_sampling=True,
    )
    rows = batches.order(0)
    assert sorted(np.bincount(classes[rows], minlength=4).tolist()) == [0, 33, 33, 34]
    assert (np.diff(rows) < 0).any(), "and in a shuffled order"
    assert (rows == batches.order(0)).all()
    assert len(flat(batches.epoch(0))) == 100
    seen = set(np.concatenate([batches.order(epoch) for epoch in range(12)]).tolist())
    assert len(seen) > 95, "other images of the frequent class come in other epochs"


def test_unreadable_images_are_skipped_known_or_not() -> None:
    pixels = StandInPixels()
    pixels.failed = {3: "damaged", 5: "damaged"}
    batches = make(pixels=pixels)
    assert batches.count == 98
    seen = flat(batches.epoch(0))
    assert sorted(seen) == sorted(set(range(100)) - {3, 5})
    later = make(pixels=StandInPixels(bad={7, 8}))
    seen = flat(later.epoch(0))
    assert sorted(seen) == sorted(set(range(100)) - {7, 8})


def test_nothing_to_show_is_an_error() -> None:
    pixels = StandInPixels()
    pixels.failed = dict.fromkeys(range(256), "damaged")
    with pytest.raises(DataError, match="none of the 100 images for batches can be decoded"):
        make(pixels=pixels)
    all_bad = make(4, pixels=StandInPixels(bad=set(range(256))))
    with pytest.raises(ImageError):
        next(all_bad.epoch(0))
    assert isinstance(all_bad.error, ImageError)


def test_waiting_is_counted_where_batches_are_taken() -> None:
    slow = make(16, pixels=StandInPixels(delay_s=0.02), threads=1, prefetch=1)
    for _ in slow.epoch(0):
        pass
    assert slow.wait_s > 0.03


def test_devices_share_batches_equally_and_the_first_images_come_again() -> None:
    batches = make(21, devices=4, shuffle=False)
    rows = rows_of(batches.epoch(0))
    assert [len(each) for each in rows] == [8, 8, 8]
    assert rows[2][-3:] == [0, 1, 2]
    assert batches.count == 21
    assert rows_of(make(1, devices=4).epoch(0)) == [[0, 0, 0, 0]]


def test_leaving_an_epoch_early_stops_the_threads() -> None:
    stream = make().epoch(0)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(rows_of(make().epoch(0))) == 13


KERAS_TEST = Path(__file__).with_name("keras_batches.py")


def run_keras(*arguments: str, backend: str = "tensorflow") -> str:
    done = subprocess.run(
        [sys.executable, str(KERAS_TEST), *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONWARNINGS": "error::UserWarning",
        },
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_keras_trains_on_them_and_a_resumed_run_sees_the_same() -> None:
    assert run_keras("resume") == "same\n"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
def test_jax_is_shown_the_same_batches_as_tensorflow() -> None:
    assert run_keras("feed", backend="jax") == run_keras("feed")


@pytest.mark.slow
def test_two_devices_share_a_batch() -> None:
    assert run_keras("mirrored") == "100 images an epoch\n"


def test_no_thread_of_tensorflow_tunes_them() -> None:
    """It would hold up the end of every validation for as long as the run has lasted."""
    options = make().as_keras(0, 2).options()
    assert options.autotune.enabled is False
