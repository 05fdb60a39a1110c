"""A table of tables as people have them, and the dataset or the question that each must give."""

import json
import os
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.importers.tables import text_table
from cnnclf.importers.tables.file_index import FileIndex, NotFoundError
from cnnclf.progress import Silent
from tests.importers.drawing import Listener, draw


@dataclass(frozen=True)
class Kind:
    """A table beside images 0.png to 5.png in a folder, and what must become of it.

    Args:
        table: Its text.
        labels: Of the dataset; none if the import must be refused.
        images: Samples of the dataset.
        folder: Of the images.
        failed: Rows that are lost.
        splits: Images of train, val and test; None if the split is made.
        says: What some note, a warning, or the error with its hint must say.
        options: Of the import.
        encoding: Of the table.
        name: Of the table.
    """

    table: str
    labels: tuple[str, ...] = ("cat", "dog")
    images: int = 6
    folder: str = "."
    failed: int = 0
    splits: tuple[int, int, int] | None = None
    says: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    encoding: str = "utf-8"
    name: str = "labels.csv"


def rows(header: str, pattern: str, *more: str, count: int = 6) -> str:
    """Make a table: {n} is the number of the row, {a} and {b} take turns."""
    lines = (
        pattern.format(n=n, label=("cat", "dog")[n % 2], one=n % 2, other=1 - n % 2)
        for n in range(count)
    )
    return "\n".join(chain([header] if header else [], lines, more)) + "\n"


def pixel_rows(header: str, labels: tuple[str, ...], splits: tuple[str, ...] = ()) -> str:
    """Make rows of 16 pixels in one cell."""
    cells = (" ".join(str((n * 7 + at) % 256) for at in range(16)) for n in range(len(labels)))
    columns = [labels, cells, splits] if splits else [labels, cells]
    lines = (",".join(row) for row in zip(*columns, strict=True))
    return "\n".join([header, *lines]) + "\n"


COCO = {
    "images": [{"id": n, "file_name": f"{n}.png"} for n in range(6)],
    "annotations": [{"image_id": n, "category_id": n % 2} for n in range(5)] * 2,
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
}

