"""Decoded pixels on disk: one file of raw uint8 and a description in JSON next to it.

The name is a hash of the content of the images, in order, and of the input spec: the place of the
dataset does not matter, and other images or another spec never use old pixels. The description is
written last, so an unfinished file does not count. Processes that build the same file at the same
time each write their own, and the last to finish puts the same bytes in place.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnclf.bounded import check_regular, parse_json, read_bytes
from cnnclf.data.cache import cache_dir
from cnnclf.data.decoding import DecodingJob, Failure, Failures, Images, decode_chunks, decode_row
from cnnclf.errors import DeviceError
from cnnclf.files import atomic_path, format_bytes, free_bytes, remove_abandoned, write_json_atomic

FORMAT = "cnnclf-pixels"
FORMAT_VERSION = 1

_SPARE_BYTES = 64 << 20  # kept free on the disk for the other files of a run
_CHECKED_IMAGES = 32


class Stored(NamedTuple):
    """Pixels uint8 [n, H, W, C], mapped from a file, and the failures among them."""

    array: Images
    failures: Failures


class DamageError(Exception):
    """A pixel file exists, but does not match its description."""


def find_pixels(job: DecodingJob) -> Stored | None:
    """Return the pixels of a job if they are on disk already and intact.

    Images that failed for a temporary reason are tried again.
    """
    name = pixel_key(job)
    for directory in _directories(job):
        path = directory / f"{name}.u8"
        try:
            stored = _load(path, job, name)
            if stored is not None:
                return _retry(path, job, name, stored)
        except DamageError as damage:
            job.progress.warn(f"{path} {damage}; decoding again")
        except OSError:
            continue  # images cannot be added to a read-only file: make a new one elsewhere
    return None


def make_pixels(job: DecodingJob) -> Stored:
    """Decode the images of a job into a file.

    Raises:
        DeviceError: There is not enough disk space.
    """
    name = pixel_key(job)
    path = _writable_directory(job) / f"{name}.u8"
    remove_abandoned(path.parent, f".{name}.*.u8")
    _check_room(path.parent, job.nbytes)
    job.progress.note(f"decoding {job.describe()}, to {path}")
    failures: Failures = {}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for images, failed in decode_chunks(job):
            file.write(images.data)
            failures |= failed
    array = _map(path, job)
    _describe(path, job, name, Stored(array, failures))
    return Stored(array, failures)


def pixel_key(job: DecodingJob) -> str:
    """Return the name of the pixels: a hash of the spec and the content of each row, in order."""
    spec = json.dumps([FORMAT_VERSION, job.spec.to_dict()], sort_keys=True)
    digest = hashlib.sha256(spec.encode())
    contents = job.dataset.manifest.sha256
    for row in job.rows.tolist():
        digest.update((contents[row] or _identify(job.dataset.file(row))).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:32]


def _identify(file: Path) -> str:
    """Return a substitute for the hash of a row without one."""
    with suppress(OSError):
        status = check_regular(file)
        return f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
    return str(file)


def _directories(job: DecodingJob) -> tuple[Path, Path]:
    return job.dataset.directory / "cache", cache_dir() / "stores"


def _writable_directory(job: DecodingJob) -> Path:
    near, users = _directories(job)
    probe = near / f".{time.time_ns()}"
    try:
        near.mkdir(exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:  # the dataset is on a read-only disk, or belongs to another user
        return users
    return near


def _check_room(directory: Path, needed: int) -> None:
    free = free_bytes(directory)
    if free < needed + _SPARE_BYTES:
        raise DeviceError(
            f"not enough disk space for decoded images in {directory}: "
            f"{format_bytes(needed + _SPARE_BYTES)} needed, {format_bytes(free)} free",
            "use --cache none, or --cache ram if there is enough memory, or free some space",
        )


def _map(path: Path, job: DecodingJob) -> Images:
    return np.memmap(path, np.uint8, mode="r", shape=job.shape)


def _load(path: Path, job: DecodingJob, name: str) -> Stored | None:
    """Return the pixels of a file, or None if it does not exist.

    Raises:
        DamageError: The file is damaged.
    """
    try:
        description = parse_json(read_bytes(path.with_suffix(".json")))
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamageError(f"cannot be read ({error})") from error
    if size != job.nbytes:
        raise DamageError(f"has {size} bytes instead of {job.nbytes}")
    try:
        failures = {
            int(position): Failure(str(each["reason"]), bool(each["lasting"]))
            for position, each in description["failed"].items()
        }
        checks = {int(position): int(check) for position, check in description["checks"].items()}
        if any(not 0 <= position < len(job.rows) for position in failures):
            raise ValueError("a position beyond the last image")
        whole = description["key"] == name and tuple(description["shape"]) == job.shape
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DamageError("has a damaged description") from error
    array = _map(path, job)
    if not whole or checks != _checks(array, checks):
        raise DamageError("does not match its checksums")
    return Stored(array, failures)


def _describe(path: Path, job: DecodingJob, name: str, stored: Stored) -> None:
    """Write the description, after which the pixels count as complete."""
    positions = np.linspace(0, len(job.rows) - 1, _CHECKED_IMAGES).astype(int).tolist()
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "key": name,
        "source": f"{job.dataset.directory.absolute()}, {job.describe()}",
        "shape": job.shape,
        "input_spec": job.spec.to_dict(),
        "failed": {at: stored.failures[at]._asdict() for at in sorted(stored.failures)},
        "checks": _checks(stored.array, positions),
    }
    write_json_atomic(path.with_suffix(".json"), description)


def _checks(array: Images, positions: Iterable[int]) -> dict[int, int]:
    """Return checksums of some images, which detect pages that were lost in a crash."""
    return {at: zlib.crc32(array[at].tobytes()) for at in positions if 0 <= at < len(array)}


def _retry(path: Path, job: DecodingJob, name: str, stored: Stored) -> Stored:
    """Decode images that failed for a temporary reason, and add the successful ones to the file.

    Raises:
        OSError: The file cannot be written.
    """
    failures = dict(stored.failures)
    found: dict[int, Images] = {}
    for at in [at for at, failure in failures.items() if not failure.lasting]:
        outcome = decode_row(job, int(job.rows[at]))
        if isinstance(outcome, Failure):
            failures[at] = outcome
        else:
            found[at] = outcome
            del failures[at]
    if failures == stored.failures:
        return stored
    with path.open("r+b") as file:
        for at, image in found.items():
            file.seek(at * image.nbytes)
            file.write(image.data)
    whole = Stored(_map(path, job), failures)
    _describe(path, job, name, whole)
    return whole
