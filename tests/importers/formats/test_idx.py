import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.arrays import SCALE_RULE
from cnnclf.importers.formats.idx import IDX
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array: npt.NDArray[np.generic]) -> bytes:
    header = struct.pack(
        f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape
    )
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


DEFAULTS = ImportConfig()


def put(path: Path, array: npt.NDArray[np.generic]) -> Path:
    data = idx(array)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def images(count: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *(shape or (4, 5))), np.uint8)


def labels(*values: int) -> npt.NDArray[np.uint8]:
    return np.array(values, np.uint8)


def out(source: Path) -> Path:
    return (source if source.is_dir() else source.parent) / ".out"


def read(source: Path, options: ImportConfig = DEFAULTS) -> tuple[Listing, list[Record]]:
    listing = IDX.read(Source.of(source), ImportJob(out(source), options, Silent()))
    return listing, list(listing.records)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder as MNIST is distributed: 600 and 3 images."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    put(folder / "train-images-idx3-ubyte.gz", images(600))
    put(folder / "train-labels-idx1-ubyte.gz", (np.arange(600) % 10).astype(np.uint8))
    put(folder / "t10k-images-idx3-ubyte.gz", images(3))
    put(folder / "t10k-labels-idx1-ubyte.gz", labels(9, 9, 0))
    (folder / "readme.txt").write_text("no IDX")
    return folder


def test_a_folder_of_pairs_keeps_pixels_labels_and_splits(mnist: Path) -> None:
    assert IDX.recognize(Source.of(mnist)) == "it holds IDX images (t10k-images-idx3-ubyte.gz)"
    listing, records = read(mnist)
    assert [record.split for record in records] == ["train"] * 600 + ["test"] * 3
    assert [record.label for record in records[:11]] == [*"0123456789", "0"]
    assert [record.label for record in records[600:]] == ["9", "9", "0"]
    assert listing.labels == tuple("0123456789")
    assert (listing.skipped, listing.unpacked, listing.total) == ([], True, 603)
    for record, sample in zip(records, [*images(600), *images(3)], strict=True):
        with Image.open(listing.root / record.path) as image:
            assert np.array_equal(np.asarray(image), sample)


def test_one_file_of_images_finds_its_labels(mnist: Path) -> None:
    source = mnist / "t10k-images-idx3-ubyte.gz"
    assert IDX.recognize(Source.of(source)) == "it starts as an IDX file of images"
    _, records = read(source)
    assert [(record.label, record.split) for record in records] == [
        ("9", "test"),
        ("9", "test"),
        ("0", "test"),
    ]


def test_other_spellings_of_the_names_fit(tmp_path: Path) -> None:
    put(tmp_path / "Train-Images.idx3-ubyte", images(2))
    put(tmp_path / "train-labels.idx1-ubyte.gz", labels(1, 2))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(b"")
    _, records = read(tmp_path)
    assert [(record.label, record.split) for record in records] == [("1", "train"), ("2", "train")]


def test_a_classes_file_beside_or_given_names_the_labels(tmp_path: Path) -> None:
    put(tmp_path / "images.idx3", images(3, 2, 2, 3))
    put(tmp_path / "labels.idx1", labels(2, 0, 2))
    (tmp_path / "classes.txt").write_text("cat\ndog\nT-shirt/top\n")
    listing, records = read(tmp_path)
    assert [record.label for record in records] == ["T-shirt/top", "cat", "T-shirt/top"]
    assert {record.split for record in records} == {""}
    assert listing.labels == ("cat", "T-shirt/top")
    assert any("without a sample are excluded: dog" in text for text in listing.remarks)
    other = tmp_path / "other.txt"
    other.write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="not empty"):
        read(tmp_path)
    source = tmp_path / "images.idx3"
    listing = IDX.read(
        Source.of(source), ImportJob(tmp_path / "2", ImportConfig(classes_file=other), Silent())
    )
    assert listing.labels == ("a", "c")
    other.write_text("a\nb\n")
    with pytest.raises(DataError, match=r"0 to 1 for 2 class names .* received 2"):
        IDX.read(
            Source.of(source), ImportJob(tmp_path / "3", ImportConfig(classes_file=other), Silent())
        )


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32", "float64"])
def test_other_numbers_are_scaled_and_that_is_said(tmp_path: Path, dtype: str) -> None:
    put(tmp_path / "images", np.array([[[-7, 0], [7, 1]], [[5, 5], [5, 5]]], dtype))
    put(tmp_path / "labels", labels(0, 1))
    listing, records = read(tmp_path)
    with Image.open(listing.root / records[0].path) as image:
        assert np.asarray(image).tolist() == [[0, 128], [255, 146]]
    assert SCALE_RULE in listing.remarks
    assert [path for path, _ in listing.skipped] == ["images[1]"]


