"""From arrays of numbers to image files: what the IDX, CIFAR, NPZ and NPY importers share.

Arrays of uint8 already hold pixels and are written unchanged. All other numbers are scaled by one
rule, `SCALE_RULE`: each sample independently, its lowest value to 0 and its highest to 255. A range
taken from the whole data set would keep absolute levels, but then the pixels of a sample would
depend on the other samples: test data would leak into training pixels, and the same recording
imported alone for a prediction would look different from what the model was trained on. Percentiles
would cut off a single bright spot, which may be the very feature of a class. Users who need
absolute levels map them to uint8 with a range of their choice before the import.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError
from cnnclf.hardware import count_usable_cpus
from cnnclf.importers.archives.packed import MAX_READ_BYTES
from cnnclf.importers.archives.unpacking import Budget, whole_or_nothing
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.parallel import map_ahead

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]

SCALE_RULE: Final = (
    "each sample is scaled independently: its lowest value becomes 0 and its highest 255; NaN "
    "counts as lowest, infinities as lowest or highest"
)


@dataclass
class Part:
    """One array of samples and their labels, such as the training set of a source.

    Args:
        name: Name of the array in the source, for messages and `Listing.skipped`.
        split: `train`, `val`, `test`, or "" if the source does not say.
        class_indices: int [N], indices into the class names.
        blocks: Yields the samples in order, some at a time: uint8 [n, H, W] or [n, H, W, C], C of
            1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
        faults: Reason by position 0..N-1 for each sample to skip; may grow while `blocks` is
            consumed.
    """

    name: str
    split: str
    class_indices: npt.NDArray[np.int64]
    blocks: Callable[[], Iterable[Pixels]]
    faults: dict[int, str] = field(default_factory=dict)


def unpack_parts(
    source: Path,
    parts: list[Part],
    *,
    names: tuple[str, ...],
    job: ImportJob,
) -> Listing:
    """Write each sample as UNPACK_DIR/SPLIT/LABEL/POSITION.png and list the files.

    Args:
        source: The source, for messages.
        parts: The arrays, at most one for each split.
        names: The labels in the order of the class indices.
        job: Where to write, with how many threads; the folder is removed again on failure.

    Returns:
        The listing. Labels without a sample are excluded, with a remark.

    Raises:
        DataError: Two parts have the same split, or the numbers of samples and labels differ.
        DeviceError: The disk is full.
    """
    if len({part.split for part in parts}) < len(parts):
        spoken = ", ".join(f"{part.name} ({part.split or 'no split'})" for part in parts)
        raise DataError(
            f"{source} has more than one array for the same split: {spoken}",
            "import them one by one",
        )
    parts = sorted(parts, key=lambda part: _ORDER.index(part.split))
    folders = [_folder_name(name, index) for index, name in enumerate(names)]
    total = sum(len(part.class_indices) for part in parts)
    root, threads = job.unpack_dir, job.options.threads
    with whole_or_nothing(root):
        budget = Budget(source, root)
        budget.spend(0, files=total)
        with job.progress.task("unpacking", total, unit="images") as task:
            for part in parts:
                for count in _write_part(source, part, folders, root, threads):
                    task.advance(count)
    return Listing(
        root=root,
        records=_records(parts, names, folders),
        labels=_used(parts, names),
        skipped=[(f"{p.name}[{i}]", reason) for p in parts for i, reason in p.faults.items()],
        remarks=_remarks(parts, names),
        unpacked=True,
        total=total,
    )


def index_labels(
    source: Path, values: dict[str, npt.NDArray[np.int64]], *, classes: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """Turn the integers that stand for classes into names and class indices.

    Args:
        source: The source, for messages.
        values: int [N] for each part by its name.
        classes: The label of 0, 1, ...; None means that the numbers themselves are the labels.

    Returns:
        The names, and for each part int [N] with indices into the names.

    Raises:
        DataError: A number has no name.
    """
    seen = np.unique(np.concatenate([np.unique(part) for part in values.values()]))
    if classes is None:
        names = tuple(str(value) for value in seen)
        return names, {name: np.searchsorted(seen, part) for name, part in values.items()}
    wrong = seen[(seen < 0) | (seen >= len(classes))]
    if len(wrong):
        raise DataError(
            f"expected class numbers 0 to {len(classes) - 1} for {len(classes)} class names in "
            f"{source}, received {wrong[0]}",
            "give --classes-file a text file with one label per line, the label of class 0 first",
        )
    return classes, values


def check_image_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise DataError unless `shape` is a valid [H, W] or [H, W, C] of an image."""
    channels = shape[2] if len(shape) == 3 else 1
    if (
        len(shape) not in (2, 3)
        or channels not in _COLOR_TYPES
        or not all(1 <= side <= _MAX_SIDE for side in shape[:2])
        or shape[0] * shape[1] * channels * _MAX_ITEM_BYTES > MAX_READ_BYTES
    ):
        raise DataError(
            "expected samples of height x width or height x width x channels with 1 to 4 "
            f"channels in {name}, received {spoken_shape(shape)}"
        )


