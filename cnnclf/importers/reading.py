"""Reading and checking images side by side, in order and in bounded memory.

Each file is read once; its bytes are hashed and decoded completely, and the pixels are hashed.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from cnnclf.bounded import MAX_IMAGE_BYTES, find_slice, read_bytes
from cnnclf.errors import ImageError
from cnnclf.hardware import count_usable_cpus
from cnnclf.images.decode import ImageInfo, inspect_image
from cnnclf.importers.importer import Record
from cnnclf.importers.walk import MAX_DEPTH
from cnnclf.processes import map_in_processes
from cnnclf.quality.perceptual_hash import SIDE

# Passing on single files would cost more than a tiny image itself.
_CHUNK: Final = 16
_CHUNKS_AHEAD: Final = 4

# Fewer images are read before a process has been started.
_FIRST: Final = 2048 // _CHUNK


@dataclass(frozen=True, slots=True)
class Checked:
    """One image that was read, or could not be read.

    Args:
        record: As listed; with another path if the image was copied there.
        info: None if the file cannot be used.
        sha256: Of the bytes of the file, 32 bytes.
        reason: Why the file cannot be used; "" if it can.
    """

    record: Record
    info: ImageInfo | None
    sha256: bytes = b""
    reason: str = ""


def check_images(
    root: Path,
    records: Iterator[Record],
    *,
    threads: int | None = None,
    copy_to: Path | None = None,
    kind: str = "image",
    exact: bool = False,
    bands: tuple[int, ...] | None = None,
) -> Iterator[list[Checked]]:
    """Read and check the images of a listing.

    Args:
        root: The folder that the paths of the records are relative to.
        records: Consumed slightly faster than the results are yielded.
        threads: At least 1; None means one per processor. Of many images they are processes.
        copy_to: A folder that the good images are copied into, under their paths.
        kind: What the files must hold, as in `InputSpec`.
        exact: Whether the checksums of large images must be over all their pixels.
        bands: Channels that are used, as in `InputSpec`.

    Returns:
        The records in order, a few at a time.
    """
    threads = threads or count_usable_cpus()
    check = _Check(os.fspath(root), copy_to, kind, exact, bands)
    chunks = iter(lambda: list(islice(records, _CHUNK)), [])
    ahead = threads * _CHUNKS_AHEAD
    return map_in_processes(
        check.check_all, chunks, processes=threads, ahead=ahead, name="check", first=_FIRST
    )


class _Check(NamedTuple):
    """How files are read and checked.

    Args:
        root: The folder that the paths of the records are relative to.
        copy_to: A folder that the good images are copied into.
        kind: What the files must hold.
        exact: Whether the checksums of large images must be over all their pixels.
        bands: Channels that are used.
    """

    root: str
    copy_to: Path | None
    kind: str
    exact: bool
    bands: tuple[int, ...] | None

    def check_all(self, records: list[Record]) -> list[Checked]:
        """Check some files in order."""
        return [self._check(record) for record in records]

    def _check(self, record: Record) -> Checked:
        try:
            # A Path would cost as much as a tiny image itself.
            content = _read_file(os.path.join(self.root, record.path))  # noqa: PTH118
            name = record.path.rpartition("/")[2]
            # A second look, for all pixels, needs no gray image again.
            side = 0 if self.exact or self.kind != "image" else SIDE
            info = inspect_image(
                content,
                name=name,
                kind=self.kind,
                exact=self.exact,
                gray_side=side,
                bands=self.bands,
            )
        except ImageError as error:
            return Checked(record, None, reason=error.message)
        except OSError as error:
            return Checked(record, None, reason=f"cannot be read: {error.strerror}")
        digest = hashlib.sha256(content).digest()
        if self.copy_to is not None:
            record = replace(record, path=_place_copy(record.path, digest))
            target = self.copy_to / record.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return Checked(record, info, digest)


# Opening a pipe must not wait for a writer; Windows would translate line ends.
_READING: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def _read_file(path: str) -> bytes:
    """Read a whole file with as few system calls as possible.

    Raises:
        ImageError: It is not a file, or larger than `MAX_IMAGE_BYTES`.
        OSError: It cannot be read.
    """
    if find_slice(path):
        return read_bytes(Path(path), max_bytes=MAX_IMAGE_BYTES)
    descriptor = os.open(path, _READING)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("not a regular file")
        if found.st_size > MAX_IMAGE_BYTES:
            raise ImageError(f"larger than {MAX_IMAGE_BYTES / 2**30:g} GiB")
        content = os.read(descriptor, found.st_size)
        while len(content) < found.st_size:
            more = os.read(descriptor, found.st_size - len(content))
            if not more:
                break  # it was truncated in the meantime
            content += more
        return content
    finally:
        os.close(descriptor)


def _place_copy(path: str, digest: bytes) -> str:
    """Return the path of a copy: that of the image, unless it leads out of them or is deep."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        return f"outside/{digest.hex()[:16]}/{parts.name}"
    if len(parts.parts) > MAX_DEPTH:
        return f"deep/{digest.hex()[:16]}/{parts.name}"
    return path
