"""Each row of the table of importers, from a source to a dataset that can be loaded."""

import gzip
import io
import json
import shutil
import struct
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cnnclf.bounded import read_bytes
from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError
from cnnclf.importers import IMPORTERS, import_source
from cnnclf.progress import Silent

COUNT = 20
SAMPLES = np.random.default_rng(3).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
CLASSES = np.arange(COUNT, dtype=np.uint8) % 2


def class_folders(root: Path) -> Path:
    for index, (sample, label) in enumerate(zip(SAMPLES, CLASSES, strict=True)):
        path = root / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample).save(path)
    return root


def split_folders(root: Path) -> Path:
    for split in ("train", "val"):
        class_folders(root / split)
    return root


def packed(kind: str) -> Callable[[Path], Path]:
    return lambda root: Path(shutil.make_archive(str(root), kind, class_folders(root)))


def table(root: Path) -> Path:
    class_folders(root)
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in root.rglob("*.png")]
    (root / "table.csv").write_text("\n".join(["path,label", *rows]))
    return root / "table.csv"


def pixel_table(root: Path) -> Path:
    header = ["label", *(f"pixel{at}" for at in range(32 * 32 * 3))]
    rows = np.hstack([CLASSES[:, None], SAMPLES.reshape(COUNT, -1)])
    lines = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    root.with_suffix(".csv").write_text("\n".join(lines))
    return root.with_suffix(".csv")


def json_labels(root: Path) -> Path:
    class_folders(root)
    labels = {path.relative_to(root).as_posix(): path.parent.name for path in root.rglob("*.png")}
    (root / "labels.json").write_text(json.dumps(labels))
    return root / "labels.json"


def idx(root: Path) -> Path:
    root.mkdir()
    header = struct.pack(">BBBB4I", 0, 0, 8, 4, *SAMPLES.shape)
    (root / "images-idx4-ubyte.gz").write_bytes(gzip.compress(header + SAMPLES.tobytes()))
    header = struct.pack(">BBBBI", 0, 0, 8, 1, COUNT)
    (root / "labels-idx1-ubyte").write_bytes(header + CLASSES.tobytes())
    return root


def cifar(root: Path) -> Path:
    root.mkdir()
    planes = SAMPLES.transpose(0, 3, 1, 2).reshape(COUNT, -1)
    (root / "data_batch_1.bin").write_bytes(np.hstack([CLASSES[:, None], planes]).tobytes())
    return root


def npz(root: Path) -> Path:
    np.savez(root, x=SAMPLES, y=CLASSES)
    return root.with_suffix(".npz")


def npy_folders(root: Path) -> Path:
    for index, (sample, label) in enumerate(zip(SAMPLES, CLASSES, strict=True)):
        path = root / str(label) / f"{index}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, sample[..., 0] / np.float32(7))
    return root


def sound_folders(root: Path) -> Path:
    for index, label in enumerate(CLASSES):
        path = root / str(label) / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 1, 8000, 0, "NONE", ""))
            file.writeframes(bytes([*range(100 + index), 128]) * 4)
    return root


def png(sample: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(sample).save(buffer, "PNG")
    return buffer.getvalue()


def shards(root: Path) -> Path:
    root.mkdir()
    for number in range(2):
        with tarfile.open(root / f"part-{number:06}.tar", "w") as file:
            for index in range(number, COUNT, 2):
                for suffix, content in (
                    ("png", png(SAMPLES[index])),
                    ("cls", str(CLASSES[index]).encode()),
                ):
                    member = tarfile.TarInfo(f"{index:04}.{suffix}")
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))
    return root


def parquet(root: Path) -> Path:
    rows = [
        {"image": {"bytes": png(sample), "path": f"{index}.png"}, "label": int(label)}
        for index, (sample, label) in enumerate(zip(SAMPLES, CLASSES, strict=True))
    ]
    path = root.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def croissant(root: Path) -> Path:
    class_folders(root)
    files = {"@id": "files", "includes": "**/*.png"}
    image = {"name": "image", "source": {"fileSet": {"@id": "files"}}}
    document = {
        "@context": {"cr": "http://mlcommons.org/croissant/"},
        "distribution": [files],
        "recordSet": [{"field": [image]}],
    }
    (root / "croissant.json").write_text(json.dumps(document))
    return root


