"""Measurements of a dataset on disk: while its files stay as they are, they are read only once.

The name is a hash of everything that the numbers depend on: the paths, sizes and times of all
files, which of their channels and values are used, and the programs that decode them. A damaged
file of the cache is measured again.
"""

import hashlib
import io
import json
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import check_regular, parse_json, read_bytes
from cnnclf.data.cache import cache_dir
from cnnclf.data.manifest import Dataset
from cnnclf.errors import CnnclfError
from cnnclf.files import atomic_path, write_json_atomic
from cnnclf.images.input_spec import DECODER_VERSION
from cnnclf.progress import Progress
from cnnclf.quality.image_facts import NUMBERS, ImageFacts, measure_images
from cnnclf.quality.network_features import NetworkFeatures
from cnnclf.quality.twins import NearPairs

_VERSION: Final = 3
_LISTS: Final = ("modes", "cameras", "turns", "mismatches", "missing", "damaged")
_PAIRS: Final = ("rows", "edges", "forms")
_DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError)


def open_facts(
    dataset: Dataset, *, threads: int | None, progress: Progress
) -> tuple[ImageFacts, Path]:
    """Measure the images of a dataset, unless that was done before and no file has changed.

    Args:
        dataset: Its files are read, and never written to.
        threads: At least 1; None means one per processor.
        progress: Receives the number of files, or that nothing had to be read.

    Returns:
        The measurements, and the file in the cache that what is computed from them is named after.
    """
    place = cache_dir() / "checks" / f"{_hash_state(dataset)}.npz"
    facts = _load_facts(place, len(dataset))
    if facts is not None:
        progress.note(f"the images are unchanged since they were examined: using {place}")
        return facts, place
    facts = measure_images(dataset, threads=threads, progress=progress)
    lists = {name: getattr(facts, name) for name in _LISTS}
    _save(place, numbers=facts.numbers, gray=facts.gray, lists=_to_bytes(lists))
    return facts, place


def load_pairs(place: Path, *, mirrored: bool) -> NearPairs | None:
    """Load the pairs of almost equal images that `save_pairs` stored; None if there are none."""
    try:
        with _open(_name_pairs(place, mirrored)) as stored:
            rows, edges, forms = (stored[name] for name in _PAIRS)
            return NearPairs(rows, edges, forms.tolist())
    except _DAMAGE:
        return None


def save_pairs(place: Path, pairs: NearPairs, *, mirrored: bool) -> None:
    """Store pairs of almost equal images beside the measurements they come from."""
    columns = {name: np.array(getattr(pairs, name)) for name in _PAIRS}
    _save(_name_pairs(place, mirrored), **columns)


def load_features(place: Path, count: int) -> NetworkFeatures | None:
    """Load the features that `save_features` stored; None if there are none for all images."""
    try:
        with _open(place.with_suffix(".features.npz")) as stored:
            features = NetworkFeatures(**{name: stored[name] for name in NetworkFeatures._fields})
    except _DAMAGE:
        return None
    is_whole = all(each.dtype == np.float16 and len(each) == count for each in features)
    return features if is_whole else None


def save_features(place: Path, features: NetworkFeatures) -> None:
    """Store features of all images beside their measurements."""
    _save(place.with_suffix(".features.npz"), **features._asdict())


def save_errors(dataset: Dataset, errors: dict[str, int]) -> None:
    """Remember the number of findings of severity error by check, for the plans of training."""
    with suppress(OSError, CnnclfError):  # a convenience
        write_json_atomic(_name_errors(dataset), errors)


def load_errors(dataset: Dataset) -> dict[str, int] | None:
    """Return the findings of the last check of a dataset; None if it was never checked."""
    try:
        found = parse_json(read_bytes(_name_errors(dataset)))
        return {str(name): int(count) for name, count in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _hash_state(dataset: Dataset) -> str:
    facts = [_VERSION, DECODER_VERSION, version("pillow"), NUMBERS, dataset.kind, dataset.bands]
    facts.append(dataset.value_range)
    key = hashlib.sha256(repr(facts).encode())
    for row, digest in enumerate(dataset.manifest.sha256):
        path = dataset.file(row)
        try:
            found = check_regular(path)
            state = f"{found.st_size} {found.st_mtime_ns}"
        except (OSError, ValueError):
            state = "gone"
        key.update(f"{path}\0{digest}\0{state}\0".encode("utf-8", "surrogateescape"))
    return key.hexdigest()[:32]


def _load_facts(place: Path, count: int) -> ImageFacts | None:
    try:
        with _open(place) as stored:
            lists: dict[str, Any] = json.loads(stored["lists"].tobytes())
            numbers, gray = stored["numbers"], stored["gray"]
    except _DAMAGE:
        return None
    if len(numbers) != count or numbers.dtype != NUMBERS or set(lists) != set(_LISTS):
        return None
    lists["damaged"] = {int(row): str(reason) for row, reason in lists["damaged"].items()}
    return ImageFacts(numbers, gray, **lists)


def _open(place: Path) -> Any:
    # np.load would leave a damaged file open
    return np.load(io.BytesIO(place.read_bytes()))


def _to_bytes(value: object) -> npt.NDArray[np.uint8]:
    return np.asarray(bytearray(json.dumps(value).encode()), np.uint8)


def _save(place: Path, **arrays: Any) -> None:
    """Write arrays; a cache that cannot be written makes the next check slower, no more."""
    with suppress(OSError, CnnclfError), atomic_path(place) as partial:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        partial.write_bytes(buffer.getbuffer())


def _name_pairs(place: Path, mirrored: bool) -> Path:
    return place.with_suffix(".mirrored-pairs.npz" if mirrored else ".pairs.npz")


def _name_errors(dataset: Dataset) -> Path:
    return cache_dir() / "checks" / f"{dataset.fingerprint[:32]}.json"