def test_images_without_labels_are_named(tmp_path: Path) -> None:
    put(tmp_path / "train-images-idx3-ubyte", images(2))
    put(tmp_path / "test-labels-idx1-ubyte", labels(0, 1))
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.*found: test-labels-idx1"
    ) as caught:
        read(tmp_path)
    assert "train-labels-idx1-ubyte" in caught.value.hint


def test_the_file_of_labels_is_no_source(tmp_path: Path) -> None:
    source = put(tmp_path / "labels", labels(0, 1))
    assert IDX.recognize(Source.of(source)) is None
    assert IDX.recognize(Source.of(tmp_path)) is None
    with pytest.raises(DataError, match="file of images"):
        read(source)
    with pytest.raises(DataError, match="holds no IDX files"):
        read(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="file of images"):
        read(tmp_path / "text")


@pytest.mark.parametrize(
    ("images", "given", "told"),
    [
        (images(2), labels(0, 1, 1), "2 images .* 3 labels"),
        (images(0), labels(), "0 images"),
        (images(2, 0, 5), labels(0, 1), "0 x 5"),
        (images(2, 2, 2, 7), labels(0, 1), "2 x 2 x 7"),
        (images(2), np.array([0.0, 1.0]), "integer labels"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path,
    images: npt.NDArray[np.uint8],
    given: npt.NDArray[np.generic],
    told: str,
) -> None:
    put(tmp_path / "images", images)
    put(tmp_path / "labels", given)
    with pytest.raises(DataError, match=told):
        read(tmp_path)
    assert not out(tmp_path).exists()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_than_it_says_is_refused(
    tmp_path: Path, packed: bool, change: int
) -> None:
    put(tmp_path / "labels", labels(0, 1, 2))
    data = idx(images(3))
    data = data[:change] if change < 0 else data + b"x"
    (tmp_path / "images").write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError, match=str(tmp_path / "images")):
        read(tmp_path)
    assert not (out(tmp_path)).exists()


def test_a_header_that_promises_too_much_is_refused_at_once(tmp_path: Path) -> None:
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 1000, 1000)
    put(tmp_path / "labels", labels(0))
    for data in (header, gzip.compress(header + bytes(10_000))):
        (tmp_path / "images").write_bytes(data)
        (tmp_path / "labels").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 2**31))
        with pytest.raises(DataError):
            read(tmp_path)
    assert not out(tmp_path).exists()


def test_the_pairs_of_several_sets_are_not_mixed(tmp_path: Path) -> None:
    for name in ("letters", "digits"):
        put(tmp_path / f"emnist-{name}-train-images-idx3-ubyte", images(2))
        put(tmp_path / f"emnist-{name}-train-labels-idx1-ubyte", labels(0, 1))
    with pytest.raises(DataError, match="more than one array for the same split") as caught:
        read(tmp_path)
    assert "one by one" in caught.value.hint
    assert len(read(tmp_path / "emnist-digits-train-images-idx3-ubyte")[1]) == 2
