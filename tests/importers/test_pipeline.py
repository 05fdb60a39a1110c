import csv
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import CnnclfError, DataError, DeviceError, RunError, UsageError
from cnnclf.importers import ImportReport, import_source, pipeline
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent


def draw(path: Path, seed: int, *, size: tuple[int, int] = (6, 5), **options: object) -> None:
    """Write an image whose pixels follow from the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def draw_classes(source: Path, counts: dict[str, int]) -> Path:
    """Write different images into class folders."""
    seed = 0
    for label, count in counts.items():
        for number in range(count):
            seed += 1
            draw(source / label / f"{number}.png", seed)
    return source


def run(source: Path, out: Path, **options: object) -> tuple[ImportReport, Dataset, Silent]:
    progress = Silent()
    report = import_source(
        source,
        out,
        options=ImportConfig(**options),
        progress=progress,
    )
    return report, load_dataset(out), progress


def totals(report: ImportReport) -> dict[str, int]:
    return {split: sum(counts.values()) for split, counts in report.counts.items()}


def split_of(dataset: Dataset) -> dict[str, int]:
    manifest = dataset.manifest
    return dict(zip(manifest.paths, manifest.splits.tolist(), strict=True))


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_class_folders_become_a_dataset(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"10": 20, "2": 20})
    before = tree(tmp_path)
    report, dataset, progress = run(source, tmp_path / "data")
    assert dataset.labels == report.labels == ("2", "10")
    assert totals(report) == {"train": 28, "val": 6, "test": 6}
    assert report.counts == dataset.counts()
    assert (report.images, report.skipped, report.repeats) == (40, 0, 0)
    assert report.fingerprint == dataset.fingerprint
    assert dataset.root == source
    assert dataset.file(0) == source / "2" / "0.png"
    assert dataset.manifest.widths.tolist() == [6] * 40
    assert dataset.manifest.heights.tolist() == [5] * 40
    assert set(dataset.manifest.modes) == {"RGB"}
    assert tree(tmp_path / "data") == [
        "croissant.json",
        "dataset.json",
        "manifest.csv",
        "skipped.csv",
    ]
    assert [path for path in tree(tmp_path) if not path.startswith("data")] == before
    assert progress.notes[0] == f"{source}: read as class-folders, because {report.reason}"
    assert dataset.source["format"] == "class-folders"
    assert dataset.source["reason"] == report.reason
    assert dataset.source["path"] == str(source)
    assert progress.warnings == []


def test_manifest_has_the_columns_promised(tmp_path: Path) -> None:
    draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    run(tmp_path / "photos", tmp_path / "data")
    with (tmp_path / "data" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["path", "label", "split", "width", "height", "mode", "sha256", "group", "note"]
    assert list(rows[0]) == columns
    assert len(rows[0]["sha256"]) == 64
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert description["version"] == 1


def test_the_same_import_gives_the_same_dataset(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 30, "b": 30})
    _, first, _ = run(source, tmp_path / "one", seed=3, threads=1)
    _, second, _ = run(source, tmp_path / "two", seed=3, threads=5)
    _, third, _ = run(source, tmp_path / "three", seed=4)
    assert first.fingerprint == second.fingerprint != third.fingerprint


def test_bad_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 4, "b": 4})
    (source / "a" / "empty.png").write_bytes(b"")
    (source / "b" / "text.jpg").write_text("no image")
    (source / "notes.txt").write_text("about these images")
    for name in ("1.png", "2.png"):
        draw(source / "lost" / name, 0)
        (source / "lost" / name).write_bytes(b"\x89PNG nothing")
    report, dataset, progress = run(source, tmp_path / "data")
    with (tmp_path / "data" / "skipped.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "reason"]
    assert {path for path, _ in rows[1:]} == {
        "a/empty.png",
        "b/text.jpg",
        "lost/1.png",
        "lost/2.png",
        "notes.txt",
    }
    assert all(reason for _, reason in rows)
    assert report.skipped == sum(report.skipped_reasons.values()) == 5
    assert report.images == len(dataset) == 8
    assert dataset.labels == ("a", "b")
    assert any("lost (2 files)" in text for text in progress.warnings)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_files_without_permission_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    open_ = os.open

    def guarded(path: str, flags: int, *arguments: int, **options: int) -> int:
        if str(path).endswith("a/1.png"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", guarded)  # root may read everything
    report, _, _ = run(source, tmp_path / "data")
    assert report.skipped_reasons == {"cannot be read: Permission denied": 1}


def test_copies_make_the_dataset_complete(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    (source / "a" / "bad.png").write_bytes(b"bad")
    _, dataset, _ = run(source, tmp_path / "data", copy_images=True)
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["root"] == "images"
    assert not (dataset.root / "a" / "bad.png").exists()
    for row in range(6):
        copy, original = dataset.file(row), source / dataset.manifest.paths[row]
        assert copy.read_bytes() == original.read_bytes()
        assert copy.stat().st_ino != original.stat().st_ino
    (tmp_path / "data").rename(tmp_path / "moved")
    assert load_dataset(tmp_path / "moved").file(0).exists()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only on POSIX")
@pytest.mark.parametrize("copy", [False, True])
def test_odd_names_survive(tmp_path: Path, copy: bool) -> None:
    source = draw_classes(tmp_path / "photos", {"a, b": 3, "Käse\n\r": 3})
    for number, name in enumerate([b"\xff\xe9", b' "x"', "数".encode()]):
        draw(source / os.fsdecode(b"no \xff utf8") / f"{os.fsdecode(name)}.png", 100 + number)
    _, dataset, _ = run(source, tmp_path / "data", copy_images=copy)
    assert set(dataset.labels) == {"a, b", "Käse\n\r", os.fsdecode(b"no \xff utf8")}
    assert all(dataset.file(row).is_file() for row in range(len(dataset)))


def test_out_inside_the_source_is_no_class(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 5, "b": 5})
    _, first, progress = run(source, source / "data", copy_images=True)
    assert first.labels == ("a", "b")
    assert len(first) == 10
    _, again, progress = run(source, source / "again")
    assert again.labels == ("a", "b")
    assert len(again) == 10
    assert any("datasets and runs of cnnclf skipped: data" in n for n in progress.notes)


def test_an_empty_folder_may_become_the_dataset(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    (tmp_path / "data").mkdir()
    _, dataset, _ = run(source, tmp_path / "data")
    assert len(dataset) == 6


def test_an_empty_folder_that_cannot_be_replaced_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    (tmp_path / "data").mkdir()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == tmp_path / "data":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    _, dataset, _ = run(source, tmp_path / "data", copy_images=True)
    assert len(dataset) == 6
    assert dataset.file(0).is_file()


@pytest.mark.parametrize("kind", ["dataset", "folder", "file", "source"])
def test_what_is_there_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    out = source if kind == "source" else tmp_path / "data"
    if kind == "dataset":
        run(source, out)
    elif kind == "folder":
        draw(out / "mine.png", 0)
    elif kind == "file":
        out.write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="cannot make a dataset") as caught:
        run(source, out)
    assert str(out) in caught.value.message
    assert "--out" in caught.value.hint
    assert tree(tmp_path) == before


def test_duplicates_stay_together(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 20, "b": 20})
    original = Image.open(source / "a" / "0.png")
    for number in range(6):  # other bytes, same pixels
        original.save(source / "a" / f"again {number}.png", compress_level=number)
    report, dataset, progress = run(source, tmp_path / "data")
    splits = split_of(dataset)
    assert len({splits["a/0.png"], *(splits[f"a/again {i}.png"] for i in range(6))}) == 1
    assert report.repeats == 6
    assert any("6 duplicate images" in text for text in progress.notes)
    assert progress.warnings == []


@pytest.mark.parametrize("copy", [False, True])
def test_large_images_that_look_alike_are_compared_in_full(tmp_path: Path, copy: bool) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 20, "b": 20})
    shared = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for number in range(40):
        pixels = shared.copy()
        pixels[199, 299] = number // 2  # a corner that no sample holds; each image twice
        Image.fromarray(pixels).save(
            source / "a" / f"large {number}.png", compress_level=1 + number % 2
        )
    report, dataset, _ = run(source, tmp_path / "data", copy_images=copy)
    assert report.repeats == 20
    splits = split_of(dataset)
    pairs = [(splits[f"a/large {n}.png"], splits[f"a/large {n + 1}.png"]) for n in range(0, 40, 2)]
    assert all(first == second for first, second in pairs)
    assert len(set(pairs)) == 3


def test_one_image_with_two_labels_is_reported(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 20, "b": 20})
    draw(source / "b" / "0.png", 1)  # that is a/0.png
    _, dataset, progress = run(source, tmp_path / "data")
    splits = split_of(dataset)
    assert splits["a/0.png"] == splits["b/0.png"]
    assert progress.warnings == ["1 image with different labels: a/0.png (a) = b/0.png (b)"]


def test_small_classes_are_reported(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"one": 1, "two": 2, "many": 20})
    report, _, progress = run(source, tmp_path / "data")
    assert report.counts["train"] == {"many": 14, "one": 1, "two": 1}
    assert report.counts["test"] == {"many": 3, "one": 0, "two": 1}
    assert report.counts["val"] == {"many": 3, "one": 0, "two": 0}
    told = "\n".join(progress.warnings)
    assert "none in test and val: one (1)" in told or "none in val and test: one (1)" in told
    assert "none in val: two (2)" in told


def test_labels_that_look_alike_are_reported(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"Cat": 3, "dog": 3})
    draw(source / "cat " / "1.png", 99)
    if len(list(source.iterdir())) < 3:
        pytest.skip("the file system does not tell such names apart")
    _, _, progress = run(source, tmp_path / "data")
    assert any("'Cat' and 'cat '" in text for text in progress.warnings)


@pytest.mark.parametrize(("images", "is_said"), [(1, True), (2, False)])
def test_nearly_as_many_labels_as_images_are_warned_of(
    tmp_path: Path, images: int, is_said: bool
) -> None:
    source = draw_classes(tmp_path / "photos", {f"{20 + n * 1.3:.1f}": images for n in range(10)})
    report, _, _ = run(source, tmp_path / "data")
    assert any("different labels, too few" in text for text in report.warnings) == is_said


def test_labels_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"caf\u00e9": 3, "cafe\u0301": 2, "tea": 3})
    (source / "cafe\u0301" / "bad.png").write_bytes(b"no image")
    report, _, _ = run(source, tmp_path / "data")
    assert report.labels == ("caf\u00e9", "tea")
    assert report.images == 8
    assert any("composed and decomposed" in text for text in report.notes)
    assert not any("excluded" in text for text in report.warnings)


def draw_splits(source: Path, counts: dict[str, int]) -> Path:
    for place, (split, count) in enumerate(counts.items()):
        for number in range(count):
            for label in ("a", "b"):
                seed = place * 10_000 + number * 2 + (label == "b")
                draw(source / split / label / f"{number}.png", seed)
    return source


def test_an_existing_split_is_kept(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"train": 5, "valid": 3, "test": 2})
    report, dataset, progress = run(source, tmp_path / "data")
    assert totals(report) == {"train": 10, "val": 6, "test": 4}
    assert report.split == "kept"
    names = {"train": 0, "valid": 1, "test": 2}
    splits = split_of(dataset)
    assert all(names[path.partition("/")[0]] == split for path, split in splits.items())
    assert any("split of the source is kept" in text for text in progress.notes)
    assert progress.warnings == []


def test_val_is_taken_from_train(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"train": 20, "test": 5})
    report, dataset, progress = run(source, tmp_path / "data")
    assert report.counts["train"] == {"a": 18, "b": 18}
    assert report.counts["val"] == {"a": 2, "b": 2}
    assert report.counts["test"] == {"a": 5, "b": 5}
    assert report.split == "kept, val from train"
    assert all(path.startswith("test") == (split == 2) for path, split in split_of(dataset).items())
    assert any("4 images (10 %) of train became val" in text for text in progress.notes)


def test_a_source_without_test_is_reported(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"train": 5, "val": 5})
    report, _, progress = run(source, tmp_path / "data")
    assert totals(report) == {"train": 10, "val": 10, "test": 0}
    [told] = [text for text in progress.warnings if "no test images" in text]
    assert "--split 0.7,0.15,0.15" in told


def test_train_alone_is_no_split(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"train": 20})
    report, _, progress = run(source, tmp_path / "data")
    assert totals(report) == {"train": 28, "val": 6, "test": 6}
    assert any("split again" in text for text in progress.notes)


def test_test_alone_can_be_evaluated(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"test": 20})
    report, _, progress = run(source, tmp_path / "data")
    assert totals(report) == {"train": 0, "val": 0, "test": 40}
    assert any("for evaluation only" in text for text in progress.warnings)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("1,0,0", "neither val nor test images: nothing will measure"),
        ("0.5,0,0.5", "no val images: the last epoch will count as the best"),
        ("0.5,0.5,0", "no test images: models will be evaluated on val"),
    ],
)
def test_a_split_without_images_is_warned_of(tmp_path: Path, split: str, said: str) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 4, "b": 4})
    report, _, _ = run(source, tmp_path / "data", split=split)
    assert [text for text in report.warnings if said in text]


def test_the_user_may_overrule_the_split(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"train": 10, "test": 10})
    report, _, progress = run(source, tmp_path / "data", split=(0.5, 0.0, 0.5))
    assert totals(report) == {"train": 20, "val": 0, "test": 20}
    assert "--split replaces the split of the source" in progress.warnings


def test_leaks_across_an_existing_split_are_reported(tmp_path: Path) -> None:
    source = draw_splits(tmp_path / "photos", {"train": 10, "val": 5, "test": 5})
    for number in range(4):
        draw(source / "test" / "a" / f"leak {number}.png", number * 2)
    report, dataset, progress = run(source, tmp_path / "data")
    assert totals(report) == {"train": 20, "val": 10, "test": 14}
    assert split_of(dataset)["test/a/leak 0.png"] == 2
    [told] = progress.warnings
    assert told.startswith("4 images of test also in train")
    assert "test/a/leak 0.png = train/a/0.png" in told
    assert told.endswith("and 1 more")


def table_importer(records: list[Record], root: Path, **listing: object) -> Importer:
    def read(source: Source, job: ImportJob) -> Listing:
        return Listing(root=root, records=iter(records), **listing)  # type: ignore[arg-type]

    return Importer("given", "records of a test", lambda source: "it is a test", read)


def run_records(tmp_path: Path, importer: Importer, **options: object) -> tuple[Dataset, Silent]:
    progress = Silent()
    pipeline.run_import(
        Source.of(tmp_path),
        tmp_path / "data",
        importer=importer,
        reason="it is a test",
        options=ImportConfig(**options),
        progress=progress,
    )
    return load_dataset(tmp_path / "data"), progress


def test_groups_stay_together(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 30, "b": 30})
    paths = [f"{label}/{number}.png" for label in "ab" for number in range(30)]
    records = [Record(path, path[0], group=f"film {i % 7}") for i, path in enumerate(paths)]
    dataset, _ = run_records(tmp_path, table_importer(records, source))
    for group in set(dataset.manifest.groups):
        rows = [i for i, other in enumerate(dataset.manifest.groups) if other == group]
        assert len(set(dataset.manifest.splits[rows].tolist())) == 1
    assert set(dataset.manifest.splits.tolist()) == {0, 1, 2}


def test_rows_without_split_beside_others_are_reported(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 6, "b": 6})
    records = [
        Record(f"{label}/{number}.png", label, split=split, group="g" if number < 2 else "")
        for label in "ab"
        for number, split in enumerate(["train", "val", "test", "train", "", ""])
    ]
    dataset, progress = run_records(tmp_path, table_importer(records, source))
    assert np.bincount(dataset.manifest.splits + 1).tolist() == [4, 4, 2, 2]
    assert any("4 images without a split" in text for text in progress.warnings)
    assert any("1 group in more than one split" in t for t in progress.warnings)


def test_labels_given_by_the_source_keep_their_order(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    records = [Record(f"{label}/{number}.png", label) for label in "ab" for number in range(3)]
    importer = table_importer(records, source, labels=("z", "b", "a"))
    dataset, progress = run_records(tmp_path, importer)
    assert dataset.labels == ("z", "b", "a")
    assert dataset.manifest.class_indices.tolist() == [2, 2, 2, 1, 1, 1]
    assert "labels without images: z" in progress.warnings


def test_labels_missing_in_the_classes_file_are_reported(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3, "c": 3})
    classes = tmp_path / "classes.txt"
    classes.write_text("b\na\n")
    with pytest.raises(DataError, match="classes file: c"):
        run(source, tmp_path / "data", classes_file=classes)
    classes.write_text("b\nc\na\n")
    _, dataset, _ = run(source, tmp_path / "data", classes_file=classes)
    assert dataset.labels == ("b", "c", "a")


def test_images_unpacked_into_the_dataset_move_with_it(tmp_path: Path) -> None:
    def read(source: Source, job: ImportJob) -> Listing:
        draw_classes(job.unpack_dir / "deep", {"a": 3, "b": 3})
        records = (Record(f"{label}/{n}.png", label) for label in "ab" for n in range(3))
        return Listing(root=job.unpack_dir / "deep", records=records, unpacked=True)

    importer = Importer("packed", "a test", lambda source: None, read)
    dataset, _ = run_records(tmp_path, importer, copy_images=True)
    assert dataset.root == tmp_path / "data" / "images" / "deep"
    assert dataset.file(0).is_file()


def test_paths_that_lead_out_are_copied_inside(tmp_path: Path) -> None:
    draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    root = tmp_path / "list"
    root.mkdir()
    records = [Record(f"../photos/{label}/{n}.png", label) for label in "ab" for n in range(3)]
    dataset, _ = run_records(tmp_path, table_importer(records, root), copy_images=True)
    assert all(".." not in path for path in dataset.manifest.paths)
    assert all(dataset.file(row).is_file() for row in range(6))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({}, "is empty"),
        ({"a": 3}, "3 images of 'a' only"),
        ({"a": -2, "b": -1}, "3 files skipped, the first is a/0.png"),
        ({"a": 3, "b": -2}, "3 images of 'a' only"),
    ],
)
def test_sources_that_cannot_be_used_are_explained(
    tmp_path: Path, counts: dict[str, int], told: str
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    draw_classes(source, {label: count for label, count in counts.items() if count > 0})
    for label, count in counts.items():
        for number in range(-count):
            (source / label).mkdir(exist_ok=True)
            (source / label / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        run(source, tmp_path / "data")
    assert told in caught.value.message
    assert str(source) in caught.value.message
    assert caught.value.hint
    assert tree(tmp_path) == sorted(["photos", *(f"photos/{p}" for p in tree(source))])


def test_bad_fractions_are_refused(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    with pytest.raises(UsageError, match="add up to 1"):
        run(source, tmp_path / "data", split=(0.5, 0.1, 0.1))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), DeviceError),
        (DataError("damaged in the middle"), DataError),
    ],
)
def test_nothing_is_left_of_a_broken_import(
    tmp_path: Path, error: BaseException, kind: type[BaseException]
) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 20, "b": 20})
    before = tree(tmp_path)

    def records() -> Iterator[Record]:
        for number in range(20):
            yield Record(f"a/{number}.png", "a")
        raise error

    importer = table_importer([], source)._replace(
        read=lambda *_, **__: Listing(root=source, records=records())
    )
    with pytest.raises(kind):
        run_records(tmp_path, importer, copy_images=True)
    assert tree(tmp_path) == before


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    source = draw_classes(tmp_path / "photos", {"a": 3, "b": 3})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CnnclfError) as caught:
        run(source, tmp_path / "file" / "data")
    assert isinstance(caught.value, RunError | DataError)
    assert str(tmp_path / "file" / "data") in caught.value.message
