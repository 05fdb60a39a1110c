import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.arrays import SCALE_RULE
from cnnclf.importers.formats.npy import MAGIC, NPY_FOLDERS, read_npy_header
from cnnclf.importers.importer import Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent


def put(root: Path, **arrays: object) -> Path:
    """Save arrays; "cat__1" becomes cat/1.npy."""
    for name, array in arrays.items():
        path = root / f"{name.replace('__', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.asarray(array), allow_pickle=True)
    return root


def read(source: Path) -> tuple[Listing, list[Record]]:
    out = source.parent / ".out" / "images"
    listing = NPY_FOLDERS.read(
        Source.of(source), out, options=ImportConfig(threads=2), progress=Silent()
    )
    return listing, list(listing.records)


def pixels(listing: Listing, record: Record) -> list[list[int]]:
    with Image.open(listing.root / record.path) as image:
        return np.asarray(image).tolist()  # type: ignore[no-any-return]


def test_arrays_in_class_folders_become_images(tmp_path: Path) -> None:
    source = put(
        tmp_path / "set",
        whale__1=[[-80.0, -40.0, 0.0]],
        whale__2=np.array([[7, 200]], np.uint8),
        ship__1=np.array([[0, 65535], [1, 2]], np.uint16),
        ship__2=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        ship__3=np.arange(10.0).reshape(1, 2, 5),
    )
    reason = NPY_FOLDERS.recognize(Source.of(source))
    assert reason is not None
    assert "NumPy arrays" in reason
    listing, records = read(source)
    found = {record.path: pixels(listing, record) for record in records}
    assert found == {
        "ship/1.npy.png": [[0, 255], [0, 0]],
        "ship/2.npy.png": [[0, 51, 102], [153, 204, 255]],
        "ship/3.npy.png": [[0, 28, 57, 85, 113], [142, 170, 198, 227, 255]],
        "whale/1.npy.png": [[0, 128, 255]],
        "whale/2.npy.png": [[7, 200]],
    }
    assert {record.label for record in records} == {"ship", "whale"}
    assert listing.unpacked
    assert any(f"4 arrays: {SCALE_RULE}" == text for text in listing.remarks)


def test_split_folders_of_arrays(tmp_path: Path) -> None:
    source = put(tmp_path / "set", train__a__1=[[1, 2]], valid__a__1=[[1, 2]], train__b__1=[[1, 2]])
    _, records = read(source)
    assert sorted((r.split, r.label) for r in records) == [
        ("train", "a"),
        ("train", "b"),
        ("val", "a"),
    ]


def test_files_that_are_no_images_are_listed(tmp_path: Path) -> None:
    source = put(
        tmp_path / "set",
        a__good=[[1, 2]],
        a__flat=[1, 2, 3],
        a__same=[[3.0, 3.0]],
        a__void=[[np.nan, np.inf]],
        a__text=[["x", "y"]],
        a__waves=[[1j, 2]],
        b__good=[[1, 2]],
    )
    np.save(source / "a" / "pickle.npy", np.array([[{}]], object), allow_pickle=True)
    whole = (source / "a" / "good.npy").read_bytes()
    (source / "a" / "cut.npy").write_bytes(whole[:-1])
    (source / "a" / "long.npy").write_bytes(whole + b"x")
    (source / "a" / "empty.npy").write_bytes(b"")
    (source / "a" / "note.txt").write_text("hello")
    (source / ".hidden").mkdir()
    put(source / ".hidden", x=[[1, 2]])
    listing, records = read(source)
    assert [record.path for record in records] == ["a/good.npy.png", "b/good.npy.png"]
    reasons = dict(listing.skipped)
    bad = ["cut", "empty", "flat", "long", "note", "pickle", "same", "text", "void", "waves"]
    assert sorted(Path(name).stem for name in reasons) == bad
    assert all(reasons.values())
    assert "only one value" in reasons["a/same.npy"]
    assert "NumPy's format" in reasons["a/note.txt"]
    assert "plain numbers" in reasons["a/pickle.npy"]
    assert any("hidden" in text for text in listing.remarks)


def test_folders_of_other_files_are_left_to_others(tmp_path: Path) -> None:
    source = put(tmp_path / "set", a__1=[[1, 2]])
    (source / "a" / "1.png").write_bytes(b"")
    (source / "a" / "2.png").write_bytes(b"")
    assert NPY_FOLDERS.recognize(Source.of(source)) is None
    assert NPY_FOLDERS.recognize(Source.of(source / "a" / "1.npy")) is None
    assert NPY_FOLDERS.recognize(Source.of(tmp_path / "missing")) is None


def test_arrays_without_class_folders_are_explained_by_the_source(tmp_path: Path) -> None:
    source = tmp_path / "set"
    source.mkdir()
    np.save(source / "1.npy", np.eye(2))
    with pytest.raises(DataError) as caught:
        read(source)
    assert str(source) in caught.value.message
    assert ".out" not in caught.value.message + caught.value.hint
    assert not (tmp_path / ".out" / "images").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        MAGIC,
        MAGIC + b"\1\0",
        MAGIC + b"\1\0\xff\xff{",
        MAGIC + b"\2\0\xff\xff\xff\xff{",
        MAGIC + b"\1\0\2\0{}",
        MAGIC + b"\1\0\x30\0" + b"[" * 48,
        *(
            MAGIC + b"\1\0" + len(text).to_bytes(2, "little") + text
            for text in (
                b"{'descr': '|u1', 'fortran_order': 0, 'shape': (-1, 2)}",
                b"{'descr': '|u1', 'fortran_order': 0, 'shape': 5}",
                b"{'descr': '|u1', 'fortran_order': 0, 'shape': (1,1,1,1,1,1,1,1,1)}",
                b"{'descr': '|O', 'fortran_order': 0, 'shape': (1,)}",
                b"{'descr': [('a', '<f4')], 'fortran_order': 0, 'shape': (1,)}",
                b"{'descr': '(9,9)f4', 'fortran_order': 0, 'shape': (1,)}",
                b"__import__('os').system('true')",
            )
        ),
    ],
)
def test_headers_that_are_refused(header: bytes) -> None:
    with pytest.raises(DataError, match="the file"):
        read_npy_header(io.BytesIO(header).read, "the file")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_format(version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros((3, 4), ">i2"), version=version)
    size = buffer.tell()
    buffer.seek(0)
    header = read_npy_header(buffer.read, "x")
    assert (header.dtype, header.shape, header.in_columns) == (np.dtype(">i2"), (3, 4), False)
    assert header.offset == buffer.tell()
    assert header.offset + header.size_bytes == size
