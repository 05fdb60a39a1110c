"""Zip and tar archives: unpacked with care, then read as whatever lies in them."""

import contextlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from cnnclf.errors import DataError
from cnnclf.importers.archives.members import Members
from cnnclf.importers.archives.packed import (
    PackedReader,
    check_growth,
    packing_of,
    read_start,
    zip_faults,
)
from cnnclf.importers.archives.unpacking import (
    list_unpacked_folder,
    name_source,
    whole_or_nothing,
)
from cnnclf.importers.formats.cifar import CIFAR
from cnnclf.importers.formats.folders import SPLIT_NAMES
from cnnclf.importers.formats.idx import IDX
from cnnclf.importers.formats.npy import NPY_FOLDERS
from cnnclf.importers.formats.npz import NPZ
from cnnclf.importers.formats.tables import TABLE, TABLE_SUFFIXES, list_table
from cnnclf.importers.importer import Importer, ImportOptions, Listing
from cnnclf.progress import Progress, Task


def recognize_zip(source: Path) -> str | None:
    """Recognize a zip file by its first bytes, or by its list of contents at its end."""
    try:
        found = read_start(source, 4) in _ZIP_MAGICS or (
            source.is_file() and zipfile.is_zipfile(source)
        )
    except OSError:
        return None  # what cannot be read is said when it is needed
    return "it is a zip archive" if found else None


def recognize_tar(source: Path) -> str | None:
    """Recognize a tar file, packed or not, by its first header."""
    start = read_start(source, tarfile.BLOCKSIZE)
    if not start:
        return None
    packing = packing_of(start)
    told = f"it is a tar archive packed with {packing}" if packing else "it is a tar archive"
    try:
        with PackedReader(source) as reader:
            tarfile.TarInfo.frombuf(
                reader.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape"
            )
    except (DataError, tarfile.TarError, ValueError):
        return told if packing and _TAR_SUFFIXES.intersection(source.suffixes) else None
    return told


def read_zip(source: Path, unpack_dir: Path, options: ImportOptions, progress: Progress) -> Listing:
    """Unpack a zip archive and list what lies in it.

    Raises:
        DataError: It is damaged, encrypted, hostile, or holds no images.
    """
    with whole_or_nothing(unpack_dir):
        members = Members(source, unpack_dir)
        with progress.task("unpacking", None, unit="files") as task:
            _unpack_zip(source, members, task)
        return _list_content(source, members, unpack_dir, options, progress)


def read_tar(source: Path, unpack_dir: Path, options: ImportOptions, progress: Progress) -> Listing:
    """Unpack a tar archive, packed with gzip, bzip2, xz or not at all, and list what lies in it.

    Raises:
        DataError: It is damaged, hostile, or holds no images.
    """
    with whole_or_nothing(unpack_dir):
        members = Members(source, unpack_dir)
        with progress.task("unpacking", None, unit="files") as task:
            _unpack_tar(source, members, task)
        return _list_content(source, members, unpack_dir, options, progress)


_ZIP_MAGICS: Final = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_ZIP_UTF8_FLAG: Final = 0x800
_ZIP_ENCRYPTED_FLAG: Final = 0x1
_TAR_SUFFIXES: Final = frozenset({".tar", ".tgz", ".tbz", ".tbz2", ".txz"})
_TAR_ERRORS: Final = (
    tarfile.TarError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
)
_COPY_BYTES: Final = 2**18
_LINK: Final = "a link; links in archives are not followed"