def scale_samples(block: Numbers) -> tuple[Pixels, dict[int, str]]:
    """Turn numbers into pixels: uint8 unchanged, False and True to 0 and 255, else `SCALE_RULE`.

    Args:
        block: bool, integer or float [n, ...].

    Returns:
        uint8 [n, ...], and the reason by position for each sample that cannot be scaled.
    """
    if block.dtype == np.uint8:
        return block, {}
    if block.dtype == np.bool_:
        return block.astype(np.uint8) * np.uint8(255), {}
    # Some bit patterns are signaling NaN, which raise warnings when used.
    with np.errstate(invalid="ignore"):
        flat = block.reshape(len(block), -1).astype(np.float64)
        pixels, faults = _scale(flat)
    return pixels.reshape(block.shape), faults


def encode_pngs(block: Pixels) -> Iterator[bytes]:
    """Encode images of one size as PNG files (ISO/IEC 15948), without loss.

    Pillow's encoder takes some 100 microseconds for any image, which would be most of the time for
    70,000 small ones; this one takes about 40.

    Args:
        block: uint8 [n, H, W] or [n, H, W, C], C of 1 to 4.
    """
    count, height, width = block.shape[:3]
    channels = block.shape[3] if block.ndim == 4 else 1
    lines = block.reshape(count, height, width * channels)
    rows = np.zeros((count, height, 1 + width * channels), np.uint8)
    rows[:, :, 1:] = lines
    if height * width * channels > _SMALL_BYTES:
        # Filter "sub": the differences from the pixel to the left compress far better.
        # An image that fits into one block of the disk would gain nothing.
        rows[:, :, 0] = 1
        rows[:, :, 1 + channels :] -= lines[:, :, :-channels]
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    start = _SIGNATURE + _chunk(b"IHDR", header)
    end = _chunk(b"IEND", b"")
    for row in rows.reshape(count, -1):
        yield b"".join((start, _chunk(b"IDAT", zlib.compress(row.data, _FAST)), end))


