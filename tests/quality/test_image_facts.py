"""Images measured in processes, many at a time, have the measurements of threads."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.data import decoding
from cnnclf.data.decoding import DecodingJob, decode_chunks
from cnnclf.data.manifest import Dataset
from cnnclf.images.input_spec import InputSpec
from cnnclf.processes import map_in_processes
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


def test_a_process_is_not_given_the_manifest(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def note(work: Any, items: Any, **others: Any) -> Any:
        sizes.append(len(pickle.dumps(work)))
        return map_in_processes(work, items, **others)

    for module in (image_facts, decoding):
        monkeypatch.setattr(module, "map_in_processes", note)
    measure(dataset)
    job = DecodingJob(dataset, InputSpec(8, 8), dataset.select_split("all"), 2, Silent())
    assert sum(len(images) for images, _ in decode_chunks(job)) == len(dataset)
    assert len(sizes) == 2
    assert max(sizes) < 1000 < len(pickle.dumps(dataset))