KINDS = {
    "other names": Kind(
        rows("Image,Id", "{n}.png,{label}"), says=("'Image' as path, 'Id' as label",)
    ),
    "id and breed": Kind(
        rows("id,breed", "{n},{label}"), folder="train", says=("'id' as path, 'breed' as label",)
    ),
    "by content": Kind(
        rows("foto,tier", "{n}.png,{label}"), says=("'foto' as path, 'tier' as label",)
    ),
    "by content, among others": Kind(
        rows("nr,width,foto,animal", "{n},{n}.5,{n}.png,{label}"), says=("'foto' as path",)
    ),
    "a misleading name": Kind(
        rows("id,image,label", "{n}9,{n}.png,{label}"), says=("'image' as path",)
    ),
    "two may be labels": Kind(
        rows("file,color,animal", "{n}.png,c{one},{label}"),
        labels=(),
        says=("color, animal", "--label-column"),
    ),
    "two may be paths": Kind(
        rows("one,two,label", "{n}.png,{n}.png,{label}"),
        labels=(),
        says=("one, two", "--path-column"),
    ),
    "by option": Kind(
        rows("file,color,animal", "{n}.png,c{one},{label}"),
        options={"label_column": "Animal"},
    ),
    "numbers and names": Kind(
        rows("file,label,animal,place", "{n}.png,{one},{label},here"),
        labels=("0", "1"),
        says=("'animal' has their names: --label-column animal",),
    ),
    "no such column": Kind(
        rows("file,animal", "{n}.png,{label}"),
        labels=(),
        options={"label_column": "beast"},
        says=("--label-column beast", "it has 'file', 'animal'"),
    ),
    "no header": Kind(
        rows("", "{n}.png,{label}"), options={"header": False}, says=("'1' as path, '2' as label",)
    ),
    "no header, numbered": Kind(
        rows("", "x{n};{label};in/{n}.png"),
        folder="in",
        options={"header": False, "path_column": "3", "label_column": "2"},
    ),
    "a header is missing": Kind(
        rows("", "{n}.png,{label}"), labels=(), says=("--no-header",), options={"format": "table"}
    ),
    "a list with spaces": Kind(
        rows("", "{n}.png {label}"), options={"header": False, "format": "table"}, name="train.txt"
    ),
    "no labels": Kind(
        rows("id,x", "{n},0.{n}3"), labels=(), says=("no column", "cnnclf predict")
    ),
    "a submission": Kind(
        rows("id,cat,dog", "{n},0.{n},0.5"), labels=(), says=("no column", "labels")
    ),
    "elsewhere": Kind(
        rows("path,label", "{n}.png,{label}"), folder="../far", options={"root": "far"}
    ),
    "elsewhere, with the folder in the path": Kind(
        rows("path,label", "far/{n}.png,{label}"), folder="../far", options={"root": "far"}
    ),
    "no such root": Kind(
        rows("path,label", "{n}.png,{label}"), labels=(), options={"root": "gone"}, says=("--root",)
    ),
    "one file by two names": Kind(
        rows("path,label", "train/{n}.png,{label}", "test/0.png,dog", "test/1.png,cat"),
        failed=2,
        says=("no such file: 0.png is train/0.png already",),
    ),
    "backslashes": Kind(rows("path,label", "in\\{n}.PNG,{label}"), folder="in"),
    "of another machine": Kind(
        rows("path,label", "C:\\Users\\me\\data\\in\\{n}.png,{label}"), folder="in"
    ),
    "of another system": Kind(rows("path,label", "/home/me/data/in/{n}.png,{label}"), folder="in"),
    "in a deeper folder": Kind(rows("path,label", "in/{n}.png,{label}"), folder="data/in"),
    "in another folder": Kind(
        rows("path,label", "cat/{n}.png,{label}"),
        folder="dog",
        labels=(),
        says=("no such file, only dog/0.png",),
    ),
    "one per class": Kind(
        rows("filename, cat, dog", "{n}.png, {other}, {one}"), says=("one column per class",)
    ),
    "one per class, as floats": Kind(rows("image,cat,dog,UNK", "{n},{other}.0,{one}.0,0.0")),
    "one per class, none in a row": Kind(
        rows("filename,cat,dog", "{n}.png,{other},{one}", "0.png,0,0"),
        failed=1,
        says=("has no label (line 8)",),
    ),
    "several per row": Kind(
        rows("filename,cat,dog", "{n}.png,{other},{one}", "0.png,1,1"),
        labels=(),
        says=("multi-label", "--first-label"),
    ),
    "several per row, the first": Kind(
        rows("filename,cat,dog", "{n}.png,{other},{one}"), options={"first_label": True}
    ),
    "several in a cell": Kind(
        rows("path,labels", "{n}.png,{label}|owl"), labels=(), says=("multi-label", "cat|owl")
    ),
    "several in a cell, of one name": Kind(
        rows("path,tags", "{n}.png,wet {label}", "0.png,dry cat", "1.png,dry dog", "2.png,dry"),
        labels=(),
        says=("multi-label", "wet cat"),
    ),
    "several in a cell, all of them names": Kind(
        rows("path,labels", "{n}.png,{label}", "0.png,cat dog"),
        labels=(),
        says=("multi-label", "cat dog"),
    ),
    "all files missing": Kind(
        rows("path,label", "x{n}.png,{label}"), labels=(), says=("no such file", "--root")
    ),
    "the first in a cell": Kind(
        rows("path,labels", "{n}.png,{label}|owl"), options={"first_label": True}
    ),
    "a name with a separator": Kind(
        rows("path,label", "{n}.png,{label} | fox"), labels=("cat | fox", "dog | fox")
    ),
    "names with spaces": Kind(
        rows("path,label", "{n}.png,a {label}"), labels=("a cat", "a dog")
    ),
    "Kaggle's words": Kind(
        rows("file,label,Usage", "{n}.png,{label},Training")
        .replace("2.png,cat,Training", "2.png,cat,PublicTest")
        .replace("3.png,dog,Training", "3.png,dog,PrivateTest"),
        splits=(4, 1, 1),
    ),
    "is_valid": Kind(
        rows("file,label,is_valid", "{n}.png,{label},F").replace("5.png,dog,F", "5.png,dog,T"),
        splits=(5, 1, 0),
    ),
    "other words for splits": Kind(
        rows("file,label,split", "{n}.png,{label},tr").replace("5.png,dog,tr", "5.png,dog,dev"),
        splits=(5, 1, 0),
    ),
    "folds": Kind(
        rows("file,label,fold", "{n}.png,{label},{one}"),
        says=("'fold' (0, 1) names neither train", "--splits train=VALUE"),
    ),
    "folds, chosen": Kind(
        rows("file,label,fold", "{n}.png,{label},{n}"),
        options={"splits": "train=0,train=1,train=2,train=3,val=4,test=5"},
        splits=(4, 1, 1),
    ),
    "missing files": Kind(
        rows("path,label", "{n}.png,{label}", *(f"gone{n}.png,owl" for n in range(7))),
        failed=7,
        says=("7 files: no such file (lines 8, 9, 10, 11, 12, ...)", "excluded: owl (7 files)"),
    ),
    "Windows": Kind(
        rows("path,label", "{n}.png,{label}").replace("dog", "Kätzchen"),
        labels=("cat", "Kätzchen"),
        encoding="cp1252",
        says=("Windows-1252",),
    ),
    "floats for integers": Kind(
        rows("path,label", "{n}.png,{one}.0"), labels=("0", "1")
    ),
    "line breaks": Kind(rows("path,label", '{n}.png,"a\n{label}"'), labels=("a\ncat", "a\ndog")),
    "itself": Kind(
        rows("path,label", "{n}.png,{label}", "labels.csv,owl", ".,owl", "/dev/zero,owl"), failed=3
    ),
    "pixels in a cell": Kind(
        pixel_rows(
            "emotion,pixels,Usage",
            tuple(islice(cycle("01"), 12)),
            tuple(islice(cycle(("Training", "PublicTest", "PrivateTest")), 12)),
        ),
        labels=("0", "1"),
        images=12,
        splits=(4, 4, 4),
    ),
    "pixels in columns": Kind(
        rows(
            "label," + ",".join(f"pixel{at}" for at in range(16)),
            "{label}," + ",".join(f"{{n}}{at % 10}" for at in range(16)),
        ),
        says=("images of 4 x 4",),
    ),
    "pixels without a header": Kind(
        rows("", "{one}," + ",".join(f"{{n}}{at % 10}" for at in range(16))),
        labels=("0", "1"),
        options={"header": False, "format": "pixel-table"},
    ),
    "pixels, splits that are not named": Kind(
        pixel_rows("label,pixels,Usage", ("0", "1") * 6, tuple("aaaabbbbcccc")),
        labels=("0", "1"),
        images=8,
        splits=(2, 2, 4),  # val from train
        options={"splits": "train=a,test=b,val=d"},
        says=("4 rows of splits that --splits does not name skipped: c", "no row has the split d"),
    ),
    "pixels, a bad row": Kind(
        pixel_rows("label,pixels", ("0", "1") * 3) + "0,1 2 3\n1," + "300 " * 16 + "\n",
        labels=("0", "1"),
        failed=2,
        says=("has 3 pixels, the first row 16", "not from 0 to 255"),
    ),
    "COCO": Kind(
        json.dumps(COCO), images=5, name="coco.json", says=("1 image without a label", "5.png")
    ),
    "COCO with several": Kind(
        json.dumps({**COCO, "annotations": [{"image_id": 0, "category_id": n} for n in (0, 1)]}),
        labels=(),
        name="coco.json",
        says=("multi-label", "0.png (cat, dog)"),
    ),
    "a list of objects": Kind(
        json.dumps([{"file": f"{n}.png", "class": ("cat", "dog")[n % 2]} for n in range(6)]),
        name="labels.json",
    ),
    "a list of objects with splits and groups": Kind(
        json.dumps(
            [
                {"path": f"{n}.png", "label": ("cat", "dog")[n % 2], "split": split, "group": split}
                for n, split in enumerate(("train", "train", "val", "val", "test", "test"))
            ]
        ),
        name="labels.json",
        splits=(2, 2, 2),
        says=("read the keys 'path' as path, 'label' as label, 'split' as split",),
    ),
    "a list of objects with columns that are named": Kind(
        json.dumps([{"a": f"{n}.png", "b": ("cat", "dog")[n % 2], "c": "x"} for n in range(6)]),
        name="labels.json",
        options={"path_column": "a", "label_column": "b"},
    ),
    "a map with an empty label": Kind(
        json.dumps({f"{n}.png": ("cat", "dog", "cat", "dog", "cat", "")[n] for n in range(6)}),
        name="labels.json",
        images=5,
        says=("1 image without a label, not used: 5.png",),
    ),
    "a map": Kind(
        json.dumps({f"{n}.png": ("cat", "dog")[n % 2] for n in range(6)}), name="labels.json"
    ),
    "JSON of something else": Kind("[1, 2]", labels=(), name="x.json", says=("neither a COCO",)),
    "a workbook of old": Kind(
        "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 ", labels=(), encoding="latin-1", name="labels.xls",
        says=("Excel workbook", "save it as CSV"),
    ),
    "Parquet": Kind("PAR1 ", labels=(), name="x.parquet", says=("x.parquet", "is damaged")),
}  # fmt: skip