def block_length(sample_bytes: int) -> int:
    """Return how many samples of a size to process at once."""
    return max(1, min(256, _BLOCK_BYTES // max(1, sample_bytes)))


def spoken_shape(shape: tuple[int, ...]) -> str:
    """Return a shape for messages, such as "28 x 28"."""
    return " x ".join(str(side) for side in shape) or "a single number"


_COLOR_TYPES: Final = {1: 0, 2: 4, 3: 2, 4: 6}
_ORDER: Final = ("", "train", "val", "test")
_MAX_SIDE: Final = 65_535
_MAX_ITEM_BYTES: Final = 8
_SMALL_BYTES: Final = 4096
_BLOCK_BYTES: Final = 4 * 2**20
_FAST: Final = 1
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_NOT_IN_NAMES: Final = re.compile(r'[\x00-\x1f<>:"/\\|?*\x7f\ud800-\udfff]')


def _scale(flat: npt.NDArray[np.float64]) -> tuple[Pixels, dict[int, str]]:
    finite = np.isfinite(flat)
    low = np.min(flat, axis=1, initial=np.inf, where=finite)
    high = np.max(flat, axis=1, initial=-np.inf, where=finite)
    faults = {
        int(i): "has no finite value"
        if not np.isfinite(low[i])
        else f"has only one value, {low[i]:g}, so it shows nothing"
        for i in np.flatnonzero(~(low < high))
    }
    bottom = np.where(low < high, low, 0.0)[:, None]
    top = np.where(low < high, high, 1.0)[:, None]
    flat = np.clip(np.nan_to_num(flat, nan=-np.inf, posinf=np.inf, neginf=-np.inf), bottom, top)
    # Halves keep the difference of two huge numbers finite.
    scaled = (flat / 2 - bottom / 2) / (top / 2 - bottom / 2)
    return np.rint(scaled * 255).astype(np.uint8), faults


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _folder_name(label: str, index: int) -> str:
    # A label such as "T-shirt/top" is not a folder name. Positions are unique within a split, so
    # two labels that give the same name may share a folder.
    name = _NOT_IN_NAMES.sub("_", label).strip(" .")[:80]
    return name if len(name.encode()) <= 240 and name else f"class_{index}"


def _file_name(part: Part, folders: list[str], position: int) -> str:
    name = f"{folders[part.class_indices[position]]}/{position:06d}.png"
    return f"{part.split}/{name}" if part.split else name


def _write_part(
    source: Path, part: Part, folders: list[str], root: Path, threads: int | None
) -> Iterator[int]:
    for index in np.unique(part.class_indices):
        (root / part.split / folders[index]).mkdir(parents=True, exist_ok=True)
    workers = threads or count_usable_cpus()
    start, total = 0, len(part.class_indices)

    def blocks() -> Iterator[tuple[int, Pixels]]:
        nonlocal start
        for block in part.blocks():
            if start + len(block) <= total:
                yield start, block
            start += len(block)

    def write(block: tuple[int, Pixels]) -> int:
        return _write_block(part, folders, root, *block)

    # Only as many blocks in memory as keep the workers busy.
    yield from map_ahead(write, blocks(), threads=workers, ahead=2 * workers + 1, name="unpack")
    if start != total:
        raise DataError(
            f"numbers of samples and labels differ in {part.name} of {source}: {start} samples, "
            f"{total} labels"
        )


def _write_block(part: Part, folders: list[str], root: Path, start: int, block: Pixels) -> int:
    for position, data in enumerate(encode_pngs(block), start):
        if position not in part.faults:
            path = f"{root}/{_file_name(part, folders, position)}"
            with open(path, "xb") as file:  # noqa: PTH123 - a Path costs more than the image
                file.write(data)
    return len(block)


def _records(parts: list[Part], names: tuple[str, ...], folders: list[str]) -> Iterator[Record]:
    for part in parts:
        for position, index in enumerate(part.class_indices):
            if position not in part.faults:
                path = _file_name(part, folders, position)
                yield Record(path=path, label=names[index], split=part.split)


def _used(parts: list[Part], names: tuple[str, ...]) -> tuple[str, ...]:
    used: set[int] = set()
    for part in parts:
        written = np.delete(part.class_indices, list(part.faults))
        used.update(int(index) for index in np.unique(written))
    return tuple(name for index, name in enumerate(names) if index in used)


def _remarks(parts: list[Part], names: tuple[str, ...]) -> list[str]:
    used = set(_used(parts, names))
    unused = [name for name in names if name not in used]
    if not unused:
        return []
    return [f"classes without a sample are excluded: {', '.join(unused)}"]
