import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers import IMPORTERS
from cnnclf.importers.archives import packed
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

ZIP, TAR = (importer for importer in IMPORTERS if importer.name in {"zip", "tar"})

Content = dict[str, bytes]
NAMES = st.text("aäb1 .-_\u4e2d", min_size=1, max_size=8).filter(lambda name: name.strip("."))
IMAGES = {"pets/cat/1.png": b"one", "pets/cat/2.png": b"two" * 500, "pets/dog/1.png": b""}


def make_zip(path: Path, content: Content) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, content: Content, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS: list[tuple[str, Importer, Callable[[Path, Content], Path]]] = [
    ("a.zip", ZIP, make_zip),
    ("a.tar", TAR, make_tar),
    ("a.tar.gz", TAR, lambda path, content: make_tar(path, content, "w:gz")),
    ("a.tar.bz2", TAR, lambda path, content: make_tar(path, content, "w:bz2")),
    ("a.tar.xz", TAR, lambda path, content: make_tar(path, content, "w:xz")),
]
every_kind = pytest.mark.parametrize(("name", "importer", "make"), MAKERS)
zip_and_tar = pytest.mark.parametrize(("name", "importer", "make"), MAKERS[:2])


def read(importer: Importer, source: Path) -> tuple[Listing, list[Record]]:
    out = source.parent / "out"
    out.mkdir(exist_ok=True)
    job = ImportJob(out / "images", ImportConfig(threads=2), Silent())
    listing = importer.read(Source.of(source), job)
    return listing, list(listing.records)


def files_below(folder: Path) -> Content:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@every_kind
def test_what_is_unpacked_is_what_was_in_the_archive(
    tmp_path: Path, name: str, importer: Importer, make: Callable[[Path, Content], Path]
) -> None:
    source = make(tmp_path / name, IMAGES)
    reason = importer.recognize(Source.of(source))
    assert reason is not None
    assert "zip" in reason or "tar" in reason
    listing, records = read(importer, source)
    assert files_below(tmp_path / "out" / "images") == IMAGES
    assert listing.unpacked
    assert {r.path: r.label for r in records} == {name: name.split("/")[1] for name in IMAGES}
    assert all((listing.root / record.path).is_file() for record in records)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.dictionaries(
        st.tuples(NAMES, NAMES).map("/".join),
        st.binary(max_size=2000),
        min_size=1,
        max_size=6,
    ),
    kind=st.sampled_from(MAKERS),
)
def test_any_content_comes_out_or_is_named(
    tmp_path_factory: pytest.TempPathFactory,
    content: Content,
    kind: tuple[str, Importer, Callable[[Path, Content], Path]],
) -> None:
    folder = tmp_path_factory.mktemp("any")
    name, importer, make = kind
    source = make(folder / name, content)
    try:
        listing, _ = read(importer, source)
    except DataError as error:
        assert str(source) in error.message  # noqa: PT017
        assert not (folder / "out" / "images").exists() or "hold no files" in str(error)  # noqa: PT017
        return
    there = files_below(folder / "out" / "images")
    assert there.items() <= content.items()
    missing = {path for path in content if path not in there}
    assert all("/._" in path for path in missing), (missing, listing.skipped)


@zip_and_tar
@pytest.mark.parametrize(
    "evil", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:/evil.png", "C:\\evil.png"]
)
def test_a_name_that_leads_out_refuses_the_archive(
    tmp_path: Path,
    name: str,
    importer: Importer,
    make: Callable[[Path, Content], Path],
    evil: str,
) -> None:
    source = make(tmp_path / name, {**IMAGES, evil: b"x"})
    before = files_below(tmp_path)
    with pytest.raises(DataError, match="outside the folder") as caught:
        read(importer, source)
    assert "evil.png" in caught.value.message
    assert files_below(tmp_path) == before


def test_backslashes_in_a_zip_are_folders_and_lead_nowhere(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "a.zip", {"a\\cat\\1.png": b"1", "a\\dog\\2.png": b"2"})
    _, records = read(ZIP, source)
    assert [record.label for record in records] == ["cat", "dog"]
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="outside the folder"):
        read(ZIP, make_zip(tmp_path / "b" / "b.zip", {"a\\..\\..\\1.png": b"1"}))


