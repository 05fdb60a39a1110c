"""Zip and tar archives: unpacked safely, then read in the format of their content."""

import contextlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, cast

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.archives.members import Members
from cnnclf.importers.archives.packed import (
    PackedReader,
    check_growth,
    packing_of,
    read_start,
    zip_faults,
)
from cnnclf.importers.archives.unpacking import list_unpacked_folder, name_source, whole_or_nothing
from cnnclf.importers.importer import Importer, ImportJob, Listing, path_importer
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.beside import find_tables
from cnnclf.importers.walk import list_visible
from cnnclf.progress import Task


def recognize_zip(source: Path) -> str | None:
    """Recognize a zip file by its first bytes, or by its list of contents at its end."""
    try:
        found = read_start(source, 4) in _ZIP_MAGICS or (
            source.is_file() and zipfile.is_zipfile(source)
        )
    except OSError:
        return None  # reported when the file is read
    return "it is a zip archive" if found else None


def recognize_tar(source: Path) -> str | None:
    """Recognize a tar file, packed or not, by its first header."""
    start = read_start(source, tarfile.BLOCKSIZE)
    if not start:
        return None
    packing = packing_of(start)
    reason = f"it is a tar archive compressed with {packing}" if packing else "it is a tar archive"
    try:
        with PackedReader(source) as reader:
            tarfile.TarInfo.frombuf(
                reader.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape"
            )
    except (DataError, tarfile.TarError, ValueError):
        return reason if packing and _TAR_SUFFIXES.intersection(source.suffixes) else None
    return reason


def archive_importers(table: Callable[[], Sequence[Importer]]) -> tuple[Importer, Importer]:
    """Make the rows of the table of importers for zip and tar archives.

    Reading one raises `DataError` if it is damaged, encrypted, hostile, or holds no images.

    Args:
        table: Returns the table, in which the format of the unpacked files is looked up.
    """

    def make_reader(
        unpack: Callable[[Path, Members, Task], None],
    ) -> Callable[[Path, ImportJob], Listing]:
        def read(source: Path, job: ImportJob) -> Listing:
            with whole_or_nothing(job.unpack_dir):
                members = Members(source, job.unpack_dir)
                with job.progress.task("unpacking", None, unit="files") as task:
                    unpack(source, members, task)
                if not members.written:
                    raise DataError(f"{source} holds no files")
                listing = _list_content(source, job, table())
                listing.skipped[:0] = members.skipped
                listing.remarks[:0] = members.remarks()
                return listing

        return read

    return (
        path_importer(
            "zip",
            "zip archive of anything that can be imported",
            recognize=recognize_zip,
            read=make_reader(_unpack_zip),
            unpacks=True,
        ),
        path_importer(
            "tar",
            "tar archive (.gz, .bz2, .xz) of anything that can be imported",
            recognize=recognize_tar,
            read=make_reader(_unpack_tar),
            unpacks=True,
        ),
    )


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
                f"{source} is encrypted",
                "unpack it with its password and import the folder",
            )
        # The sizes come from the list of contents; nothing beyond them is ever unpacked.
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
                chunks = _zip_chunks(source, archive, info)
                members.write(path, info.file_size, chunks=chunks)
            else:
                members.skip(path, _LINK if kind == stat.S_IFLNK else "not a regular file")
            task.advance()


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member with "/" between folders, whatever program wrote it."""
    name = info.filename
    if not info.flag_bits & _ZIP_UTF8_FLAG:
        # The format says code page 437, but many programs write UTF-8 without the flag.
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
        for member in tar_members(reader):
            _unpack_tar_member(member, reader, members)
            task.advance()
        reader.drain()


def tar_members(reader: PackedReader) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar archive, whose content the reader may be moved to.

    Raises:
        DataError: The archive is damaged.
    """
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as archive:
            while (member := archive.next()) is not None:
                # Not needed again; a million of them would fill the memory.
                archive.members.clear()  # type: ignore[attr-defined]
                yield member
            end = archive.offset
    except _TAR_ERRORS as error:
        raise reader.fault(str(error) or type(error).__name__) from error
    # The parser takes a damaged header for the end of the archive, which is a block of zeros.
    if reader.last != bytes(tarfile.BLOCKSIZE):
        raise reader.fault(f"it does not end properly, at byte {end}")


def _unpack_tar_member(member: tarfile.TarInfo, reader: PackedReader, members: Members) -> None:
    path = members.place(member.name)
    if path is None:
        return
    if member.isdir():
        members.write_folder(path)
    elif member.issym() or member.islnk():
        members.skip(path, _LINK)
    elif not member.isreg() or member.issparse():
        members.skip(path, "not a regular file")
    else:
        reader.seek(member.offset_data)
        members.write(path, member.size, chunks=_tar_chunks(reader, member.size))


def _tar_chunks(reader: PackedReader, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = reader.read_exactly(min(size, _COPY_BYTES))
        size -= len(chunk)
        yield chunk


def _list_content(source: Path, job: ImportJob, importers: Sequence[Importer]) -> Listing:
    """List what was unpacked with the importer for it."""
    inner, importer = _find_inside(job.unpack_dir, importers, job.options)
    if importer is None:
        return list_unpacked_folder(source, job)
    if importer.unpacks:
        listing = _unpack_again(source, inner, importer, job)
    else:
        listing = importer.read(inner, job)
        listing.unpacked = True
    place = inner.require_path()
    what = "the archive" if place == job.unpack_dir else f"{place.name} in the archive"
    listing.remarks.append(f"{what} was read as {importer.name}")
    return listing


def _unpack_again(source: Path, inner: Source, importer: Importer, job: ImportJob) -> Listing:
    """Unpack arrays that were themselves packed in an archive, and remove them."""
    packed = job.unpack_dir.with_name(f"{job.unpack_dir.name}.packed")
    job.unpack_dir.rename(packed)
    try:
        moved = Source.of(packed / inner.require_path().relative_to(job.unpack_dir))
        return importer.read(moved, job)
    except DataError as error:
        raise name_source(error, there=packed, here=source) from error
    finally:
        shutil.rmtree(packed, ignore_errors=True)


def _find_inside(
    top: Path, importers: Sequence[Importer], options: ImportConfig
) -> tuple[Source, Importer | None]:
    """Find a source other than a folder of images, below folders that hold only one other."""
    folder = top
    while True:
        here = Source(os.fspath(folder), folder, within=top)
        for importer in importers:
            inner = importer.find_inside(here, options) if importer.find_inside else None
            if inner is not None:
                return inner, importer
        tables, has_classes = find_tables(here, options)
        if len(tables) == 1 and not has_classes:
            return here, tables[0].as_importer()
        folders = [child for child in list_visible(folder) if child.is_dir()]
        if len(folders) != 1 or read_split_name(folders[0].name).split:
            return here, None
        folder = folders[0]
