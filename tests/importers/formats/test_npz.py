import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.archives import packed
from cnnclf.importers.formats.arrays import SCALE_RULE
from cnnclf.importers.formats.npz import NPZ
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

Array = npt.NDArray[Any]


DEFAULTS = ImportConfig()


def images(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


def save(path: Path, *arrays: Array, compressed: bool = False, **named: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, *arrays, **named)
    return path


def read(source: Path, options: ImportConfig = DEFAULTS) -> tuple[Listing, list[Record]]:
    listing = NPZ.read(
        Source.of(source), ImportJob(source.parent / "out" / "images", options, Silent())
    )
    return listing, list(listing.records)


def load(listing: Listing, record: Record) -> Array:
    with Image.open(listing.root / record.path) as image:
        return np.asarray(image)


X, Y = images(3, 4, 5), np.array([1, 0, 1])


@pytest.mark.parametrize(
    "named",
    [
        {"x_train": X, "y_train": Y, "x_test": X[:1], "y_test": Y[:1]},
        {"train_images": X, "train_labels": Y, "test_images": X[:1], "test_labels": Y[:1]},
        {"Xtrain": X, "Ytrain": Y, "Xtest": X[:1], "Ytest": Y[:1]},
        {"train_set_x": X, "train_set_y": Y, "test_set_x": X[:1], "test_set_y": Y[:1]},
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_splits_are_found_by_name(tmp_path: Path, named: dict[str, Any], compressed: bool) -> None:
    source = save(tmp_path / "a.npz", compressed=compressed, **named)
    reason = NPZ.recognize(Source.of(source))
    assert reason is not None
    assert next(iter(named)) in reason
    listing, records = read(source)
    assert [(r.label, r.split) for r in records] == [
        ("1", "train"),
        ("0", "train"),
        ("1", "train"),
        ("1", "test"),
    ]
    for record, sample in zip(records, [*X, X[0]], strict=True):
        assert np.array_equal(load(listing, record), sample)
    assert listing.labels == ("0", "1")
    assert SCALE_RULE not in listing.remarks


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("images", "labels"), ("data", "target")])
def test_without_splits(tmp_path: Path, x: str, y: str) -> None:
    named: dict[str, Any] = {x: X, y: Y, "other": np.zeros(7)}
    _, records = read(save(tmp_path / "a.npz", **named))
    assert [(r.label, r.split) for r in records] == [("1", ""), ("0", ""), ("1", "")]


def test_images_without_labels_are_named(tmp_path: Path) -> None:
    x, y = images(4, 8, 8), np.arange(4) % 2
    path = save(tmp_path / "a.npz", x_train=x, y_train=y, x_test=images(3, 8, 8))
    listing, records = read(path)
    assert len(records) == 4
    [warning] = listing.warnings
    assert warning.startswith("x_test has no array of labels")
    assert "its 3 images are not used" in warning


def test_arrays_without_names(tmp_path: Path) -> None:
    _, records = read(save(tmp_path / "a.npz", X, Y))
    assert [record.label for record in records] == ["1", "0", "1"]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (images(3, 4, 5, 3), images(3, 4, 5, 3)),
        (images(3, 4, 5, 1), images(3, 4, 5, 1)[..., 0]),
        (images(3, 3, 8, 9), images(3, 3, 8, 9).transpose(0, 2, 3, 1)),
        (images(3, 1, 8, 9), images(3, 1, 8, 9)[:, 0]),
        (images(3, 49), images(3, 49).reshape(3, 7, 7)),
        (np.asfortranarray(images(3, 4, 5)), images(3, 4, 5)),
        (images(3, 4, 5) > 127, np.where(images(3, 4, 5) > 127, 255, 0)),
    ],
)
def test_shapes(tmp_path: Path, x: Array, expected: Array) -> None:
    listing, records = read(save(tmp_path / "a.npz", x=x, y=Y))
    for record, sample in zip(records, expected, strict=True):
        assert np.array_equal(load(listing, record), sample)


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        (Y[:, None], ["1", "0", "1"]),
        (Y.astype(float), ["1", "0", "1"]),
        (np.eye(3)[[1, 0, 1]], ["1", "0", "1"]),
        (np.array([10, 9, 2], np.uint64), ["10", "9", "2"]),
        (np.array(["img10", "ü", "img9"]), ["img10", "ü", "img9"]),
        (np.array([b"b", b"a", b"b"]), ["b", "a", "b"]),
    ],
)
def test_kinds_of_labels(tmp_path: Path, y: Array, labels: list[str]) -> None:
    listing, records = read(save(tmp_path / "a.npz", x=X, y=y))
    assert [record.label for record in records] == labels
    assert listing.labels is not None
    assert set(listing.labels) == set(labels)
    if "img10" in labels:
        assert listing.labels.index("img9") < listing.labels.index("img10")


