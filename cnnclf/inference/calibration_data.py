"""What `cnnclf calibrate` measured on val, in a file of the bundle: for sets and familiarity."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import is_inside, read_bytes
from cnnclf.errors import RunError
from cnnclf.files import atomic_path
from cnnclf.inference.familiarity import Familiarity
from cnnclf.inference.label_sets import METHODS, LabelSets, fit_sets

FIELD = "calibration"
"""Of classifier.json: file, sha256, images, features."""

_AGAIN = "cnnclf calibrate {} measures again"
_MAX_BYTES = 8 << 20
_MAX_IMAGES = 20_000  # a sample of more images promises the same


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Scores of val images, and the index of training images.

    Args:
        truth: Classes of val images, int32 [n].
        scores: Of their true labels by method, float32 [n] each; see `score_labels`.
        familiarity: None if the features or the training images were not there.
    """

    truth: npt.NDArray[np.int32]
    scores: dict[str, npt.NDArray[np.float32]]
    familiarity: Familiarity | None = field(default=None)

    def fit_sets(self, *, method: str, level: float, classes: int) -> LabelSets:
        """Find the sets of a level; see `label_sets.fit_sets`."""
        return fit_sets(
            self.scores[method], self.truth, method=method, level=level, classes=classes
        )


def save_calibration(directory: Path, data: CalibrationData) -> dict[str, Any]:
    """Write the file, under a name of its own: until classifier.json names it, nothing changes.

    Args:
        directory: The bundle.
        data: At most 20,000 images are kept.

    Returns:
        The entry of classifier.json.
    """
    kept = np.random.default_rng(0).permutation(len(data.truth))[:_MAX_IMAGES]
    arrays: dict[str, npt.NDArray[Any]] = {"truth": data.truth[kept].astype(np.int32)}
    arrays |= {method: data.scores[method][kept] for method in METHODS}
    if data.familiarity is not None:
        arrays["index"] = data.familiarity.index
        arrays["distances"] = data.familiarity.distances[:: 1 + len(kept) // _MAX_IMAGES]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    name = f"calibration-{checksum[:12]}.npz"
    with atomic_path(directory / name) as temporary:
        temporary.write_bytes(buffer.getvalue())
    features = 0 if data.familiarity is None else data.familiarity.features
    return {"file": name, "sha256": checksum, "images": len(kept), "features": features}


def remove_other_calibrations(directory: Path, name: str) -> None:
    """Remove the files of earlier calibrations, which classifier.json no longer names."""
    for file in directory.glob("calibration-*.npz"):
        if file.name != name:
            file.unlink(missing_ok=True)


def load_calibration(content: Mapping[str, Any], directory: Path) -> CalibrationData | None:
    """Load what was measured; None for a bundle that was not calibrated.

    Raises:
        RunError: The file is missing or damaged.
    """
    entry = content.get(FIELD)
    if entry is None:
        return None
    hint = _AGAIN.format(directory)
    if not is_inside(entry.get("file")):
        raise RunError(f"{directory} is damaged: no file name in {FIELD!r}: {entry!r}", hint)
    path = directory / entry["file"]
    try:
        data = read_bytes(path, max_bytes=_MAX_BYTES)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", hint) from error
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise RunError(f"{path} is damaged: its content does not match the checksum", hint)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            familiarity = None
            if "index" in arrays:
                familiarity = Familiarity(arrays["index"], arrays["distances"])
            scores = {method: arrays[method] for method in METHODS}
            return CalibrationData(arrays["truth"], scores, familiarity)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged: {error}", hint) from error


def can_compare(content: Mapping[str, Any]) -> bool:
    """Return whether a model has features: exports do that remain models of Keras with logits."""
    return content.get("format", "keras") == "keras" and content.get("output") == "logits"


def count_features(content: Mapping[str, Any]) -> int:
    """Return how many features images are compared by; 0 if the bundle has no index."""
    entry = content.get(FIELD) or {}
    features = entry.get("features", 0)
    return features if type(features) is int and features > 0 else 0
