from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.cifar import CIFAR
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

DEFAULTS = ImportConfig()


def images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def put(path: Path, samples: npt.NDArray[np.uint8], *columns: list[int]) -> None:
    planes = samples.transpose(0, 3, 1, 2).reshape(len(samples), -1)
    path.write_bytes(np.hstack([np.array(columns, np.uint8).T, planes]).tobytes())


def read(source: Path, options: ImportConfig = DEFAULTS) -> tuple[Listing, list[Record]]:
    listing = CIFAR.read(Source.of(source), ImportJob(source.parent / "out", options, Silent()))
    return listing, list(listing.records)


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """A folder as CIFAR-10 is distributed, with 2 + 1 and 1 images."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    put(folder / "data_batch_1.bin", images(2, 1), [3, 0])
    put(folder / "data_batch_2.bin", images(1, 2), [1])
    put(folder / "test_batch.bin", images(1, 3), [3])
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\n\n\n")
    return folder


def test_cifar_10_keeps_pixels_names_and_splits(cifar10: Path) -> None:
    assert CIFAR.recognize(Source.of(cifar10)) == "it holds the binary files of CIFAR-10"
    listing, records = read(cifar10)
    assert [(record.label, record.split) for record in records] == [
        ("cat", "train"),
        ("airplane", "train"),
        ("automobile", "train"),
        ("cat", "test"),
    ]
    assert listing.labels == ("airplane", "automobile", "cat")
    samples = [*images(2, 1), *images(1, 2), *images(1, 3)]
    for record, sample in zip(records, samples, strict=True):
        with Image.open(listing.root / record.path) as image:
            assert np.array_equal(np.asarray(image), sample)


def test_cifar_100_is_labeled_by_its_fine_classes(tmp_path: Path) -> None:
    source = tmp_path / "cifar-100-binary"
    source.mkdir()
    put(source / "train.bin", images(3), [0, 1, 1], [2, 0, 1])
    put(source / "test.bin", images(1), [1], [2])
    (source / "fine_label_names.txt").write_text("apple\nbaby\nbear\n")
    (source / "coarse_label_names.txt").write_text("x\ny\n")
    assert CIFAR.recognize(Source.of(source)) == "it holds the binary files of CIFAR-100"
    listing, records = read(source)
    assert [record.label for record in records] == ["bear", "apple", "baby", "bear"]
    assert listing.labels == ("apple", "baby", "bear")


def test_without_names_the_numbers_are_the_labels(cifar10: Path, tmp_path: Path) -> None:
    (cifar10 / "batches.meta.txt").unlink()
    assert read(cifar10)[0].labels == ("0", "1", "3")
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n")
    listing = CIFAR.read(
        Source.of(cifar10), ImportJob(tmp_path / "2", ImportConfig(classes_file=names), Silent())
    )
    assert listing.labels == ("a", "b", "d")


def test_a_cut_off_file_is_named(cifar10: Path) -> None:
    path = cifar10 / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert CIFAR.recognize(Source.of(cifar10)) is not None
    with pytest.raises(DataError, match=r"data_batch_2\.bin is truncated: its 3072 bytes"):
        read(cifar10)
    assert not (cifar10.parent / "out").exists()


def test_a_class_beyond_the_names_is_refused(cifar10: Path) -> None:
    put(cifar10 / "test_batch.bin", images(1), [4])
    with pytest.raises(DataError, match="0 to 3 for 4 class names"):
        read(cifar10)


def test_the_python_version_is_refused_with_a_way_out(tmp_path: Path) -> None:
    for name in ("data_batch_1", "batches.meta"):
        (tmp_path / name).write_bytes(b"\x80\x02}q\x01.")
    assert CIFAR.recognize(Source.of(tmp_path)) == "it holds the Python version of CIFAR"
    with pytest.raises(DataError, match="can run code") as caught:
        read(tmp_path)
    assert "binary version" in caught.value.hint


def test_other_folders_are_not_cifar(tmp_path: Path) -> None:
    assert CIFAR.recognize(Source.of(tmp_path)) is None
    (tmp_path / "train").mkdir()
    (tmp_path / "train.bin").write_bytes(b"text")
    assert CIFAR.recognize(Source.of(tmp_path)) is None
    assert CIFAR.recognize(Source.of(tmp_path / "train.bin")) is None
    with pytest.raises(DataError, match="no binary files"):
        read(tmp_path)