def cvat(root: Path) -> Path:
    class_folders(root / "images")
    tags = [
        f'<image id="{number}" name="{path.name}"><tag label="{path.parent.name}"/></image>'
        for number, path in enumerate(root.rglob("*.png"))
    ]
    text = "\n".join(['<?xml version="1.0"?>', "<annotations>", *tags, "</annotations>"])
    (root / "annotations.xml").write_text(text)
    return root


def label_files(root: Path) -> Path:
    class_folders(root / "by_class")
    (root / "images").mkdir()
    for path in list(root.rglob("*.png")):
        (root / "images" / path.name).with_suffix(".txt").write_text(f"{path.parent.name}\n")
        path.rename(root / "images" / path.name)
    shutil.rmtree(root / "by_class")
    return root


SOURCES: dict[str, list[Callable[[Path], Path]]] = {
    "class-folders": [class_folders],
    "split-folders": [split_folders],
    "zip": [packed("zip")],
    "tar": [packed("tar"), packed("gztar"), packed("bztar"), packed("xztar")],
    "table": [table],
    "pixel-table": [pixel_table],
    "json": [json_labels],
    "idx": [idx],
    "cifar": [cifar],
    "npz": [npz],
    "npy-folders": [npy_folders],
    "sound-folders": [sound_folders],
    "webdataset": [shards],
    "parquet": [parquet],
    "croissant": [croissant],
    "cvat": [cvat],
    "label-files": [label_files],
}
CASES = [(name, make) for name, makers in SOURCES.items() for make in makers]


def test_every_format_is_tried_here() -> None:
    """The hub is tried in formats/test_hub.py, where there is a server."""
    assert set(SOURCES) == {importer.name for importer in IMPORTERS} - {"hf"}


@pytest.mark.parametrize(("name", "make"), CASES)
def test_a_source_is_recognized_and_becomes_a_dataset(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    source = make(tmp_path / "source")
    before = sorted(tmp_path.rglob("*"))
    report = import_source(source, tmp_path / "data", progress=Silent())
    assert (report.format, report.labels, report.skipped) == (name, ("0", "1"), 0)
    dataset = load_dataset(tmp_path / "data")
    assert len(dataset) == report.images == COUNT * (2 if name == "split-folders" else 1)
    if name in ("npy-folders", "sound-folders"):  # decoded by the input spec
        return
    for row in range(len(dataset)):
        with Image.open(io.BytesIO(read_bytes(dataset.file(row)))) as image:
            pixels = np.asarray(image)
        assert (pixels == SAMPLES).all(axis=(1, 2, 3)).any()
    after = [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "data" not in path.parents]
    assert after == sorted([*before, tmp_path / "data"])


@pytest.mark.parametrize(
    ("make", "kind"), [(npy_folders, "array"), (sound_folders, "sound"), (class_folders, "image")]
)
def test_what_the_files_hold_stands_in_the_dataset(
    tmp_path: Path, make: Callable[[Path], Path], kind: str
) -> None:
    import_source(make(tmp_path / "source"), tmp_path / "data", progress=Silent())
    assert load_dataset(tmp_path / "data").kind == kind


@pytest.mark.parametrize("name", [importer.name for importer in IMPORTERS])
def test_a_format_forced_on_anything_else_is_a_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"hello, world\n" * 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text").write_bytes(b"hello")
    for source in ("empty", "none", "text", "folder"):
        with pytest.raises(DataError) as caught:
            import_source(
                tmp_path / source,
                tmp_path / "data",
                options=ImportConfig(format=name),
                progress=Silent(),
            )
        assert str(tmp_path / source) in caught.value.message
        assert not (tmp_path / "data").exists()


def test_an_archive_without_images_leaves_nothing_behind(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "text" / label).mkdir(parents=True)
        (tmp_path / "text" / label / "1.txt").write_text("hello")
    for kind in ("zip", "gztar"):
        source = Path(shutil.make_archive(str(tmp_path / "text"), kind, tmp_path / "text"))
        with pytest.raises(DataError, match="no usable images in"):
            import_source(source, tmp_path / "data", progress=Silent())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["text", "text.tar.gz", "text.zip"]
