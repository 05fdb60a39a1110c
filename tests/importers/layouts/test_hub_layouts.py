"""Folders as hubs and labeling tools write them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.importers.pipeline import ImportReport
from cnnclf.progress import Silent

RNG = np.random.default_rng(13)


def put_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def read(source: Path, tmp_path: Path) -> ImportReport:
    return import_source(source, tmp_path / "dataset", progress=Silent())


def test_metadata_beside_the_images(tmp_path: Path) -> None:
    put_images(tmp_path / "set", 6)
    lines = [f"{number}.png,{'ab'[number % 2]}" for number in range(6)]
    (tmp_path / "set" / "metadata.csv").write_text("file_name,label\n" + "\n".join(lines))
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images) == (("a", "b"), 6)


def test_metadata_in_each_split(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("validation", 4)):
        put_images(tmp_path / "set" / split / "images", count)
        rows = [
            {"file_name": f"images/{number}.png", "label": "ab"[number % 2], "note": f"no {number}"}
            for number in range(count)
        ]
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / "set" / split / "metadata.jsonl").write_text(lines)
    report = read(tmp_path / "set", tmp_path)
    assert report.counts["train"] == {"a": 4, "b": 4}
    assert report.counts["val"] == {"a": 2, "b": 2}


@pytest.mark.parametrize("classes", [["cat", "dog"], None])
def test_a_classification_dataset_of_fiftyone(tmp_path: Path, classes: list[str] | None) -> None:
    put_images(tmp_path / "set" / "data", 6)
    labels = {
        str(number): number % 2 if classes else ("cat", "dog")[number % 2] for number in range(6)
    }
    document = {"classes": classes, "labels": labels | {"9": None}}
    (tmp_path / "set" / "labels.json").write_text(json.dumps(document))
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images) == (("cat", "dog"), 6)


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    put_images(tmp_path / "set" / "data", 2)
    document = {"classes": ["cat", "dog"], "labels": {"0": 0, "1": 2}}
    (tmp_path / "set" / "labels.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="one of 2 classes, for 1 in"):
        read(tmp_path / "set", tmp_path)


def test_the_layout_of_ultralytics_and_its_cache(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for label in "ab":
            put_images(tmp_path / "set" / split / label, 2)
    (tmp_path / "set" / "train.cache").write_bytes(b"\x93NUMPY")
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images, report.failed) == (("a", "b"), 12, 0)


def test_the_folders_of_roboflow(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        for label in "ab":
            put_images(tmp_path / "set" / split / label, count)
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (tmp_path / "set" / name).write_text("https://universe.roboflow.com")
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images, report.failed) == (("a", "b"), 16, 0)
    assert report.counts["val"] == {"a": 2, "b": 2}


def test_the_table_of_roboflow(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        put_images(tmp_path / "set" / split, 6)
        lines = [f"{n}.png,{1 - n % 2}, {n % 2}" for n in range(6)]
        text = "\n".join(["filename, a, b", *lines])
        (tmp_path / "set" / split / "_classes.csv").write_text(text)
    report = read(tmp_path / "set" / "train" / "_classes.csv", tmp_path)
    assert (report.labels, report.images) == (("a", "b"), 6)


def test_the_documents_of_roboflow(tmp_path: Path) -> None:
    put_images(tmp_path / "set" / "train", 6)
    document = {
        "categories": [{"id": n, "name": name} for n, name in enumerate(("none", "a", "b"))],
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(6)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1 + n % 2} for n in range(6)],
    }
    path = tmp_path / "set" / "train" / "_annotations.coco.json"
    path.write_text(json.dumps(document))
    assert read(path, tmp_path).labels == ("a", "b")


def test_the_samples_of_teachable_machine(tmp_path: Path) -> None:
    for label in ("Class 1", "Class 2"):
        put_images(tmp_path / "set" / f"{label}-samples", 3)
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, len(report.labels)) == (6, 2)


def test_imagenet_as_cvat_writes_it(tmp_path: Path) -> None:
    for label in ("owl", "elk"):
        put_images(tmp_path / "set" / label, 3)
    (tmp_path / "set" / "synsets.txt").write_text("owl\nelk\n")
    assert read(tmp_path / "set", tmp_path).labels == ("elk", "owl")


def write_cvat(folder: Path, images: str, *, head: str = "") -> Path:
    put_images(folder / "images", 6)
    path = folder / "annotations.xml"
    path.write_text(f'<?xml version="1.0"?>{head}\n<annotations>{images}</annotations>')
    return path


@pytest.mark.parametrize("name", ["", "annotations.xml"])
def test_tags_of_cvat(tmp_path: Path, name: str) -> None:
    box = '<box label="car" xtl="1" ytl="1" xbr="2" ybr="2"/>'
    lines = [
        f'<image id="{n}" name="{n}.png" width="8" height="8">'
        f'{box}{f"""<tag label="{"ab"[n % 2]}" source="manual"/>""" if n < 5 else ""}</image>'
        for n in range(6)
    ]
    write_cvat(tmp_path / "set", "".join(lines))
    report = read(tmp_path / "set" / name, tmp_path)
    assert (report.format, report.labels, report.images) == ("cvat", ("a", "b"), 5)
    assert "1 image without a label" in report.warnings[0]


@pytest.mark.parametrize(
    ("images", "head", "words"),
    [
        ('<image name="0.png"><box label="a"/></image>', "", "no tags of images, only 1 shape"),
        ('<image name="0.png"><tag label="a"/><tag label="b"/></image>', "", "multi-label"),
        ('<image name="0.png">', "", "not valid XML"),
        ("", '<!DOCTYPE a [<!ENTITY b "c">]>', "declares entities"),
    ],
)
def test_what_cvat_cannot_mean_is_one_line(
    tmp_path: Path, images: str, head: str, words: str
) -> None:
    path = write_cvat(tmp_path / "set", images, head=head)
    with pytest.raises(DataError, match=words):
        read(path, tmp_path)


def read_labels(source: Path, tmp_path: Path) -> tuple[str, int, tuple[str, ...], int]:
    put_images(source / "images", 6)
    report = read(source, tmp_path)
    return report.format, report.images, report.labels, report.skipped


@pytest.mark.parametrize("name", ["letters", "cat"])  # one attribute, or one for each class
def test_manifests_of_ground_truth_and_rekognition(tmp_path: Path, name: str) -> None:
    rows = [
        {
            "source-ref": f"s3://bucket/images/{number}.png",
            name: number % 2,
            f"{name}-metadata": {
                "class-name": ("cat", "dog")[number % 2],
                "confidence": 1,
                "job-name": "labeling-job/animals",
            },
        }
        for number in range(6)
    ]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "output.manifest").write_text("\n".join(map(json.dumps, rows)))
    assert read_labels(tmp_path / "set", tmp_path) == ("table", 6, ("cat", "dog"), 0)


def test_two_labels_of_one_image_in_a_manifest_are_refused(tmp_path: Path) -> None:
    rows = [
        {
            "source-ref": f"s3://bucket/{number}.png",
            "cat-metadata": {"class-name": "cat"},
            "dog-metadata": {"class-name": "dog" if number else "cat"},
        }
        for number in range(6)
    ]
    put_images(tmp_path / "set", 6)
    manifest = tmp_path / "set" / "output.manifest"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"several labels, such as 'cat\|dog'"):
        read(manifest, tmp_path)


def test_the_list_of_vertex_ai_has_splits(tmp_path: Path) -> None:
    uses = ["training"] * 4 + ["validation", "test"]
    rows = [
        {
            "imageGcsUri": f"gs://bucket/images/{number}.png",
            "classificationAnnotation": {"displayName": ("cat", "dog")[number % 2]},
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use},
        }
        for number, use in enumerate(uses)
    ]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "import.jsonl").write_text("\n".join(map(json.dumps, rows)))
    put_images(tmp_path / "set" / "images", 6)
    report = read(tmp_path / "set", tmp_path)
    assert report.counts == {
        "train": {"cat": 2, "dog": 2},
        "val": {"cat": 1, "dog": 0},
        "test": {"cat": 0, "dog": 1},
    }


def via_file(number: int, **attributes: object) -> dict[str, object]:
    return {"filename": f"{number}.png", "size": 99, "regions": [], "file_attributes": attributes}


@pytest.mark.parametrize("kind", ["file", "ticked", "regions"])
@pytest.mark.parametrize("is_project", [True, False])
def test_annotations_of_via(tmp_path: Path, kind: str, *, is_project: bool) -> None:
    files: dict[str, dict[str, object]] = {}
    for number in range(6):
        label = ("cat", "dog")[number % 2]
        file = via_file(number, animal=label, by="me")
        if kind == "ticked":
            file = via_file(number, animal={label: True, "cow": False})
        if kind == "regions":
            region = {"shape_attributes": {}, "region_attributes": {"animal": label}}
            file = via_file(number) | {"regions": [region, region]}
        files[f"{number}.png99"] = file
    document = {"_via_settings": {}, "_via_img_metadata": files} if is_project else files
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "via.json").write_text(json.dumps(document))
    assert read_labels(tmp_path / "set", tmp_path) == ("json", 6, ("cat", "dog"), 0)


@pytest.mark.parametrize(
    "document",
    [{"_via_img_metadata": []}, {"_via_img_metadata": {"a": 1}}, {"a": {"regions": None}}, {}],
)
def test_what_only_begins_like_a_document_of_via_is_refused(
    tmp_path: Path, document: object
) -> None:
    put_images(tmp_path / "set", 2)
    (tmp_path / "set" / "via.json").write_text(json.dumps(document))
    with pytest.raises(DataError):
        read(tmp_path / "set" / "via.json", tmp_path)


def test_csv_of_via_names_what_to_save_instead(tmp_path: Path) -> None:
    put_images(tmp_path / "set", 2)
    table = tmp_path / "set" / "via.csv"
    cell = '"{""animal"":""cat""}"'
    table.write_text(
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
        f"region_attributes\n0.png,9,{cell},0,0,{{}},{{}}\n"
    )
    with pytest.raises(DataError, match=r"via\.csv is CSV of VIA") as caught:
        read(table, tmp_path)
    assert "as JSON" in str(caught.value.hint)


def test_subsets_of_cvat_are_splits_and_numbers_have_the_names_of_the_classes_file(
    tmp_path: Path,
) -> None:
    put_images(tmp_path / "set", 8)
    images = "".join(
        f'<image name="{number}.png" subset="{"Train" if number < 4 else "Test"}">'
        f'<tag label="{number % 2}"/></image>'
        for number in range(8)
    )
    write_cvat(tmp_path / "set", images)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    options = ImportConfig(classes_file=tmp_path / "names.txt")
    report = import_source(
        tmp_path / "set", tmp_path / "dataset", options=options, progress=Silent()
    )
    assert report.labels == ("cat", "dog")
    assert sum(report.counts["test"].values()) == 4
