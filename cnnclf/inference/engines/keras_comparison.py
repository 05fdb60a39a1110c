"""A few images that an engine is tried on, and the comparison with what Keras says of them.

A bundle may hold some of its training's images; for one without, images are drawn.
"""

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import RunError
from cnnclf.files import atomic_path
from cnnclf.inference.engines.engine import Logits, Pixels
from cnnclf.inference.engines.engine_table import Tolerance
from cnnclf.runs import REFERENCE_FILE

MOST_IMAGES = 8

_MOST_BYTES = 1 << 20
_SEED = 20
# Below this spread of logits all labels are as good as equally likely.
_LEAST_SPREAD = 1e-3


def save_reference(directory: Path, pixels: Pixels, logits: Logits | None = None) -> None:
    """Keep a few images in a bundle, at most 8 and below 1 MB.

    Args:
        directory: The bundle, or the form an engine keeps of it.
        pixels: uint8 [n, H, W, C] of the input spec.
        logits: What Keras says of them, float32 [n, K]; None if nobody asked.
    """
    for count in range(min(len(pixels), MOST_IMAGES), 0, -1):
        arrays = {"pixels": pixels[:count]}
        if logits is not None:
            arrays["logits"] = np.asarray(logits[:count], np.float32)
        with atomic_path(directory / REFERENCE_FILE) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)
            if count > 1 and temporary.stat().st_size > _MOST_BYTES:
                continue
        return


def read_reference(directory: Path) -> tuple[Pixels, Logits | None] | None:
    """Read the images of a bundle or form; None if there are none.

    Raises:
        RunError: They are damaged.
    """
    path = directory / REFERENCE_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["pixels"], arrays.get("logits")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged: {error}", f"delete {path}") from error


def draw_reference(shape: tuple[int, int, int]) -> Pixels:
    """Draw images of all kinds: noise, slopes, patches, dark and bright; always the same ones.

    Args:
        shape: (height, width, channels).

    Returns:
        uint8 [8, height, width, channels].
    """
    height, width, channels = shape
    rng = np.random.default_rng(_SEED)
    y = np.linspace(0, 1, height)[:, None, None]
    x = np.linspace(0, 1, width)[None, :, None]
    images = []
    for number in range(MOST_IMAGES):
        slope = rng.uniform(-1, 1, (2, channels))
        waves = np.sin(rng.uniform(2, 30, channels) * (x * slope[0] + y * slope[1]) * np.pi)
        noise = rng.normal(0, 1, (height, width, channels))
        part = number / (MOST_IMAGES - 1)
        values = 128 + 90 * ((1 - part) * waves + part * noise) + rng.uniform(-60, 60, channels)
        images.append(np.clip(values, 0, 255).astype(np.uint8))
    return np.stack(images)


@dataclass(frozen=True)
class Agreement:
    """What a comparison with Keras gave.

    Args:
        difference: Largest |difference| of logits as a part of the spread of Keras' logits.
        agreement: Share of images with the same best label, 0..1.
        images: How many were compared.
        is_close: Whether that is within the tolerance.
    """

    difference: float
    agreement: float
    images: int
    is_close: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def compare_logits(ours: Logits, expected: Logits, tolerance: Tolerance) -> Agreement:
    """Compare logits of the same images, float32 [n, K] both."""
    numbers = expected[np.isfinite(expected)]
    spread = max(float(np.ptp(numbers)) if len(numbers) else 0.0, _LEAST_SPREAD)
    distance = np.abs(ours.astype(np.float64) - expected)
    # What is not a number in Keras either is not the engine's doing.
    distance = np.where(np.isnan(ours) & np.isnan(expected), 0.0, distance)
    difference = float(np.nan_to_num(distance.max(), nan=np.inf, posinf=np.inf)) / spread
    ranked = np.sort(expected, axis=1)
    is_tie = (
        ranked[:, -1] - ranked[:, -2] <= 2 * tolerance.difference * spread
        if expected.shape[1] > 1
        else np.ones(len(expected), bool)
    )
    is_same = (ours.argmax(axis=1) == expected.argmax(axis=1)) | is_tie
    agreement = float(is_same.mean())
    is_close = difference <= tolerance.difference and agreement >= tolerance.agreement
    return Agreement(difference, agreement, len(expected), is_close)