def test_links_and_devices_in_a_tar_are_listed_and_not_made(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    source = make_tar(tmp_path / "a.tar", IMAGES)
    with tarfile.open(source, "a") as archive:
        for name, kind, target in [
            ("pets/cat/soft.png", tarfile.SYMTYPE, str(secret)),
            ("pets/cat/hard.png", tarfile.LNKTYPE, "pets/cat/1.png"),
            ("pets/cat/pipe.png", tarfile.FIFOTYPE, ""),
            ("pets/cat/disk.png", tarfile.BLKTYPE, ""),
            ("pets/link", tarfile.SYMTYPE, str(tmp_path)),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        info = tarfile.TarInfo("pets/link/secret.png")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    listing, _ = read(TAR, source)
    assert secret.read_bytes() == b"secret"
    assert {path for path, _ in listing.skipped} == {
        "pets/cat/soft.png",
        "pets/cat/hard.png",
        "pets/cat/pipe.png",
        "pets/cat/disk.png",
        "pets/link",
    }
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    # The folder behind the name of the link is a plain one.
    assert (tmp_path / "out/images/pets/link/secret.png").read_bytes() == b"evil"


def test_a_link_in_a_zip_is_listed_and_not_made(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "a.zip", IMAGES)
    info = zipfile.ZipInfo("pets/cat/link.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    listing, _ = read(ZIP, source)
    assert listing.skipped == [("pets/cat/link.png", "a link; links in archives are not followed")]
    assert files_below(tmp_path / "out" / "images") == IMAGES


@zip_and_tar
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_names_that_cannot_all_be_files_are_listed(
    tmp_path: Path, name: str, importer: Importer, make: Callable[[Path, Content], Path]
) -> None:
    long = f"pets/cat/{'x' * 300}.png"
    source = make(tmp_path / name, {**IMAGES, "pets/cat/1.png/deep.png": b"", long: b""})
    if importer is ZIP:
        with zipfile.ZipFile(source, "a") as archive:
            archive.writestr("pets/cat/1.png", b"another")
    else:
        with tarfile.open(source, "a") as archive:
            info = tarfile.TarInfo("pets/cat/1.png")
            archive.addfile(info, io.BytesIO(b""))
    listing, records = read(importer, source)
    reasons = dict(listing.skipped)
    assert "another file of this name" in reasons["pets/cat/1.png"]
    assert "name" in reasons["pets/cat/1.png/deep.png"]
    assert "too long" in reasons[long]
    assert len(records) == 3
    assert (tmp_path / "out/images/pets/cat/1.png").read_bytes() == b"one"


@zip_and_tar
def test_what_systems_leave_behind_is_skipped(
    tmp_path: Path, name: str, importer: Importer, make: Callable[[Path, Content], Path]
) -> None:
    left = {"__MACOSX/pets/cat/._1.png": b"", "pets/.DS_Store": b"", "pets/cat/._2.png": b""}
    source = make(tmp_path / name, {**IMAGES, **left})
    listing, records = read(importer, source)
    assert len(records) == 3
    assert any("3 system files of macOS or Windows" in text for text in listing.remarks)
    assert files_below(tmp_path / "out" / "images") == IMAGES


def test_names_keep_their_bytes_in_a_tar_and_their_letters_in_a_zip(tmp_path: Path) -> None:
    source = tmp_path / "a.tar"
    with tarfile.open(source, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("cat/caf\udce9.png", "dog/1.png"):
            archive.addfile(tarfile.TarInfo(name))
    _, records = read(TAR, source)
    assert records[0].path == "cat/caf\udce9.png"
    info = zipfile.ZipInfo("Käse/1.png")
    path = tmp_path / "b" / "b.zip"
    path.parent.mkdir()
    make_zip(path, {"Käse/1.png": b"1", "Brot/1.png": b"2"})
    # As written by programs that do not say that the names are UTF-8.
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive_in:
        assert archive_in.infolist()[0].flag_bits & 0x800
        assert archive_in.infolist()[0].filename == info.filename
    patched = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(magic)
        patched[start + offset + 1] &= ~0x08 & 0xFF
    path.write_bytes(bytes(patched))
    _, records = read(ZIP, path)
    assert [record.label for record in records] == ["Brot", "Käse"]


def test_an_encrypted_zip_is_said_to_be_one(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "a.zip", {"cat/1.png": b"1", "dog/1.png": b"1"})
    data = bytearray(source.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is encrypted") as caught:
        read(ZIP, source)
    assert "password" in caught.value.hint


@every_kind
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_cut_off_archive_leaves_nothing_behind(
    tmp_path: Path,
    name: str,
    importer: Importer,
    make: Callable[[Path, Content], Path],
    share: float,
) -> None:
    noise = np.random.default_rng(0).bytes(30_000)
    source = make(tmp_path / name, {**IMAGES, "pets/dog/2.png": noise})
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * share)])
    assert importer.recognize(Source.of(source)) is not None
    with pytest.raises(DataError, match="damaged or truncated") as caught:
        read(importer, source)
    assert str(source) in caught.value.message
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tar_cut_off_between_two_members_is_noticed(tmp_path: Path) -> None:
    source = make_tar(tmp_path / "a.tar", {"cat/1.png": b"1", "dog/1.png": b"1"})
    source.write_bytes(source.read_bytes()[:1024])
    with pytest.raises(DataError, match="does not end properly"):
        read(TAR, source)


def test_a_damaged_header_is_not_taken_for_the_end_of_a_tar(tmp_path: Path) -> None:
    source = make_tar(tmp_path / "a.tar", {"cat/1.png": b"1", "dog/1.png": b"1"})
    data = bytearray(source.read_bytes())
    data[1024 + 10] ^= 0xFF
    source.write_bytes(bytes(data))
    with pytest.raises(DataError, match="at byte 1024"):
        read(TAR, source)


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("cat/1.png", b"precious")
        archive.writestr("dog/1.png", b"")
    source.write_bytes(source.read_bytes().replace(b"precious", b"precioux"))
    with pytest.raises(DataError, match="CRC"):
        read(ZIP, source)
    tar = make_tar(tmp_path / "a.tar.gz", IMAGES, "w:gz")
    data = bytearray(tar.read_bytes())
    data[-6] ^= 1
    tar.write_bytes(bytes(data))
    with pytest.raises(DataError, match="CRC"):
        read(TAR, tar)


@every_kind
def test_a_bomb_is_refused_before_it_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    importer: Importer,
    make: Callable[[Path, Content], Path],
) -> None:
    if name == "a.tar":
        pytest.skip("a tar that is not packed cannot grow")
    monkeypatch.setattr(packed, "HARMLESS_BYTES", 10_000)
    source = make(tmp_path / name, {"cat/1.png": bytes(3_000_000), "dog/1.png": b""})
    with pytest.raises(DataError, match="at most 200 times"):
        read(importer, source)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("paxheader")
    info.type, info.size = tarfile.XHDTYPE, 8 * 2**30
    source = tmp_path / "a.tar.gz"
    with gzip.open(source, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    with pytest.raises(DataError, match="8589934592 bytes at once"):
        read(TAR, source)


@zip_and_tar
def test_an_archive_without_images_in_class_folders_is_refused(
    tmp_path: Path, name: str, importer: Importer, make: Callable[[Path, Content], Path]
) -> None:
    with pytest.raises(DataError, match="holds no files"):
        read(importer, make(tmp_path / name, {}))
    source = make(tmp_path / name, {"1.png": b"1", "2.png": b"2"})
    with pytest.raises(DataError) as caught:
        read(importer, source)
    assert str(source) in caught.value.message
    assert str(tmp_path / "out") not in caught.value.message + caught.value.hint


@zip_and_tar
def test_pre_split_folders_in_an_archive_keep_their_split(
    tmp_path: Path, name: str, importer: Importer, make: Callable[[Path, Content], Path]
) -> None:
    paths = [f"set/{split}/{label}/1.png" for split in ("train", "test") for label in "ab"]
    _, records = read(importer, make(tmp_path / name, dict.fromkeys(paths, b"1")))
    assert {record.path: record.split for record in records} == {
        path: path.split("/")[1] for path in paths
    }


def test_a_table_in_an_archive_labels_its_images_and_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    table = "file,class\nimg/1.png,cat\nimg/2.png,dog\n../../../secret.png,dog\n"
    source = make_zip(
        tmp_path / "a.zip",
        {"set/labels.csv": table.encode(), "set/img/1.png": b"1", "set/img/2.png": b"2"},
    )
    listing, records = read(ZIP, source)
    assert [(r.path, r.label) for r in records] == [
        ("set/img/1.png", "cat"),
        ("set/img/2.png", "dog"),
    ]
    assert listing.root == tmp_path / "out" / "images"
    assert [reason for _, reason in listing.skipped] == [
        "line 4: the path leads out of the archive"
    ]
    assert any("read as table" in text for text in listing.remarks)


def test_class_folders_win_over_a_table_about_something_else(tmp_path: Path) -> None:
    content = {**IMAGES, "pets/README.csv": b"id,label\n1,nothing\n"}
    _, records = read(ZIP, make_zip(tmp_path / "a.zip", content))
    assert {record.label for record in records} == {"cat", "dog"}


def test_arrays_in_an_archive_are_unpacked_too(tmp_path: Path) -> None:
    images = b"\0\0\x08\x03\0\0\0\2\0\0\0\2\0\0\0\2" + bytes(range(8))
    labels = b"\0\0\x08\x01\0\0\0\2\3\4"
    source = make_tar(
        tmp_path / "a.tar.gz",
        {"m/train-images-idx3-ubyte": images, "m/train-labels-idx1-ubyte": labels},
        "w:gz",
    )
    listing, records = read(TAR, source)
    assert [(r.path, r.label) for r in records] == [
        ("train/3/000000.png", "3"),
        ("train/4/000001.png", "4"),
    ]
    assert any("read as idx" in text for text in listing.remarks)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images"]


def test_damaged_arrays_in_an_archive_are_named_by_the_archive(tmp_path: Path) -> None:
    images = b"\0\0\x08\x03\0\0\0\2\0\0\0\2\0\0\0\2" + bytes(7)
    source = make_zip(
        tmp_path / "a.zip", {"images-idx3": images, "labels-idx1": b"\0\0\x08\x01\0\0\0\2\3\4"}
    )
    with pytest.raises(DataError) as caught:
        read(ZIP, source)
    assert str(source / "images-idx3") in caught.value.message
    assert list((tmp_path / "out").iterdir()) == []


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    for content in (b"", b"PK", b"hello" * 500, bytes(2000), gzip.compress(b"text" * 500)):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert ZIP.recognize(Source.of(path)) is None
        assert TAR.recognize(Source.of(path)) is None
    assert ZIP.recognize(Source.of(tmp_path)) is None
    assert TAR.recognize(Source.of(tmp_path)) is None
    assert TAR.recognize(Source.of(tmp_path / "missing")) is None
