"""Margins of training images: their mean over epochs, by path."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import ImageError
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting.margins import MarginMeter, read_margins
from tests.training.conftest import Train


class Net:
    """Its logits for class 1 are the first pixel, for class 0 always 1."""

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        return np.stack([np.ones(len(images)), images.reshape(len(images), -1)[:, 0]], axis=1)


def test_margins_are_means_by_path_and_survive_a_resumption(tmp_path: Path) -> None:
    pixels = np.array([3, 0, 5, 9], np.float32)[:, None]
    batches: Any = SimpleNamespace(
        rows=np.array([0, 1, 2]), batch_size=2, gather=lambda rows: (pixels[rows], rows)
    )
    classes, file = np.array([1, 1, 0, 0]), tmp_path / "margins.csv"
    paths, net = ("b/x.png", "a, \udcff.png", "c.png", "d.png"), Net()

    def make() -> MarginMeter:
        return MarginMeter(batches, classes, paths=paths, file=file)

    assert read_margins(file) == {}
    make().measure(net)
    assert read_margins(file) == {paths[0]: 2, paths[1]: -1, paths[2]: -4}
    pixels[0] = 6
    resumed = make()
    callback = resumed.as_callback(net, done=1)
    callback.on_epoch_end(6)  # not measured
    callback.on_epoch_end(10)
    assert read_margins(file)[paths[0]] == pytest.approx((2 + 5) / 2)
    make().as_callback(net, done=0).on_epoch_end(0)
    assert read_margins(file)[paths[0]] == 5


def test_an_image_that_goes_bad_takes_no_other_with_it(tmp_path: Path) -> None:
    class Fading:
        shape, failed = (1, 1, 1), dict[int, str]()

        def gather(self, rows: np.ndarray) -> np.ndarray:
            if 1 in rows:
                self.failed = {1: "it was removed"}
                raise ImageError("it was removed")
            return np.full((len(rows), 1, 1, 1), 3, np.uint8)

    classes = np.array([1, 1, 0, 0])
    settings: Any = {"class_indices": classes, "num_classes": 2, "batch_size": 4}
    batches = Batches(Fading(), np.arange(4), **settings)
    meter = MarginMeter(batches, classes, paths=list("abcd"), file=tmp_path / "margins.csv")
    meter.measure(Net())
    assert read_margins(meter.file) == {"a": 2, "c": -2, "d": -2}
    images, labels = batches.draw_plain(4, stream=8)
    assert (len(images), labels[:, 1].sum()) == (3, 1)


def test_a_traced_training_has_the_margins_of_its_images(train_tiny: Train, tmp_path: Path) -> None:
    result = train_tiny(tmp_path / "run", **{"training.trace": True})
    found = read_margins(result.run.margins)
    assert len(found) == result.run.read_record().get("images", len(found)) > 20
    assert all(np.isfinite(list(found.values())))
