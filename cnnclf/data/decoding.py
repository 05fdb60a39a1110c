"""Decoding many images: in parallel, in order, in bounded memory, with a reason per failure."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import MAX_IMAGE_BYTES, read_bytes
from cnnclf.data.manifest import Dataset, ImportedFile
from cnnclf.errors import ImageError
from cnnclf.files import format_bytes
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec
from cnnclf.processes import map_in_processes
from cnnclf.progress import Progress

Rows = npt.NDArray[np.intp]
Images = npt.NDArray[np.uint8]

_CHUNK_BYTES = 1 << 20
_CHUNK_IMAGES = 32  # small pixels may come from large files, and progress comes by chunks

# Fewer images are decoded before a process has been started.
_FIRST_IMAGES: Final = 2048


class Failure(NamedTuple):
    """Why an image is missing, and whether permanently.

    Pixels belong to a certain content. A file that is missing or has different content may be right
    next time; a file with the right content that cannot be decoded stays a failure.
    """

    reason: str
    lasting: bool


Failures = dict[int, Failure]
"""By position among the rows of a job."""


@dataclass(frozen=True)
class DecodingJob:
    """What to decode, and how.

    Args:
        dataset: The images.
        spec: Size and channels of the result.
        rows: The rows to decode, int [n], n at least 1.
        threads: Threads that decode, at least 1. Of many images they are processes.
        progress: Receives the number of images decoded.
    """

    dataset: Dataset
    spec: InputSpec
    rows: Rows
    threads: int
    progress: Progress

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images together."""
        return len(self.rows), *self.spec.shape

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels together."""
        return int(np.prod(self.shape))

    def select(self, rows: Rows) -> "DecodingJob":
        """Return the same job for other rows."""
        return replace(self, rows=rows)

    def describe(self) -> str:
        """Return a description for messages."""
        count, height, width, channels = self.shape
        colors = "gray" if channels == 1 else "color"
        return f"{count:,} {colors} images at {height}x{width}, {format_bytes(self.nbytes)}"


def decode_row(job: DecodingJob, row: int) -> Images | Failure:
    """Decode one image of a job, as `decode_file` does."""
    return decode_file(job.dataset.imported_file(row), spec=job.spec)


def decode_file(file: ImportedFile, *, spec: InputSpec) -> Images | Failure:
    """Decode one image, if its file is unchanged since the import.

    Args:
        file: The file.
        spec: Size and channels of the result.

    Returns:
        uint8 [H, W, C], or the failure.
    """
    try:
        content = read_bytes(file.path, max_bytes=MAX_IMAGE_BYTES)
    except OSError as error:
        return Failure(f"it cannot be read: {error.strerror or error}", lasting=False)
    if file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256:
        return Failure("its content has changed since the import", lasting=False)
    try:
        return decode_image(content, spec)
    except ImageError as error:
        return Failure(error.message, lasting=True)


def decode_chunks(job: DecodingJob) -> Iterator[tuple[Images, Failures]]:
    """Decode all images of a job.

    Yields:
        Images in the order of the rows, uint8 [k, H, W, C], and the failures among them, whose
        pixels are zero. Only a few chunks per thread are in memory at a time.
    """
    step = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // int(np.prod(job.spec.shape))))
    chunks = map_in_processes(
        partial(_decode_files, job.spec),
        job.dataset.list_files(job.rows.tolist(), together=step),
        processes=job.threads,
        ahead=2 * job.threads + 2,
        name="cnnclf-decode",
        first=_FIRST_IMAGES // step,
    )
    done = 0
    with closing(chunks), job.progress.task("decoding", len(job.rows), unit="images") as task:
        for images, failures in chunks:
            yield images, {done + at: failure for at, failure in failures.items()}
            done += len(images)
            task.advance(len(images))


def _decode_files(spec: InputSpec, files: list[ImportedFile]) -> tuple[Images, Failures]:
    images = np.zeros((len(files), *spec.shape), np.uint8)
    failures: Failures = {}
    for at, file in enumerate(files):
        outcome = decode_file(file, spec=spec)
        if isinstance(outcome, Failure):
            failures[at] = outcome
        else:
            images[at] = outcome
    return images, failures
