"""A file for each image that says its label, as tools write them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.importers.pipeline import ImportReport
from cnnclf.progress import Silent

RNG = np.random.default_rng(29)
COUNT = 12
LABELS = ["cat", "dog"] * (COUNT // 2)
EVEN = {"cat": 6, "dog": 6}


def put_images(folder: Path, count: int = COUNT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def put_labels(folder: Path, suffix: str, texts: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number}{suffix}").write_text(text)


def voc(*labels: str) -> str:
    objects = "".join(f"<object><name>{label}</name><bndbox/></object>" for label in labels)
    return f"<annotation><filename>elsewhere.jpg</filename>{objects}</annotation>"


def read(source: Path, tmp_path: Path, **options: object) -> ImportReport:
    config = ImportConfig.model_validate(options)
    return import_source(source, tmp_path / "dataset", options=config, progress=Silent())


def total(report: ImportReport) -> dict[str, int]:
    whole: dict[str, int] = {}
    for counts in report.counts.values():
        for label, count in counts.items():
            whole[label] = whole.get(label, 0) + count
    return whole


def in_pascal_voc(root: Path) -> None:
    put_images(root / "JPEGImages")
    put_labels(root / "Annotations", ".xml", [voc(label, label) for label in LABELS])


def in_labelimg(root: Path) -> None:
    put_images(root)
    put_labels(root, ".xml", list(map(voc, LABELS)))


def in_labelme(root: Path) -> None:
    put_images(root)
    flags = [{"flags": {"cat": label == "cat", "dog": label == "dog"}} for label in LABELS]
    put_labels(root, ".json", [json.dumps(each | {"shapes": []}) for each in flags])


def in_shapes_of_labelme(root: Path) -> None:
    put_images(root)
    shapes = [{"flags": {}, "shapes": [{"label": label}] * 2} for label in LABELS]
    put_labels(root, ".json", list(map(json.dumps, shapes)))


def in_supervisely(root: Path) -> None:
    put_images(root / "img")
    put_labels(root / "ann", ".png.json", [json.dumps({"tags": [{"name": n}]}) for n in LABELS])


def in_objects(root: Path) -> None:
    put_images(root)
    put_labels(root, ".json", [json.dumps({"class": label, "by": "me"}) for label in LABELS])


def in_words(root: Path) -> None:
    put_images(root)
    put_labels(root, ".txt", [f"{label}\n" for label in LABELS])


def in_yolo(root: Path) -> None:
    put_images(root / "images")
    boxes = [f"{LABELS.index(label)} 0.5 0.5 .2 1e-1\n" * 2 for label in LABELS]
    put_labels(root / "labels", ".txt", boxes)
    (root / "data.yaml").write_text("path: .\nnames:\n  0: cat\n  1: 'dog'\n\nnc: 2\n")


def in_yolo_of_roboflow(root: Path) -> None:
    in_yolo(root)
    (root / "data.yaml").write_text("names: ['cat', 'dog']\nnc: 2\n")


def in_splits_of_yolo(root: Path) -> None:
    for split, start in (("train", 0), ("val", 6)):
        for number in range(start, start + 6):
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{number}.png")
            (root / "labels" / split / f"{number}.txt").write_text(f"{number % 2} 0 0 1 1")
    (root / "data.yaml").write_text("names:\n- cat\n- dog\n")


def in_splits_of_roboflow(root: Path) -> None:
    in_splits_of_yolo(root / "old")
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split).mkdir(exist_ok=True)
            (root / "old" / kind / split).rename(root / split / kind)
    (root / "old" / "data.yaml").rename(root / "data.yaml")
    shutil.rmtree(root / "old")


def in_darknet(root: Path) -> None:
    put_images(root)
    put_labels(root, ".txt", [f"{LABELS.index(label)} 0 0 1 1" for label in LABELS])
    (root / "classes.txt").write_text("cat\ndog\n")


KINDS = [
    in_pascal_voc,
    in_labelimg,
    in_labelme,
    in_shapes_of_labelme,
    in_supervisely,
    in_objects,
    in_words,
    in_yolo,
    in_yolo_of_roboflow,
    in_splits_of_yolo,
    in_splits_of_roboflow,
    in_darknet,
]


@pytest.mark.parametrize("write", KINDS)
def test_labels_of_tools_are_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "set")
    report = read(tmp_path / "set", tmp_path)
    assert (report.format, total(report), report.skipped) == ("label-files", EVEN, 0)


def test_an_archive_of_pascal_voc_keeps_its_splits(tmp_path: Path) -> None:
    root = tmp_path / "set" / "VOCdevkit" / "VOC2012"
    in_pascal_voc(root)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 12))):
        (lists / f"{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
        (lists / f"cat_{split}.txt").write_text("".join(f"{number} -1\n" for number in numbers))
    packed = Path(shutil.make_archive(str(tmp_path / "voc"), "zip", tmp_path / "set"))
    report = read(packed, tmp_path)
    assert report.counts["train"] == {"cat": 3, "dog": 3}
    assert report.counts["val"] == {"cat": 1, "dog": 1}
    assert report.counts["test"] == {"cat": 2, "dog": 2}


def test_folders_of_splits_are_kept(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        in_labelimg(tmp_path / "set" / split)
    report = read(tmp_path / "set", tmp_path)
    assert {split: sum(found.values()) for split, found in report.counts.items()} == {
        "train": COUNT,
        "val": COUNT,
        "test": COUNT,
    }


def test_files_that_are_damaged_cost_their_image_and_unlabeled_images_are_named(
    tmp_path: Path,
) -> None:
    in_labelimg(tmp_path / "set")
    (tmp_path / "set" / "0.xml").write_text("<annotation>")
    (tmp_path / "set" / "1.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>")
    (tmp_path / "set" / "2.xml").write_text(voc())
    (tmp_path / "set" / "3.xml").unlink()
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, report.skipped) == (COUNT - 4, 4)
    rows = (load_dataset(tmp_path / "dataset").directory / "skipped.csv").read_text()
    assert "0.xml is damaged" in rows
    assert "1.xml is damaged: it declares entities" in rows
    assert "2.png,an image without a label" in rows
    assert "3.png,an image without a label" in rows


def test_an_image_of_two_classes_is_refused_or_has_the_first(tmp_path: Path) -> None:
    in_labelimg(tmp_path / "set")
    (tmp_path / "set" / "5.xml").write_text(voc("cat", "dog"))
    with pytest.raises(DataError, match=r"1 image of 12 have several labels, such as 5\.png"):
        read(tmp_path / "set", tmp_path)
    assert total(read(tmp_path / "set", tmp_path, first_label=True)) == {"cat": 7, "dog": 5}


def test_numbers_without_names_are_labels_with_a_warning(tmp_path: Path) -> None:
    in_darknet(tmp_path / "set")
    (tmp_path / "set" / "classes.txt").unlink()
    report = read(tmp_path / "set", tmp_path)
    assert report.labels == ("0", "1")
    assert any("--classes-file" in warning for warning in report.warnings)


def test_captions_are_no_labels(tmp_path: Path) -> None:
    put_images(tmp_path / "set")
    put_labels(tmp_path / "set", ".txt", [f"a dog, number {number}" for number in range(COUNT)])
    with pytest.raises(DataError, match="has no class folders"):
        read(tmp_path / "set", tmp_path)


def test_folders_of_classes_and_a_rule_come_before_files_beside_the_images(tmp_path: Path) -> None:
    for label in ("x", "o"):
        in_labelimg(tmp_path / "set" / label)
    assert read(tmp_path / "set", tmp_path).labels == ("o", "x")
    in_labelimg(tmp_path / "flat")
    report = import_source(
        tmp_path / "flat",
        tmp_path / "ruled",
        options=ImportConfig(label_from="^([0-9])"),
        progress=Silent(),
    )
    assert set(report.labels) == set("0123456789")


def test_masks_of_pascal_voc_are_neither_classes_nor_images(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2007"
    in_pascal_voc(root)
    for name in ("SegmentationClass", "SegmentationObject"):
        put_images(root / name, 3)
    for source in (root, tmp_path / "VOCdevkit"):
        report = import_source(source, tmp_path / f"of_{source.name}", progress=Silent())
        assert (report.format, total(report), report.failed) == ("label-files", EVEN, 0)
        assert report.skipped == 6  # each mask is named
        paths = load_dataset(tmp_path / f"of_{source.name}").manifest.paths
        assert all("JPEGImages/" in path for path in paths)


def test_a_file_is_not_that_of_the_same_name_in_another_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        in_labelimg(tmp_path / "set" / split)
    (tmp_path / "set" / "train" / "3.xml").unlink()
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, report.skipped) == (2 * COUNT - 1, 1)
    rows = (tmp_path / "dataset" / "skipped.csv").read_text()
    assert "train/3.png,an image without a label" in rows


def test_images_beside_each_other_may_share_a_file_and_masks_are_named(tmp_path: Path) -> None:
    in_words(tmp_path / "set" / "images")
    put_images(tmp_path / "set" / "images" / "more", 1)
    (tmp_path / "set" / "images" / "more" / "0.png").rename(tmp_path / "set" / "images" / "0.bmp")
    (tmp_path / "set" / "images" / "more").rmdir()
    assert total(read(tmp_path / "set", tmp_path)) == {"cat": 7, "dog": 6}
    in_pascal_voc(tmp_path / "voc")
    put_images(tmp_path / "voc" / "SegmentationClass", 2)
    report = import_source(tmp_path / "voc", tmp_path / "of_voc", progress=Silent())
    assert (report.images, report.skipped) == (COUNT, 2)
    rows = (tmp_path / "of_voc" / "skipped.csv").read_text()
    assert "SegmentationClass/1.png,its label is that of JPEGImages/1.png" in rows


@pytest.mark.parametrize(
    "names",
    [
        "names: {0: cat, 1: dog}",
        "names: {1: 'dog', 0: \"cat\"}",
        "names:\n  1: dog  # barks\n  0: cat\nnc: 2\n",
        "names: [cat,\n  dog,\n]\n",
        "nc: 2\r\nnames:\r\n  - cat\r\n  - dog\r\n",
    ],
)
def test_the_names_of_yolo_are_those_of_the_numbers(tmp_path: Path, names: str) -> None:
    in_yolo(tmp_path / "set")
    (tmp_path / "set" / "images" / "1.png").unlink()
    (tmp_path / "set" / "data.yaml").write_text(names, newline="")
    assert total(read(tmp_path / "set", tmp_path)) == {"cat": 6, "dog": 5}


def test_names_of_yolo_with_gaps_name_nothing(tmp_path: Path) -> None:
    in_yolo(tmp_path / "set")
    (tmp_path / "set" / "data.yaml").write_text("names: {0: cat, 2: dog}\n")
    report = read(tmp_path / "set", tmp_path)
    assert report.labels == ("0", "1")
    assert any("--classes-file" in warning for warning in report.warnings)