def test_class_names_in_the_file_or_given(tmp_path: Path) -> None:
    names = np.array(["cat", "dog"])
    source = save(tmp_path / "a.npz", x=X, y=Y, class_names=names)
    assert read(source)[0].labels == ("cat", "dog")
    given = tmp_path / "names.txt"
    given.write_text("a\nb\n")
    listing = NPZ.read(
        Source.of(source), ImportJob(tmp_path / "2", ImportConfig(classes_file=given), Silent())
    )
    assert listing.labels == ("a", "b")


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (X / 255.0, "multiplied by 255"),
        ((X / np.float32(255)).astype(np.float32), "multiplied by 255"),
        (X.astype(np.int64), "rounded"),
        (X.astype(np.float32), "rounded"),
    ],
)
def test_images_saved_as_other_numbers_keep_their_pixels(
    tmp_path: Path, x: Array, rule: str
) -> None:
    listing, records = read(save(tmp_path / "a.npz", x=x, y=Y))
    for record, sample in zip(records, X, strict=True):
        assert np.array_equal(load(listing, record), sample)
    assert any(rule in text for text in listing.remarks)


def test_other_numbers_are_scaled_one_by_one(tmp_path: Path) -> None:
    x = np.array([[[-1.0, 1.0]], [[0.0, 500.0]], [[np.nan, np.nan]]])
    listing, records = read(save(tmp_path / "a.npz", x=x, y=Y))
    assert [load(listing, record).tolist() for record in records] == [[[0, 255]], [[0, 255]]]
    assert SCALE_RULE in listing.remarks
    assert listing.skipped == [("x[2]", "has no finite value")]


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"a": X, "b": Y}, "received a, b"),
        ({"x": X}, "received x"),
        ({"x_train": X, "y_test": Y}, "x_train, y_test"),
        ({"x": X, "y": Y[:2]}, "3 images in x and 2 labels in y"),
        ({"x": X[:0], "y": Y[:0]}, "0 images in x"),
        ({"x": X, "images": X, "y": Y}, "kind: x and images"),
        ({"x": images(3, 50), "y": Y}, "received 50"),
        ({"x": np.array(5), "y": np.array(1)}, "as many labels"),
        ({"x": np.array(["a", "b", "c"]), "y": Y}, "received text"),
        ({"x": X.astype(complex), "y": Y}, "plain numbers"),
        ({"x": X, "y": Y + 0.5}, "integers, text or one-hot"),
        ({"x": X, "y": np.array([0, np.nan, 1])}, "integers, text or one-hot"),
        ({"x": X, "y": np.array([0, 1e300, 1])}, "integers, text or one-hot"),
        ({"x": X, "y": np.ones((3, 4))}, "integers, text or one-hot"),
        ({"x": X, "y": np.array(["a", "", "b"])}, "empty label"),
        ({"x": X, "y": Y, "x_test": X, "y_test": np.array(["a"] * 3)}, "numbers and text"),
        ({"x": X, "y": Y, "classes": np.array(["a", "a"])}, "repeats"),
        ({"x": X, "y": Y, "classes": np.array(["a"])}, "received 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, named: dict[str, Any], told: str
) -> None:
    source = save(tmp_path / "a.npz", **named)
    with pytest.raises(DataError, match=told) as caught:
        read(source)
    assert str(source) in caught.value.message
    assert not (tmp_path / "out" / "images").exists()


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    source = save(tmp_path / "a.npz", x=X, y=np.array([{}, 1, "a"], object))
    with pytest.raises(DataError, match=r"plain numbers in y .* received '\|O'"):
        read(source)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "HARMLESS_BYTES", 10_000)
    x = np.zeros((1000, 50, 50), np.uint8)
    source = save(tmp_path / "a.npz", compressed=True, x=x, y=np.arange(1000) % 2)
    with pytest.raises(DataError, match="at most 200 times"):
        read(source)


def test_a_header_that_promises_too_much_is_refused_at_once(tmp_path: Path) -> None:
    source = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 9, 9)}
    )
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(81))
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(DataError, match="not have the size"):
        read(source)


def test_other_files_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/x.npy", b"")
    assert NPZ.recognize(Source.of(path)) is None
    path.write_bytes(b"PK\3\4 cut off")
    assert NPZ.recognize(Source.of(path)) is None
    assert NPZ.recognize(Source.of(path.rename(tmp_path / "a.npz"))) == "its name ends in .npz"
    with pytest.raises(DataError, match="damaged or truncated"):
        read(tmp_path / "a.npz")
    assert NPZ.recognize(Source.of(tmp_path)) is None
