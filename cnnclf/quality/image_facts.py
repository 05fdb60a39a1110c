"""What each image file contains, measured once for all checks; files are only read.

Each file is read and decoded completely, side by side. 1.2 kB are kept of each image: its
numbers, and 32 x 32 gray pixels.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.bounded import MAX_IMAGE_BYTES, check_regular, read_bytes
from cnnclf.data.manifest import Dataset, ImportedFile
from cnnclf.errors import ImageError
from cnnclf.hardware import count_usable_cpus
from cnnclf.images.decode import ReducedImage
from cnnclf.processes import map_in_processes
from cnnclf.progress import Progress
from cnnclf.quality.perceptual_hash import SIDE, Gray
from cnnclf.quality.sharpness import measure_blur

REDUCED_SIDE: Final = 256
"""Longer side of the images that are examined: what a network sees, not what a camera stored."""

_CHUNK: Final = 16
_CHUNKS_AHEAD: Final = 4

# Fewer images are measured before a process has been started.
_FIRST: Final = 1024 // _CHUNK
_LEVELS: Final = np.stack([np.arange(256.0), np.arange(256.0) ** 2], axis=1)
NUMBERS: Final = np.dtype(
    [
        ("width", "i4"),
        ("height", "i4"),
        ("size_bytes", "i8"),
        ("jpeg_quality", "i2"),  # -1 for none
        ("is_transparent", "?"),
        ("is_changed", "?"),
        ("is_usable", "?"),
        ("contrast", "f4"),  # standard deviation of the strongest channel
        ("dark_end", "f4"),  # 1st percentile of gray
        ("bright_end", "f4"),  # 99th
        ("blur", "f4"),
        ("red", "f4"),
        ("green", "f4"),
        ("blue", "f4"),
        ("file", "S16"),  # of the bytes
        ("look", "S16"),  # of what is measured: images with the same pixels share it
        ("changed_s", "f8"),  # when the file was last changed, seconds since the epoch
        ("taken_s", "f8"),  # when EXIF says that it was taken; NaN if it does not
    ]
)
"""What is measured of each image."""


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """The measurements of all images of a dataset, by row of the manifest.

    Args:
        numbers: One record for each row.
        gray: uint8 [N, 32, 32].
        modes: Pillow's mode; "" if the file cannot be used.
        cameras: Maker and model, or "".
        turns: How EXIF turns the image, in words, or "".
        mismatches: That the name belongs to another format than the content, or "".
        missing: Rows whose file is gone.
        damaged: Why a file cannot be read or decoded, by row.
    """

    numbers: npt.NDArray[Any]
    gray: Gray
    modes: list[str]
    cameras: list[str]
    turns: list[str]
    mismatches: list[str]
    missing: list[int] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def usable(self) -> npt.NDArray[np.intp]:
        """Rows of the images that could be decoded, ascending."""
        return np.flatnonzero(self.numbers["is_usable"])

    def put(self, start: int, other: "ImageFacts") -> None:
        """Take over the measurements of other images as those from row `start` on."""
        rows = slice(start, start + len(other))
        self.numbers[rows], self.gray[rows] = other.numbers, other.gray
        self.modes[rows], self.cameras[rows] = other.modes, other.cameras
        self.turns[rows], self.mismatches[rows] = other.turns, other.mismatches
        self.missing.extend(start + row for row in other.missing)
        self.damaged.update({start + row: reason for row, reason in other.damaged.items()})


def measure_images(dataset: Dataset, *, threads: int | None, progress: Progress) -> ImageFacts:
    """Read and measure every image of a dataset.

    Args:
        dataset: Its files are only read.
        threads: At least 1; None means one per processor. Of many images they are processes.
        progress: Receives the number of images that were measured.
    """
    count = len(dataset)
    facts = _start_facts(count)
    threads = threads or count_usable_cpus()
    chunks = map_in_processes(
        partial(_measure_files, dataset.reducer),
        dataset.list_files(range(count), together=_CHUNK),
        processes=threads,
        ahead=_CHUNKS_AHEAD * threads,
        name="measure",
        first=_FIRST,
    )
    done = 0
    with closing(chunks), progress.task("examining images", count, unit="images") as task:
        for chunk in chunks:
            facts.put(done, chunk)
            done += len(chunk)
            task.advance(len(chunk))
    return facts


def _start_facts(count: int) -> ImageFacts:
    modes, cameras, turns, mismatches = ([""] * count for _ in range(4))
    gray = np.zeros((count, SIDE, SIDE), np.uint8)
    return ImageFacts(np.zeros(count, NUMBERS), gray, modes, cameras, turns, mismatches)


def _measure_files(reduce: Callable[..., ReducedImage], files: list[ImportedFile]) -> ImageFacts:
    """Measure a few images; the first one is number 0 of what is returned."""
    facts = _start_facts(len(files))
    for at, (path, digest) in enumerate(files):
        try:
            content = read_bytes(path, max_bytes=MAX_IMAGE_BYTES)
            changed_s = check_regular(path).st_mtime
            reduced = reduce(content, REDUCED_SIDE, name=path.name)
        except FileNotFoundError:
            facts.missing.append(at)
        except ImageError as error:
            facts.damaged[at] = error.message
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            facts.damaged[at] = f"cannot be read: {reason}"
        else:
            _fill(facts, at, content=content, reduced=reduced, digest=digest)
            facts.numbers["changed_s"][at] = changed_s
    return facts


def _fill(
    facts: ImageFacts, row: int, *, content: bytes, reduced: ReducedImage, digest: str
) -> None:
    image = reduced.image
    gray = image if image.mode == "L" else image.convert("L")
    is_small = min(gray.size) < SIDE
    way = Image.Resampling.BILINEAR if is_small else Image.Resampling.BOX
    facts.gray[row] = np.asarray(gray.resize((SIDE, SIDE), way, reducing_gap=2.0))
    histogram = np.cumsum(gray.histogram())
    colors = np.array(image.histogram(), np.float64).reshape(-1, 256) / histogram[-1]
    means, squares = (colors @ _LEVELS).T
    spread = np.sqrt(np.maximum(squares - means**2, 0)).max()
    sha = hashlib.sha256(content).hexdigest()
    words = f"{reduced.width} {reduced.height} {reduced.is_transparent} {means.tolist()}"
    pixels = hashlib.sha256(words.encode() + facts.gray[row].tobytes())
    quality = reduced.facts.jpeg_quality
    facts.numbers[row] = (
        reduced.width,
        reduced.height,
        len(content),
        -1 if quality is None else quality,
        reduced.is_transparent,
        sha != digest,
        True,
        spread,
        np.searchsorted(histogram, 0.01 * histogram[-1]),
        np.searchsorted(histogram, 0.99 * histogram[-1]),
        measure_blur(gray),
        *(means if len(means) == 3 else means.repeat(3)),
        sha[:16].encode(),
        pixels.hexdigest()[:16].encode(),
        0.0,
        _read_time(reduced.facts.taken),
    )
    facts.modes[row] = reduced.mode
    facts.cameras[row] = reduced.facts.camera
    facts.turns[row] = reduced.facts.turn
    facts.mismatches[row] = reduced.mismatch


def _read_time(text: str) -> float:
    """Read a time of EXIF, such as 2024:05:01 12:30:00."""
    if not text:  # an error takes as long as all colors of an image
        return float("nan")
    try:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")
