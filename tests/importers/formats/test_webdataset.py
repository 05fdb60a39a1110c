"""Tar shards of WebDataset: labels, splits, ranges, and what is damaged or missing."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.bounded import find_slice, read_bytes
from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.data.shards import write_shards
from cnnclf.data.store import open_pixels
from cnnclf.errors import DataError
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source, open_dataset
from cnnclf.importers.pipeline import ImportReport
from cnnclf.prediction.inputs import ImageInputs
from cnnclf.progress import Silent
from cnnclf.quality.image_facts import measure_images

RNG = np.random.default_rng(11)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def make_shard(path: Path, *, samples: int = 6, kind: str = "cls") -> Path:
    members = {}
    for index in range(samples):
        label = {
            "cls": str(index % 2).encode(),
            "txt": b"dog" if index % 2 else b"cat",
            "json": json.dumps({"label": "dog" if index % 2 else "cat", "id": 7}).encode(),
        }[kind]
        members[f"{path.stem}/{index:04}.png"] = png()
        members[f"{path.stem}/{index:04}.{kind}"] = label
    return write(path, members)


def read(source: object, tmp_path: Path) -> ImportReport:
    return import_source(str(source), tmp_path / "data", progress=Silent())


@pytest.mark.parametrize(
    ("kind", "labels"), [("cls", ("0", "1")), ("txt", ("cat", "dog")), ("json", ("cat", "dog"))]
)
def test_labels_of_every_kind(tmp_path: Path, kind: str, labels: tuple[str, ...]) -> None:
    report = read(make_shard(tmp_path / "set" / "a.tar", kind=kind), tmp_path)
    assert (report.format, report.labels, report.images) == ("webdataset", labels, 6)


def test_class_names_beside_the_shards(tmp_path: Path) -> None:
    make_shard(tmp_path / "set" / "a-0.tar")
    (tmp_path / "set" / "classnames.txt").write_text("wolf\nfox\n")
    assert read(tmp_path / "set", tmp_path).labels == ("fox", "wolf")


def test_names_of_classes_that_are_numbers_stay_what_they_are(tmp_path: Path) -> None:
    names = ("1", "2", "10")
    colors = {label: np.full((8, 8, 3), 20 * at, np.uint8) for at, label in enumerate(names)}
    for label, color in colors.items():
        (tmp_path / "source" / label).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(color + np.uint8(number))
            image.save(tmp_path / "source" / label / f"{number}.png")
    import_source(tmp_path / "source", tmp_path / "first", progress=Silent())
    first = load_dataset(tmp_path / "first")
    write_shards(first, tmp_path / "shards", progress=Silent())
    read(tmp_path / "shards", tmp_path)
    second = load_dataset(tmp_path / "data")
    found = [
        dict(zip(each.manifest.sha256, each.manifest.class_indices.tolist(), strict=True))
        for each in (first, second)
    ]
    assert first.labels == second.labels == names
    assert found[0] == found[1]


def test_a_number_without_a_class_name_is_lost(tmp_path: Path) -> None:
    make_shard(tmp_path / "set" / "a-0.tar")
    write(tmp_path / "set" / "a-1.tar", {"x.png": png(), "x.cls": b"2"})
    (tmp_path / "set" / "classnames.txt").write_text("wolf\nfox\n")
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images, report.failed) == (("fox", "wolf"), 6, 1)
    skipped = (tmp_path / "data" / "skipped.csv").read_text()
    assert "has label 2 of 2 class names" in skipped


def test_names_of_shards_tell_the_split(tmp_path: Path) -> None:
    for name in ("train-000000", "train-000001", "val-000000", "test-000000"):
        make_shard(tmp_path / "set" / f"{name}.tar")
    report = read(tmp_path / "set", tmp_path)
    counts = {split: sum(report.counts[split].values()) for split in report.counts}
    assert counts == {"train": 12, "val": 6, "test": 6}
    dataset = load_dataset(tmp_path / "data")
    assert all(find_slice(dataset.file(row)) for row in range(len(dataset)))
    assert not (tmp_path / "data" / "images").exists()


def test_a_range_of_shards(tmp_path: Path) -> None:
    for number in range(3):
        make_shard(tmp_path / f"part-{number:02}.tar")
    assert read(tmp_path / "part-{00..01}.tar", tmp_path).images == 12
    with pytest.raises(DataError, match=r"1 of 4 shards .* are missing: part-03.tar"):
        read(tmp_path / "part-{00..03}.tar", tmp_path / "other")


def test_a_range_is_imported_again_when_a_shard_changes(tmp_path: Path) -> None:
    for number in range(2):
        make_shard(tmp_path / f"part-{number}.tar")
    source = str(tmp_path / "part-{0..1}.tar")
    first = open_dataset(source, progress=Silent())
    assert open_dataset(source, progress=Silent()).directory == first.directory
    make_shard(tmp_path / "part-1.tar", samples=8)
    assert len(open_dataset(source, progress=Silent())) == 14


@pytest.mark.parametrize("place", ["set", "set/a.tar"])
def test_shards_are_imported_again_when_their_class_names_change(
    tmp_path: Path, place: str
) -> None:
    make_shard(tmp_path / "set" / "a.tar")
    for names in ("fox\nwolf", "elk\nsloth"):
        (tmp_path / "set" / "classnames.txt").write_text(names)
        labels = open_dataset(tmp_path / place, progress=Silent()).labels
        assert labels == tuple(names.split())


def test_a_shard_that_is_cut_loses_only_its_rest(tmp_path: Path) -> None:
    make_shard(tmp_path / "set" / "a.tar")
    whole = make_shard(tmp_path / "set" / "b.tar").read_bytes()
    (tmp_path / "set" / "b.tar").write_bytes(whole[: len(whole) // 2])
    report = read(tmp_path / "set", tmp_path)
    assert (6 < report.images < 12, report.failed) == (True, 1)
    skipped = (tmp_path / "data" / "skipped.csv").read_text()
    assert "b.tar" in skipped
    assert f"{report.images - 6} samples before it were read" in skipped


def test_samples_without_image_or_label_are_lost(tmp_path: Path) -> None:
    members = {
        f"{index}.{suffix}": content
        for index in range(4)
        for suffix, content in (("png", png()), ("cls", str(index % 2).encode()))
    }
    members |= {"7.png": png(), "8.cls": b"1", "9.png": b"no image", "9.cls": b"0"}
    report = read(write(tmp_path / "set" / "a.tar", members), tmp_path)
    assert (report.images, report.failed) == (4, 3)


def test_names_that_lead_out_stay_inside(tmp_path: Path) -> None:
    members = {}
    for index in range(4):
        members[f"../../x{index}.png"] = png()
        members[f"../../x{index}.json"] = json.dumps({"label": f"../{index % 2}"}).encode()
    report = read(write(tmp_path / "set" / "a.tar", members), tmp_path)
    assert report.images == 4
    dataset = load_dataset(tmp_path / "data")
    files = [dataset.file(row).resolve() for row in range(4)]
    assert all((tmp_path / "set" / "a.tar").resolve() in file.parents for file in files)


def test_other_archives_are_left_to_others(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {f"{label}/{n}.png": png() for label in "ab" for n in range(3)})
    assert read(tmp_path / "a.tar", tmp_path).format == "tar"


def read_all(directory: Path) -> list[bytes]:
    dataset = load_dataset(directory)
    contents = [read_bytes(dataset.file(row)) for row in range(len(dataset))]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    assert digests == dataset.manifest.sha256
    return contents


def test_images_stay_in_their_shards(tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "set" / "a.tar")
    before = (shard.read_bytes(), shard.stat().st_mtime_ns)
    read(tmp_path / "set", tmp_path)
    assert len(read_all(tmp_path / "data")) == 6
    assert (shard.read_bytes(), shard.stat().st_mtime_ns) == before
    dataset = load_dataset(tmp_path / "data")
    assert dataset.root == tmp_path / "set"
    assert dataset.manifest.paths[0].startswith("a.tar/")
    assert dataset.manifest.paths[0].endswith("/a/0000.png")
    pixels = open_pixels(dataset, InputSpec(8, 8), cache="none", progress=Silent())
    assert pixels.gather(np.arange(6)).shape == (6, 8, 8, 3)
    facts = measure_images(dataset, threads=1, progress=Silent())
    assert (facts.missing, facts.damaged) == ([], {})
    assert not facts.numbers["is_changed"].any()
    assert facts.numbers["changed_s"][0] == shard.stat().st_mtime
    write_shards(dataset, tmp_path / "again", progress=Silent())
    found = list(ImageInputs([str(dataset.file(0)), str(tmp_path / "data")]).find())
    assert [each.error for each in found] == [""] * 7


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda shard: shard.rename(shard.with_name("b.tar")), "No such file or directory"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:2000]), "a.tar ends before it"),
        (make_shard, "its content has changed since the import"),
    ],
)
def test_shards_that_are_moved_cut_or_changed_are_noticed(
    tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    shard = make_shard(tmp_path / "set" / "a.tar")
    read(tmp_path / "set", tmp_path)
    change(shard)
    dataset = load_dataset(tmp_path / "data")
    pixels = open_pixels(dataset, InputSpec(8, 8), cache="ram", progress=Silent())
    assert reason in pixels.failed[5]
    facts = measure_images(dataset, threads=1, progress=Silent())
    assert 5 in facts.missing or 5 in facts.damaged or facts.numbers["is_changed"][5]


@pytest.mark.parametrize("packed", [True, False])
def test_compressed_shards_and_copies_become_one_file(tmp_path: Path, packed: bool) -> None:
    shard = make_shard(tmp_path / "set" / "train-0.tar", kind="txt")
    if packed:
        shard.with_suffix(".tar.gz").write_bytes(gzip.compress(shard.read_bytes()))
        shard.unlink()
    options = ImportConfig(copy_images=not packed)
    report = import_source(tmp_path / "set", tmp_path / "data", options=options, progress=Silent())
    assert any("train-0.tar.gz" in note and "compressed" in note for note in report.notes) == packed
    shutil.rmtree(tmp_path / "set")
    assert len(read_all(tmp_path / "data")) == 6
    assert [path.name for path in (tmp_path / "data" / "images").iterdir()] == ["samples.tar"]
    with tarfile.open(tmp_path / "data" / "images" / "samples.tar") as archive:
        assert archive.getnames()[0] == "train/cat/0000000-0000.png"


def test_a_sparse_member_is_no_image(tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "set" / "a.tar")
    content = bytearray(shard.read_bytes())
    header = tarfile.TarInfo.frombuf(bytes(content[:512]), "utf-8", "strict")
    header.type = tarfile.GNUTYPE_SPARSE
    content[:512] = header.tobuf(tarfile.GNU_FORMAT)
    shard.write_bytes(content)
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, report.failed) == (5, 1)
