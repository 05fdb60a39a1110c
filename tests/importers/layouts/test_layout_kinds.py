"""A table of layouts as people have them: the tree, and the dataset or question it must give."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers import ImportReport, import_source
from cnnclf.importers.layouts.folder_view import FolderView
from cnnclf.importers.layouts.split_words import read_split_name, settle_eval
from cnnclf.progress import Silent
from tests.importers.drawing import Listener, draw

PETS = ("cat", "dog")


@dataclass(frozen=True)
class Kind:
    """A layout and what must become of it.

    Args:
        tree: From folder to the number of images in it, or the text of a file.
        labels: Of the dataset; none if the import must be refused.
        splits: Images of train (with val, if that is taken from train), val and test; None if the
            split is made.
        warns: What some warning must say.
        says: What the error and its hint must say.
        notes: What some note must say.
        options: Of the import.
    """

    tree: dict[str, int | str]
    labels: tuple[str, ...] = PETS
    splits: tuple[int, int, int] | None = None
    warns: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)


def split_tree(*names: str, classes: tuple[str, ...] = PETS) -> dict[str, int | str]:
    return {f"{name}/{label}": 4 for name in names for label in classes}


KINDS = {
    "suffix": Kind(split_tree("training_set", "validation_set", "test_set"), splits=(8, 8, 8)),
    "prefix": Kind(split_tree("seg_train", "seg_test"), splits=(8, 0, 8)),
    "camel": Kind(split_tree("TrainData", "ValData", "TestData"), splits=(8, 8, 8)),
    "case of classes": Kind(
        {"Train/cat": 4, "Train/dog": 4, "Test/Cat": 4, "Test/DOG": 4},
        splits=(8, 0, 8),
        notes=("read Cat as cat, DOG as dog, as in train: the names differ only in case",),
    ),
    "letters of both cases": Kind(
        {"train/a": 4, "train/b": 4, "test/a": 4, "test/A": 4, "test/b": 4},
        labels=("A", "a", "b"),
        splits=(8, 0, 12),
        warns=("labels without training images",),
    ),
    "years": Kind(split_tree("train2017", "val2017"), splits=(8, 8, 0)),
    "dev": Kind(split_tree("train", "dev", "holdout"), splits=(8, 8, 8)),
    "eval is test": Kind(split_tree("train", "val", "eval"), splits=(8, 8, 8)),
    "eval is val": Kind(split_tree("train", "eval", "hold_out"), splits=(8, 8, 8)),
    "trainval": Kind(split_tree("trainval", "test"), splits=(8, 0, 8)),
    "data_train": Kind(split_tree("data_train", "data_test"), splits=(8, 0, 8)),
    "shards": Kind(split_tree("train-00", "train-01", "test"), splits=(16, 0, 8)),
    "own word": Kind(split_tree("pets_train", "pets_dev", "pets_test"), splits=(8, 8, 8)),
    "doubled": Kind(
        split_tree("data/data/train_set/train_set", "data/data/test_set/test_set"), splits=(8, 0, 8)
    ),
    "split and class in one name": Kind(
        {f"{split}_{label}": 4 for split in ("train", "val", "test") for label in PETS},
        splits=(8, 8, 8),
        notes=("read the names of 6 folders as split and class: test_cat as cat in test",),
    ),
    "class and split in one name": Kind(
        {f"{label}-{split}": 4 for split in ("Training", "Test") for label in ("big cat", "Dog")},
        labels=("big cat", "Dog"),
        splits=(8, 0, 8),
    ),
    "split in the middle of a name": Kind(
        {f"set_{split}_{label}": 4 for split in ("train", "test") for label in PETS},
        labels=("set_cat", "set_dog"),
        splits=(8, 0, 8),
    ),
    "split and class in one name, one class lost": Kind(
        {"train_cat": 4, "train_dog": 4, "test_cat": 4, "test_dog": 4, "test_owl": 4},
        labels=(*PETS, "owl"),
        splits=(8, 0, 12),
        warns=("without training images", "owl"),
    ),
    "split and class in one name, beside another folder": Kind(
        {"train_cat": 4, "train_dog": 4, "test_cat": 4, "test_dog": 4, "extra": 4},
        labels=(),
        says=("named by split and class", "but also extra", "--format class-folders"),
    ),
    "the same, and the user says": Kind(
        {"train_cat": 4, "train_dog": 4, "test_cat": 4, "test_dog": 4, "extra": 4},
        labels=("extra", "test_cat", "test_dog", "train_cat", "train_dog"),
        options={"format": "class-folders"},
    ),
    "folds": Kind(
        split_tree("fold1", "fold2", "fold10"),
        labels=(),
        says=("hold the same folders (cat, dog)", "--label-from parent", "--label-from top"),
    ),
    "years, parent": Kind(split_tree("2019", "2020"), options={"label_from": "parent"}),
    "a word of a split in the names of classes": Kind(
        {"steam_train": 4, "freight_train": 4, "exam_test": 4},
        labels=(),
        says=("hold only files", "--format class-folders"),
    ),
    "unlabeled": Kind(
        {**split_tree("seg_train", "seg_test"), "seg_pred": 3},
        splits=(8, 0, 8),
        warns=("seg_pred holds 3 files without a label",),
    ),
    "unlabeled test": Kind(
        {**split_tree("train", "val"), "test": 3}, splits=(8, 8, 0), warns=("test holds 3 files",)
    ),
    "unlabeled test/images": Kind(
        {**split_tree("train", "val"), "test/images": 3},
        splits=(8, 8, 0),
        warns=("test/images holds 3 files",),
    ),
    "unlabeled, doubled": Kind(
        {**split_tree("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred": 3},
        splits=(8, 0, 8),
        warns=("seg_pred holds 3 files without a label",),
    ),
    "unlabeled beside a wrapper": Kind(
        {
            **split_tree("New Plants/New Plants/train", "New Plants/New Plants/valid"),
            "test/test": 3,
        },
        splits=(8, 8, 0),
        warns=("3 files in test skipped: images without a label",),
    ),
    "one column per class in each split": Kind(
        {
            f"{part}/{name}": content
            for part in ("train", "valid", "test")
            for name, content in {
                **{f"{at}.png": "image" for at in range(4)},
                "_classes.csv": "filename, cat, dog\n"
                + "".join(f"{at}.png, {at % 2}, {1 - at % 2}\n" for at in range(4)),
            }.items()
        },
        splits=(4, 4, 4),
        notes=("labels of valid: valid/_classes.csv",),
    ),
    "two readings": Kind(
        split_tree("train", "training_aug", "train_set", "test"),
        labels=(),
        says=("train_set", "--splits train=train", "to join them"),
    ),
    "a name of no split": Kind(
        split_tree("train", "test", "extra"),
        labels=(),
        says=("extra", "same classes", "--splits train=train,test=test,val=extra"),
    ),
    "the user says": Kind(
        split_tree("one", "two", "three"),
        splits=(8, 0, 8),
        warns=("8 files in three skipped",),
        options={"splits": "train=one,test=two"},
    ),
    "the user names no folder": Kind(
        split_tree("one", "two"),
        labels=(),
        says=("--splits test=tow", "it holds one, two"),
        options={"splits": "train=one,test=tow"},
    ),
    "train is a class": Kind({"train": 4, "plane": 4, "bus": 4}, labels=("bus", "plane", "train")),
    "train is a class beside one with folders": Kind(
        {"train": 4, "bus": 4, "bus/old": 4, "bus/new": 4}, labels=("bus", "train")
    ),
    "train may be a class with folders": Kind(
        {"train/steam": 4, "train/diesel": 4, "bus": 4, "car": 4},
        labels=(),
        says=("train", "bus, car", "--format class-folders"),
    ),
    "class over split": Kind(
        {f"{label}/{part}": 4 for label in PETS for part in ("train", "test")}, splits=(8, 0, 8)
    ),
    "class over odd split": Kind(
        {f"{label}/{part}": 4 for label in PETS for part in ("Training", "valid", "testing")},
        splits=(8, 8, 8),
    ),
    "groups": Kind(
        {"a/airfield": 4, "a/alley": 4, "b/bakery": 4},
        labels=(),
        says=("--label-from top or --label-from parent", "airfield"),
    ),
    "groups, parent": Kind(
        {"a/airfield": 4, "a/alley": 4, "b/bakery": 4},
        labels=("airfield", "alley", "bakery"),
        options={"label_from": "parent"},
    ),
    "groups, top": Kind(
        {"ill/p1": 4, "ill/p2": 4, "well/p3": 4},
        labels=("ill", "well"),
        notes=("sub-folders joined into their class: ill (p1, p2), well (p3)",),
        options={"label_from": "top"},
    ),
    "grandparent in splits": Kind(
        {f"{part}/{label}/left": 4 for part in ("train", "test") for label in PETS},
        splits=(8, 0, 8),
        options={"label_from": "grandparent"},
    ),
    "same parts in all classes": Kind(
        {f"{label}/{part}": 4 for label in PETS for part in ("day", "night")},
        notes=("joined into their class: cat (day, night), dog (day, night)",),
    ),
    "masks": Kind(
        {f"{label}/{part}": 4 for label in PETS for part in ("images", "masks")},
        warns=("8 files in cat/masks, dog/masks skipped",),
    ),
    "masks on top": Kind(
        {f"{part}/{label}": 4 for label in PETS for part in ("images", "annotations")},
        warns=("8 files in annotations skipped",),
    ),
    "itself again": Kind(
        {"cells/cat": 4, "cells/dog": 4, "cells/cells/cat": 4, "cells/cells/dog": 4},
        warns=("cells/cells holds the folders of cells again",),
    ),
    "labels in a file": Kind(
        {
            **{f"train/{label}/images": 4 for label in PETS},
            "train/cat/cat_boxes.txt": "0.png\t0\t0\t4\t4\n",
            "val/images": 4,
            "val/val_annotations.txt": "".join(
                f"{at}.png\t{PETS[at % 2]}\t0\t0\t4\t4\n" for at in range(4)
            ),
        },
        splits=(8, 4, 0),
        notes=("labels of val: val/val_annotations.txt", "1 file beside the images of a class"),
    ),
    "labels in a CSV file beside": Kind(
        {
            **split_tree("train"),
            "test/": 4,
            "test/labels.csv": "".join(f"{at}.png,{PETS[at % 2]}\n" for at in range(3)),
        },
        splits=(8, 0, 3),
        warns=("1 file in test skipped: not listed in test/labels.csv",),
    ),
    "names of files": Kind(
        {f"train/{label}.{at}.png": "image" for label in PETS for at in range(4)},
        options={"label_from": "^([a-z]+)"},
    ),
    "names of files beside unlabeled ones": Kind(
        {f"train/{label}.{at}.png": "image" for label in PETS for at in range(4)} | {"test1": 3},
        options={"label_from": "^([a-z]+)"},
        warns=("test1 holds 3 files without a label",),
    ),
    "names of files in splits": Kind(
        {
            f"{part}/{label}_{at}.png": "image"
            for part in ("train", "test")
            for label in PETS
            for at in range(4)
        },
        options={"label_from": "([a-z]+)_[0-9]", "splits": "train=train,test=test"},
        splits=(8, 0, 8),
    ),
    "a label that train lacks": Kind(
        {"train/cat": 4, "train/dog": 4, "test/cat": 4, "test/owl": 4},
        labels=("cat", "dog", "owl"),
        splits=(8, 0, 8),
        warns=("labels without training images", "owl (4 images)"),
    ),
    "nothing that was trained": Kind(
        {"train/cat": 4, "train/dog": 4, "val/0": 4, "val/1": 4},
        labels=("0", "1", "cat", "dog"),
        splits=(8, 8, 0),
        warns=("0 (4 images), 1 (4 images)",),
    ),
    "a class that val lacks": Kind(
        {"train/cat": 4, "train/dog": 4, "val/cat": 4},
        splits=(8, 4, 0),
        warns=("val has no images of dog, so it does not measure them",),
    ),
    "archives": Kind(
        {"train.zip": "PK", "test.tar.gz": "x"},
        labels=(),
        says=("holds no images, but other archives: test.tar.gz, train.zip", "unpack them"),
    ),
    "an expression that finds nothing": Kind(
        {"cat": 4, "dog": 4},
        labels=(),
        options={"label_from": "^(zzz)"},
        says=("--label-from ^(zzz) finds no label", "try the expression on this path"),
    ),
    "one class": Kind({"cat": 4}, labels=(), says=("of 'cat' only", "--one-class")),
    "a class without a file that can be read": Kind(
        {"cat": 4, "dog": 4, "owl/1.png": "", "owl/2.png": "no image"},
        warns=("classes without a usable file are excluded: owl (2 files)",),
    ),
    "system": Kind(
        {
            "cat": 4,
            "dog": 4,
            "$RECYCLE.BIN": 1,
            "System Volume Information/x.png": "image",
            "lost+found": 1,
            "__pycache__/a.pyc": "x",
            "__MACOSX/cat/._0.png": "x",
            ".ipynb_checkpoints": 1,
            "cat/Icon\r": "",
            "cat/Thumbs.db": "x",
            "dog/desktop.ini": "x",
            "dog/._1.png": "x",
        }
    ),
}


def sums(report: ImportReport) -> tuple[int, int, int]:
    train, val, test = (sum(report.counts[split].values()) for split in ("train", "val", "test"))
    return (train + val, 0, test) if "val from train" in report.split else (train, val, test)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_each_kind_of_layout_gives_what_was_meant(kind: Kind, tmp_path: Path) -> None:
    source, heard = draw(tmp_path / "source", kind.tree), Listener()
    options = ImportConfig.model_validate({"threads": 1, **kind.options})
    if not kind.labels:
        with pytest.raises(DataError) as caught:
            import_source(source, tmp_path / "data", options=options, progress=heard)
        for words in kind.says:
            assert words in f"{caught.value.message} {caught.value.hint}"
        return
    report = import_source(source, tmp_path / "data", options=options, progress=heard)
    assert report.labels == kind.labels
    assert (report.split != "made") == (kind.splits is not None)
    if kind.splits is not None:
        assert sums(report) == kind.splits
    for words in kind.warns:
        assert any(words in text for text in heard.warnings), heard.warnings
    for words in kind.notes:
        assert any(words in text for text in heard.notes), heard.notes
    assert report.failed == (2 if "owl/1.png" in kind.tree else 0)


def images_in(source: Path) -> Iterator[str]:
    for path in source.rglob("*.png"):
        yield path.relative_to(source).as_posix()


@pytest.mark.parametrize("name", [n for n, kind in KINDS.items() if kind.labels and n != "system"])
def test_every_image_is_a_sample_or_listed_as_skipped(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    source = draw(tmp_path / "source", kind.tree)
    options = ImportConfig.model_validate({"threads": 1, **kind.options})
    import_source(source, tmp_path / "data", options=options, progress=Silent())
    listed = set()
    for table in ("manifest.csv", "skipped.csv"):
        with (tmp_path / "data" / table).open(newline="") as file:
            listed |= {row["path"] for row in csv.DictReader(file)}
    assert set(images_in(source)) <= listed


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("train", "train", ()),
        ("TRAINING SET", "train", ()),
        ("trainset", "train", ()),
        ("x_train", "train", ("x",)),
        ("val_images_2", "val", ()),
        ("Hold-Out", "test", ()),
        ("steam train", "train", ("steam",)),
        ("train_test", "", ()),
        ("trainer", "", ("trainer",)),
        ("contest", "", ("contest",)),
        ("valley", "", ("valley",)),
        ("interval", "", ("interval",)),
        ("latest", "", ("latest",)),
    ],
)
def test_splits_are_read_by_words(name: str, split: str, rest: tuple[str, ...]) -> None:
    assert read_split_name(name) == (split, rest)


def test_eval_is_what_the_source_lacks() -> None:
    assert settle_eval("eval", ["train", "eval"]) == "test"
    assert settle_eval("eval", ["train", "eval", "test"]) == "val"
    assert settle_eval("eval", ["train", "eval", "val"]) == "test"
    assert settle_eval("train", []) == "train"


def test_names_of_a_large_folder_are_not_kept(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.jpg").touch()
    (folder / "labels.csv").touch()
    view = FolderView(tmp_path)
    assert (view.count_files("cat"), view.has_images("cat")) == (301, True)
    assert len(view.files("cat")) <= 51
    assert "cat/labels.csv" in view.files("cat")