def _unpack_zip(source: Path, members: Members, task: Task) -> None:
    with zip_faults(source):
        archive = zipfile.ZipFile(source)
    with archive:
        infos = archive.infolist()
        task.expect(len(infos))
        if any(info.flag_bits & _ZIP_ENCRYPTED_FLAG for info in infos):
            raise DataError(
                f"expected a zip archive without a password, but {source} is encrypted",
                "unpack it with its password and import the folder",
            )
        # The sizes are those of the list of contents; nothing beyond them is ever unpacked.
        check_growth(
            source,
            unpacked_bytes=sum(info.file_size for info in infos),
            packed_bytes=source.stat().st_size,
        )
        for info in infos:
            name = _zip_name(info)
            path = members.place(name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if path is None:
                pass
            elif name.endswith("/"):
                members.write_folder(path)
            elif kind in (0, stat.S_IFREG):
                members.write(path, info.file_size, _zip_chunks(source, archive, info))
            else:
                members.skip(path, _LINK if kind == stat.S_IFLNK else "no plain file")
            task.advance()


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member with "/" between folders, whoever wrote it."""
    name = info.filename
    if not info.flag_bits & _ZIP_UTF8_FLAG:
        # The format says code page 437, but many programs write UTF-8 and do not say so.
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _zip_chunks(source: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with zip_faults(source):
        member = archive.open(info)
    with member:
        while True:
            with zip_faults(source):
                chunk = member.read(_COPY_BYTES)
            if not chunk:
                break
            yield chunk


def _unpack_tar(source: Path, members: Members, task: Task) -> None:
    with PackedReader(source) as reader:
        for member in _tar_members(reader):
            _unpack_tar_member(member, reader, members)
            task.advance()
        reader.drain()


def _tar_members(reader: PackedReader) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as archive:
            while (member := archive.next()) is not None:
                # What has been seen is not needed again; a million of them would fill the memory.
                archive.members.clear()  # type: ignore[attr-defined]
                yield member
            end = archive.offset
    except _TAR_ERRORS as error:
        raise reader.fault(str(error) or type(error).__name__) from error
    # The parser takes a damaged header for the end of the archive, which is a block of zeros.
    if reader.last != bytes(tarfile.BLOCKSIZE):
        raise reader.fault(f"it does not end as it should, at byte {end}")


def _unpack_tar_member(member: tarfile.TarInfo, reader: PackedReader, members: Members) -> None:
    path = members.place(member.name)
    if path is None:
        return
    if member.isdir():
        members.write_folder(path)
    elif member.issym() or member.islnk():
        members.skip(path, _LINK)
    elif not member.isreg() or member.issparse():
        members.skip(path, "no plain file")
    else:
        reader.seek(member.offset_data)
        members.write(path, member.size, _tar_chunks(reader, member.size))


def _tar_chunks(reader: PackedReader, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = reader.read_exactly(min(size, _COPY_BYTES))
        size -= len(chunk)
        yield chunk


def _list_content(
    source: Path, members: Members, unpack_dir: Path, options: ImportOptions, progress: Progress
) -> Listing:
    """List what was unpacked, as the importer for it would."""
    if not members.written:
        raise DataError(f"expected an archive with images, but {source} holds no files")
    inner, importer = _find_inner(unpack_dir, options)
    if importer is None:
        listing = list_unpacked_folder(source, unpack_dir, options, progress)
    elif importer is TABLE:
        listing = list_table(inner, options, within=unpack_dir)
        listing.unpacked = True
    else:
        listing = _unpack_again(source, inner, importer, unpack_dir, options, progress)
    listing.skipped[:0] = members.skipped
    listing.remarks[:0] = members.remarks()
    if importer is not None:
        listing.remarks.append(f"{inner.name} in the archive was read as {importer.name}")
    return listing


def _unpack_again(
    source: Path,
    inner: Path,
    importer: Importer,
    unpack_dir: Path,
    options: ImportOptions,
    progress: Progress,
) -> Listing:
    """Unpack arrays that were themselves packed in an archive, and remove them."""
    packed = unpack_dir.with_name(f"{unpack_dir.name}.packed")
    unpack_dir.rename(packed)
    try:
        return importer.read(packed / inner.relative_to(unpack_dir), unpack_dir, options, progress)
    except DataError as error:
        raise name_source(error, there=packed, here=source) from error
    finally:
        shutil.rmtree(packed, ignore_errors=True)


def _find_inner(folder: Path, options: ImportOptions) -> tuple[Path, Importer | None]:
    """Find what is no folder of images, going through folders that hold only one other."""
    within = folder
    while True:
        for importer in (CIFAR, IDX, NPY_FOLDERS):
            if importer.recognize(folder):
                return folder, importer
        children = [child for child in sorted(folder.iterdir()) if not child.name.startswith(".")]
        arrays = [file for file in children if NPZ.recognize(file)]
        if len(arrays) == 1:
            return arrays[0], NPZ
        # A table counts if it names at least one image that is there.
        tables = [file for file in children if file.suffix.lower() in TABLE_SUFFIXES]
        if len(tables) == 1 and TABLE.recognize(tables[0]):
            records = list_table(tables[0], options, within=within).records
            if next(records, None) is not None:
                return tables[0], TABLE
        folders = [child for child in children if child.is_dir()]
        if len(folders) != 1 or folders[0].name.casefold() in SPLIT_NAMES:
            return folder, None
        folder = folders[0]


ZIP: Final = Importer(
    "zip", "zip archive of anything that can be imported", recognize_zip, read_zip
)
TAR: Final = Importer(
    "tar", "tar archive (.gz, .bz2, .xz) of anything that can be imported", recognize_tar, read_tar
)
