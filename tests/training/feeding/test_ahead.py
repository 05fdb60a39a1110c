"""Images decoded in the background: the same pixels, nothing lost, nothing left running."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data import decoding
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import DeviceError, UsageError
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import open_dataset
from cnnclf.progress import Silent
from cnnclf.training.feeding.ahead import open_ahead

SPEC = InputSpec(8, 10, 3)
COUNT = 40


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        folder = tmp_path / "images" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 15, 3), np.uint8)).save(folder / f"{index}.png")
    return open_dataset(tmp_path / "images", options=ImportConfig(), progress=Silent())


def test_the_pixels_are_those_that_open_pixels_gives(dataset: Dataset) -> None:
    progress = Silent()
    with open_ahead(dataset, SPEC, cache="ram") as ahead:
        pixels = ahead(progress)
    assert progress.notes == [f"decoding {COUNT} color images at 8x10, 9.6 kB, to memory"]
    plain = open_pixels(dataset, SPEC, cache="none", progress=Silent())
    rows = np.arange(COUNT)
    np.testing.assert_array_equal(pixels.gather(rows), plain.gather(rows))


def test_a_problem_is_raised_where_the_pixels_are_wanted(dataset: Dataset) -> None:
    with (
        open_ahead(dataset, SPEC, cache="tape") as ahead,
        pytest.raises(UsageError, match="'tape'"),
    ):
        ahead(Silent())


def test_an_end_before_the_pixels_are_wanted_ends_the_decoding(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate, decoded = threading.Event(), threading.Event(), []

    def decode(*arguments: Any) -> Any:
        begun.set()
        gate.wait(60)
        decoded.append(1)
        return decode_image(*arguments)

    monkeypatch.setattr(decoding, "decode_image", decode)
    monkeypatch.setattr(decoding, "_CHUNK_IMAGES", 1)

    def fail() -> None:
        with open_ahead(dataset, SPEC, cache="disk", threads=2):
            begun.wait(60)
            threading.Timer(0.2, gate.set).start()
            raise DeviceError("no such GPU")

    with pytest.raises(DeviceError, match="no such GPU"):
        fail()
    assert 0 < len(decoded) < COUNT
    assert not list((dataset.directory / "cache").glob("*.u8*"))
    assert not [each for each in threading.enumerate() if "cnnclf" in each.name]
