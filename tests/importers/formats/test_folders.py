import os
from pathlib import Path

import pytest

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import save_dataset
from cnnclf.errors import DataError
from cnnclf.importers.formats.folders import FOLDER_IMPORTERS, choose_folder_importer
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent


def put(root: Path, *names: str) -> Path:
    """Make files below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return root


def recognize(source: Path) -> tuple[str, str] | None:
    for importer in FOLDER_IMPORTERS:
        reason = importer.recognize(Source.of(source))
        if reason is not None:
            return importer.name, reason
    return None


def read(source: Path, name: str = "class-folders") -> tuple[Listing, list[Record]]:
    [importer] = [importer for importer in FOLDER_IMPORTERS if importer.name == name]
    job = ImportJob(source / ".out.importing" / "images", ImportConfig(), Silent())
    listing = importer.read(Source.of(source), job)
    return listing, list(listing.records)


def paths(records: list[Record]) -> list[str]:
    return [record.path for record in records]


def test_class_folders_are_read_in_natural_order(tmp_path: Path) -> None:
    put(tmp_path, "10/b.png", "2/10.png", "2/9.png", "2/deep/er/1.png", "10/A.png")
    found = recognize(tmp_path)
    assert found is not None
    assert found[0] == "class-folders"
    assert "2, 10" in found[1]
    listing, records = read(tmp_path)
    assert paths(records) == ["2/9.png", "2/10.png", "2/deep/er/1.png", "10/A.png", "10/b.png"]
    assert [record.label for record in records] == ["2", "2", "2", "10", "10"]
    assert {record.split for record in records} == {""}
    assert (listing.root, listing.labels, listing.unpacked) == (tmp_path, None, False)
    assert listing.total == 5
    assert listing.skipped == []
    assert listing.remarks == ["sub-folders joined into their class: 2 (deep)"]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("train", "valid", "test"), ["train", "valid", "test"]),
        (("TESTING", "Training", "Validation"), ["Training", "Validation", "TESTING"]),
        (("test", "train"), ["train", "test"]),
        (("train",), ["train"]),
    ],
)
def test_split_folders_are_read(tmp_path: Path, names: tuple[str, ...], order: list[str]) -> None:
    for name in names:
        put(tmp_path, f"{name}/cat/1.png", f"{name}/dog/1.png")
    found = recognize(tmp_path)
    assert found is not None
    assert found[0] == "split-folders"
    _, records = read(tmp_path, "split-folders")
    assert paths(records) == [f"{name}/{label}/1.png" for name in order for label in ("cat", "dog")]
    assert [record.label for record in records] == ["cat", "dog"] * len(names)
    assert list(dict.fromkeys(record.split for record in records)) == [
        {"tr": "train", "va": "val", "te": "test"}[name[:2].lower()] for name in order
    ]


def test_wrapping_folders_are_gone_through(tmp_path: Path) -> None:
    put(tmp_path, "photos/README.txt", "photos/all/cat/1.png", "photos/all/dog/1.png")
    found = recognize(tmp_path)
    assert found is not None
    assert found[0] == "class-folders"
    assert str(tmp_path / "photos" / "all") in found[1]
    listing, records = read(tmp_path)
    assert [(record.path, record.label) for record in records] == [
        ("photos/all/cat/1.png", "cat"),
        ("photos/all/dog/1.png", "dog"),
    ]
    assert listing.unneeded == [("photos/README.txt", "not in a class folder")]
    assert not listing.skipped
    put(tmp_path / "packed", "set/train/cat/1.png", "set/test/cat/1.png")
    found = recognize(tmp_path / "packed")
    assert found is not None
    assert found[0] == "split-folders"


def test_a_chain_of_single_folders_is_one_class(tmp_path: Path) -> None:
    put(tmp_path, "cats/indoor/1.png")
    assert recognize(tmp_path) is not None
    _, records = read(tmp_path)
    assert [record.label for record in records] == ["cats"]


def test_hidden_empty_and_own_folders_are_no_classes(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png", ".git/x", "__MACOSX/y", "cat/.DS_Store", "Thumbs.db")
    put(tmp_path, "runs/one/plan.json", "runs/one/run.json", "runs/one/curves.png")
    put(tmp_path, ".out.importing/images/1.png")
    (tmp_path / "bird").mkdir()
    (tmp_path / "data").mkdir()
    save_dataset(tmp_path / "data", [], labels=(), root="images", source={})
    listing, records = read(tmp_path)
    assert paths(records) == ["cat/1.png", "dog/1.png"]
    assert listing.skipped == []
    told = "\n".join(listing.remarks)
    assert "hidden folders skipped: .git, __MACOSX" in told
    assert "empty folders skipped: bird, runs" in told
    assert "datasets and runs of cnnclf skipped: data, runs/one" in told
    assert "2 hidden files skipped" in told
    assert "importing" not in told


def test_files_without_class_are_skipped_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/1.png", "test/2.png", "labels.csv")
    listing, records = read(tmp_path, "split-folders")
    assert len(records) == 2
    assert [path for path, _ in listing.unneeded] == ["labels.csv", "test/1.png", "test/2.png"]
    assert not listing.skipped
    [warning] = listing.warnings
    assert warning.startswith("test holds 2 files without a label")


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put(tmp_path / "far", "1.png")
    source = put(tmp_path / "source", "dog/1.png", "dog/sub/2.png")
    (source / "cat").symlink_to(tmp_path / "far")
    (source / "dog" / "sub" / "up").symlink_to(source)
    (source / "dog" / "gone").symlink_to(source / "nowhere")
    (source / "dog" / "self").symlink_to("self")
    (source / "dog" / "zero").symlink_to("/dev/zero")
    os.mkfifo(source / "dog" / "pipe")
    assert recognize(source) is not None
    listing, records = read(source)
    assert paths(records) == ["cat/1.png", "dog/1.png", "dog/sub/2.png"]
    reasons = dict([*listing.skipped, *listing.unneeded])
    assert [path for path, _ in listing.unneeded] == ["dog/sub/up"]
    assert set(reasons) == {"dog/gone", "dog/pipe", "dog/self", "dog/sub/up", "dog/zero"}
    assert "leads back" in reasons["dog/sub/up"]
    assert "leads nowhere" in reasons["dog/gone"]
    assert reasons["dog/pipe"] == reasons["dog/zero"] == "not a regular file"


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_the_source_is_no_class(tmp_path: Path) -> None:
    source = put(tmp_path / "source", "cat/1.png", "dog/1.png")
    (source / "self").symlink_to(".")
    (source / "cat" / "up").symlink_to("..")
    listing, records = read(source)
    assert paths(records) == ["cat/1.png", "dog/1.png"]
    reason = "the link leads back to a folder above it"
    assert listing.unneeded == [("cat/up", reason), ("self", reason)]
    assert listing.remarks == []


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="/proc of Linux")
def test_virtual_file_systems_are_not_entered(tmp_path: Path) -> None:
    source = put(tmp_path / "source", "cat/1.png", "dog/1.png", "dog/sub/2.png")
    (source / "owl").symlink_to("/proc")
    (source / "dog" / "sub" / "processes").symlink_to("/proc/self/task")
    (source / "dog" / "indirect").symlink_to(source / "owl")
    listing, records = read(source)
    assert paths(records) == ["cat/1.png", "dog/1.png", "dog/sub/2.png"]
    assert sorted(path for path, _ in listing.skipped) == [
        "dog/indirect",
        "dog/sub/processes",
        "owl",
    ]
    assert {reason for _, reason in listing.skipped} == {
        "on a virtual file system, which is not searched"
    }


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_locked_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png", "dog/locked/1.png")
    scandir = os.scandir

    def guarded(path: str) -> "os._ScandirIterator[str]":
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)  # root may read everything
    listing, records = read(tmp_path)
    assert paths(records) == ["cat/1.png", "dog/1.png"]
    assert listing.skipped == [("dog/locked", "the folder cannot be read: Permission denied")]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only on POSIX")
def test_names_that_are_no_utf8_come_through(tmp_path: Path) -> None:
    put(tmp_path, *(os.fsdecode(name) for name in (b"cat/\xe9 .png", b"d\xffg/1.png")))
    _, records = read(tmp_path)
    assert [os.fsencode(record.path) for record in records] == [
        b"cat/\xe9 .png",
        b"d\xffg/1.png",
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "is empty"),
        (("1.png", "2.png"), "has no class folders, only 2 files"),
        (("train/1.png", "test/1.png"), "train, test hold only files"),
        (
            ("train/a/1.png", "test/a/1.png", "extra/b/1.png"),
            "mixes split folders (train, test) and other folders (extra)",
        ),
    ],
)
def test_a_folder_of_another_layout_is_explained(
    tmp_path: Path, names: tuple[str, ...], told: str
) -> None:
    put(tmp_path, *names)
    assert recognize(tmp_path) is None
    with pytest.raises(DataError) as caught:
        choose_folder_importer(tmp_path, ImportConfig())
    error = caught.value
    assert told in error.message or told.replace("train, test", "test, train") in error.message
    assert str(tmp_path) in error.message
    assert error.hint


def test_the_format_can_be_forced(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/1.png", "extra/b/1.png")
    listing, records = read(tmp_path, "split-folders")
    assert paths(records) == ["train/a/1.png", "test/a/1.png"]
    assert listing.warnings == ["1 file in extra skipped: not a folder of a split"]
    _, records = read(tmp_path, "class-folders")
    assert [record.label for record in records] == ["extra", "test", "train"]
    put(tmp_path / "plain", "a/1.png", "b/1.png")
    with pytest.raises(DataError):
        read(tmp_path / "plain", "split-folders")
    put(tmp_path / "loose", "1.png")
    with pytest.raises(DataError, match="no class folders"):
        read(tmp_path / "loose")


def test_folders_named_like_splits_among_classes_are_classes(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "plane/1.png", "car/1.png")
    found = recognize(tmp_path)
    assert found is not None
    assert found[0] == "class-folders"


@pytest.mark.parametrize("head", ["", "path,label\n"])
def test_a_list_of_labels_that_contradicts_itself_is_named_with_both_lines(
    head: str, tmp_path: Path
) -> None:
    put(tmp_path, "train/a/1.png", "train/b/2.png", "val/images/3.png", "val/images/4.png")
    rows = ["3.png,a", "4.png,b", "3.png,b", "4.png,b"]
    (tmp_path / "val/labels.csv").write_text(head + "".join(f"{row}\n" for row in rows))
    listing, records = read(tmp_path, "split-folders")
    assert [each.label for each in records if each.split == "val"] == ["a", "b"]
    first = 1 + bool(head)
    both = f"lines {first} and {first + 2}"
    reason = f"val/labels.csv: {both}: give the file two labels, the first counts"
    assert listing.skipped == [("val/images/3.png", reason)]
    copy = f"1 row repeats an earlier one, and each image counts once: line {first + 3}"
    assert f"val/labels.csv: {copy}" in listing.remarks


def test_the_folders_of_other_splits_are_named(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/2.png", "valid/a/3.png", "valid/b/4.png", "test/5.png")
    put(tmp_path, "dogs_test/a/1.png", "dogs_test/b/2.png")
    remark = f"valid beside it is not read: cnnclf import {tmp_path} reads all, by their splits"
    assert remark in read(tmp_path / "train")[0].remarks
    other = tmp_path / "dogs_test"
    assert not any("not read" in each for each in read(other)[0].remarks)
    whole, _ = read(tmp_path, "split-folders")
    assert not any("not read" in each for each in whole.remarks)


def test_a_folder_of_notes_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "images/a/1.png", "images/b/2.png", "meta/train.txt", "meta/classes.json")
    listing, records = read(tmp_path)
    assert [record.label for record in records] == ["a", "b"]
    assert [path for path, _ in listing.unneeded] == ["meta/classes.json", "meta/train.txt"]
    put(tmp_path / "only", "a/1.txt", "b/2.txt")
    assert recognize(tmp_path / "only") is not None, "of nothing else they may be anything"
