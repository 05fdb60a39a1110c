"""Images measured in processes, many at a time, have the measurements of threads."""

from pathlib import Path

import numpy as np
import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.progress import Silent
from cnnclf.quality import image_facts
from cnnclf.quality.image_facts import ImageFacts, measure_images
from tests.quality.drawn import PLANTS, DrawnSet

LISTS = ("modes", "cameras", "turns", "mismatches", "missing", "damaged")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A set with files that were lost and damaged after the import, in several chunks."""
    drawn = DrawnSet(tmp_path / "drawn")
    for name in ("exif-orientation", "name-mismatch"):
        PLANTS[name](drawn)
    found = drawn.import_into(tmp_path / "dataset")
    assert len(found) > 2 * image_facts._CHUNK
    found.file(3).unlink()
    found.file(image_facts._CHUNK + 2).write_bytes(b"no image")
    return found


def measure(dataset: Dataset, *, threads: int = 2) -> ImageFacts:
    return measure_images(dataset, threads=threads, progress=Silent())


def test_processes_measure_what_threads_measure(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measure(dataset)
    assert expected.missing == [3]
    assert list(expected.damaged) == [image_facts._CHUNK + 2]
    assert len(expected.usable) == len(dataset) - 2
    monkeypatch.setattr(image_facts, "_FIRST", 0)
    for threads in (1, 2):
        found = measure(dataset, threads=threads)
        assert found.numbers.tobytes() == expected.numbers.tobytes()
        np.testing.assert_array_equal(found.gray, expected.gray)
        for name in LISTS:
            assert getattr(found, name) == getattr(expected, name), name