def make(kind: Kind, place: Path) -> Path:
    draw(place / "source" / kind.folder, {f"{n}.png": "image" for n in range(6)})
    (place / "source").mkdir(exist_ok=True)
    table = place / "source" / kind.name
    table.write_bytes(kind.table.encode(kind.encoding))
    return table


def import_kind(kind: Kind, place: Path, heard: Listener) -> None:
    given = dict(kind.options)
    if "root" in given:
        given["root"] = place / str(given["root"])
    options = ImportConfig.model_validate({"threads": 1, **given})
    report = import_source(make(kind, place), place / "data", options=options, progress=heard)
    assert report.labels == kind.labels
    assert (report.images, report.failed) == (kind.images, kind.failed)
    assert (report.split != "made") == (kind.splits is not None)
    if kind.splits is not None:
        assert tuple(sum(c.values()) for c in report.counts.values()) == kind.splits


def hear_of(kind: Kind, tmp_path: Path) -> list[str]:
    """Import a kind of table; give what was said, or the error if there is nothing to import."""
    heard = Listener()
    if kind.labels:
        import_kind(kind, tmp_path, heard)
        return [*heard.notes, *heard.warnings]
    with pytest.raises(DataError) as caught:
        import_kind(kind, tmp_path, heard)
    return [f"{caught.value.message} {caught.value.hint}"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_each_kind_of_table_gives_what_was_meant(kind: Kind, tmp_path: Path) -> None:
    said = hear_of(kind, tmp_path)
    for words in kind.says:
        assert any(words in text for text in said), said


@pytest.mark.parametrize(
    "kind",
    [
        Kind(
            rows("filename,cat,dog", "{n}.png,{other},{one}").replace("5.png,0,1", "5.png,1,1"),
            images=5,
            failed=1,
            says=("has several labels: cat, dog (line 7)",),
        ),
        Kind(
            rows("file,label,Usage", "{n}.png,{label},Training")
            .replace("4.png,cat,Training", "4.png,cat,PublicTest")
            .replace("5.png,dog,Training", "5.png,dog,PrivateTest"),
            splits=(4, 1, 1),
        ),
    ],
    ids=["several labels", "splits of Kaggle"],
)
def test_rows_behind_those_that_were_looked_at_are_read_alike(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "SAMPLE_ROWS", 4)
    said = "\n".join(hear_of(kind, tmp_path))
    assert all(words in said for words in kind.says)
    assert ("1 file skipped" in said) == bool(kind.failed)


@pytest.mark.parametrize("pixel", ["0.5", "1"])
def test_pixels_of_0_to_1_are_recognized_after_a_black_image(tmp_path: Path, pixel: str) -> None:
    cells = ["0 " * 16, f"{pixel} 0 " * 8, f"0 {pixel} " * 8, f"{pixel} {pixel} 0 0 " * 4]
    table = tmp_path / "digits.csv"
    table.write_text("label,pixels\n" + "".join(f"{n % 2},{cells[n]}\n" for n in range(4)))
    import_source(table, tmp_path / "out", progress=Silent())
    images = [np.asarray(Image.open(path)) for path in (tmp_path / "out").rglob("*.png")]
    assert max(image.max() for image in images) == round(float(pixel) * 255)


def test_a_workbook_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match=r"an Excel workbook \(\.xlsx\)"):
        import_source(tmp_path / "labels.xlsx", tmp_path / "data", progress=Silent())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    letters = unicodedata.normalize("NFD", "é")
    for name in ("in/X1.JPG", f"in/caf{letters}.png", "a/2.png", "b/2.png", "a/3.png", "b/3.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("in/X1.JPG", "in/X1.JPG"),
        ("x1.jpg", "in/X1.JPG"),
        ("X1", "in/X1.JPG"),
        ("café", "in/cafe\u0301.png"),
        ("CAFÉ.PNG", "in/cafe\u0301.png"),
        ("b/2", "b/2.png"),
        ("D:\\all\\b\\2.png", "b/2.png"),
        ("3", "a/3.png"),
    ],
)
def test_files_are_found_however_they_are_named(files: Path, name: str, found: str) -> None:
    assert FileIndex(files).find(name) == found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("2", "fits more than one file: a/2.png, b/2.png"),
        ("4.png", "no such file"),
        ("c/2.png", "no such file, only a/2.png, b/2.png"),
        ("3.jpg", "no such file"),
        ("\0", "no such file"),
        ("", "no such file"),
    ],
)
def test_what_is_not_found_is_named(files: Path, name: str, told: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        FileIndex(files).find(name)
    assert str(caught.value) == told


def test_a_folder_is_walked_once(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    scandir = os.scandir

    def counted(path: str) -> "os._ScandirIterator[str]":
        looked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    index = FileIndex(files)
    assert index.find("in/X1.JPG")
    assert not looked
    for _ in range(50):
        assert index.find("x1")
        assert not index.holds("gone")
    assert len(looked) == len(set(looked)) == 4


def tables(place: Path) -> Iterator[str]:
    draw(place, {f"train/{n}.png": "image" for n in range(6)} | {"test/9.png": "image"})
    (place / "labels.csv").write_text(rows("id,breed", "{n},{label}"))
    (place / "sample_submission.csv").write_text(rows("id,cat,dog", "9,0.5,0.5", count=1))
    yield str(place)


def test_the_only_table_in_a_folder_without_classes_is_read(tmp_path: Path) -> None:
    [source] = tables(tmp_path / "data")
    progress = Silent()
    report = import_source(source, tmp_path / "out", progress=progress)
    assert (report.images, report.labels, report.skipped) == (6, ("cat", "dog"), 1)
    assert "labels.csv lists the labels of the files in train/" in report.reason
    notes = " ".join(progress.notes)
    assert "1 image that labels.csv does not list not used, such as test/9.png" in notes
    assert "test/9.png,not in labels.csv" in (tmp_path / "out" / "skipped.csv").read_text()


def test_several_tables_in_a_folder_are_offered(tmp_path: Path) -> None:
    [source] = tables(tmp_path / "data")
    (tmp_path / "data" / "other.csv").write_text(rows("id,breed", "{n},{label}"))
    with pytest.raises(DataError) as caught:
        import_source(source, tmp_path / "out", progress=Silent())
    assert "labels.csv looks like the labels of the files in train/" in caught.value.hint
    assert f"cnnclf import {tmp_path}/data/labels.csv" in caught.value.hint
    assert f"cnnclf import {tmp_path}/data/other.csv" in caught.value.hint
    assert "submission" not in caught.value.hint


def test_folders_that_are_no_classes_are_not_taken_for_them(tmp_path: Path) -> None:
    source = draw(tmp_path / "s", {f"{n % 2}/{n}.png": "image" for n in range(6)})
    (source / "labels.csv").write_text(rows("id,label", "{n},{label}"))
    with pytest.raises(DataError, match="may be class folders") as caught:
        import_source(source, tmp_path / "out", progress=Silent())
    assert "--format class-folders" in caught.value.hint
    (source / "labels.csv").write_text(rows("id,label", "{n},{one}"))
    assert import_source(source, tmp_path / "out", progress=Silent()).labels == ("0", "1")


def test_the_table_of_labels_in_an_archive_is_found_among_others(tmp_path: Path) -> None:
    [source] = tables(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in Path(source).rglob("*.*"):
            archive.write(path, path.relative_to(source))
    report = import_source(tmp_path / "all.zip", tmp_path / "out", progress=Silent())
    assert (report.images, report.labels) == (6, ("cat", "dog"))


def test_a_column_of_split_names_is_that_of_the_splits(tmp_path: Path) -> None:
    draw(tmp_path, {f"images/{n}.png": "image" for n in range(6)})
    lines = [
        f"{'test' if n > 3 else 'training'},gs://bucket/images/{n}.png,{'ab'[n % 2]}"
        for n in range(6)
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))  # as Google's AutoML has it
    options = ImportConfig(header=False)
    report = import_source(
        tmp_path / "list.csv", tmp_path / "out", options=options, progress=Silent()
    )
    assert report.labels == ("a", "b")
    assert sum(report.counts["test"].values()) == 2


@pytest.mark.parametrize("kind", ["csv", "list", "tasks"])
@pytest.mark.parametrize("is_uploaded", [False, True])
def test_exports_of_label_studio(tmp_path: Path, kind: str, is_uploaded: bool) -> None:
    draw(tmp_path / "data", {f"photos/my {n}.png": "image" for n in range(6)})
    place = "/data/upload/7/0123abc{n}-my {n}.png"
    place = place if is_uploaded else "/data/local-files/?d=photos/my%20{n}.png"
    found = [(place.format(n=n), "ab"[n % 2]) for n in range(6)]
    path = tmp_path / "data" / ("export.csv" if kind == "csv" else "export.json")
    if kind == "csv":
        table = [f"{image},{n},{label},1" for n, (image, label) in enumerate(found)]
        path.write_text("\n".join(["image,id,choice,annotator", *table]))
    elif kind == "list":
        path.write_text(json.dumps([{"image": i, "id": 1, "choice": label} for i, label in found]))
    else:
        empty = {"was_cancelled": True, "result": []}
        tasks = [
            {
                "id": 5,
                "data": {"text": "note", "image": image},
                "annotations": [
                    empty,
                    {"result": [{"type": "choices", "value": {"choices": [label]}}]},
                ],
            }
            for image, label in found
        ]
        tasks.append({"id": 6, "data": {"image": "photos/my 0.png"}, "annotations": [empty]})
        path.write_text(json.dumps(tasks))
    for number, source in enumerate((path, tmp_path / "data")):
        report = import_source(source, tmp_path / f"out{number}", progress=Silent())
        assert (report.images, report.labels) == (6, ("a", "b"))
        assert sum(sum(each.values()) for each in report.counts.values()) == 6


def test_tasks_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    for content, words in (
        ([{"data": {"text": "note"}}], "object 1 of .* names no image: text"),
        (
            [{"data": {"image": "a.png"}, "annotations": [{}]}],
            "object 1 of .* no task .*: 'result' is missing",
        ),
        ([{"data": {"image": "a.png"}, "annotations": 3}], "object 1 of .* no task"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            import_source(path, tmp_path / "out", progress=Silent())


@pytest.mark.parametrize("name", ["labels.csv", "instances.json"])
def test_a_table_in_a_folder_beside_the_images_is_read(tmp_path: Path, name: str) -> None:
    data = draw(tmp_path / "data", {f"images/{n}.png": "image" for n in range(6)})
    (data / "annotations").mkdir()
    pairs = {f"{n}.png": "ab"[n % 2] for n in range(6)}
    table = "\n".join(["image,label", *(f"{image},{label}" for image, label in pairs.items())])
    path = data / "annotations" / name
    path.write_text(json.dumps(pairs) if path.suffix == ".json" else table)
    report = import_source(data, tmp_path / "out", progress=Silent())
    assert (report.images, report.labels) == (6, ("a", "b"))
    assert f"{name} lists the labels of the files in images/" in report.reason
    (data / "annotations" / f"other-{name}").write_bytes(path.read_bytes())
    with pytest.raises(DataError) as caught:
        import_source(data, tmp_path / "out2", progress=Silent())
    assert f"cnnclf import {path} --root {data}" in caught.value.hint


def test_tables_beside_class_folders_are_about_something_else(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", {f"images/{n % 2}/{n}.png": "image" for n in range(6)})
    (data / "meta").mkdir()
    (data / "meta" / "colors.csv").write_text(rows("id,color", "{n},{label}"))
    assert import_source(data, tmp_path / "out", progress=Silent()).labels == ("0", "1")


def test_a_document_in_an_archive_is_read_and_names_nothing_outside(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", {f"top/images/{n}.png": "image" for n in range(6)})
    secret = draw(tmp_path, {"secret.png": "image"}) / "secret.png"
    pairs = {f"{n}.png": "ab"[n % 2] for n in range(6)} | {str(secret): "a"}
    (data / "top" / "labels.json").write_text(json.dumps(pairs))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in data.rglob("*.*"):
            archive.write(path, path.relative_to(data))
    progress = Silent()
    report = import_source(tmp_path / "all.zip", tmp_path / "out", progress=progress)
    assert (report.images, report.labels) == (6, ("a", "b"))
    assert f"{secret},leads out of the archive" in (tmp_path / "out" / "skipped.csv").read_text()
    assert "top in the archive was read as json" in progress.notes
