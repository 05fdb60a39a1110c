"""Reference images, and the comparison of an engine's logits with those of Keras.

A bundle may contain a few images of its dataset; without them, synthetic images are used.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnclf.bounded import check_regular
from cnnclf.errors import RunError
from cnnclf.files import atomic_path
from cnnclf.inference.engines.engine import Logits, Pixels
from cnnclf.inference.engines.engine_table import Tolerance
from cnnclf.runs.run_names import REFERENCE_FILE

MAX_IMAGES = 8

_MAX_BYTES = 1 << 20
_SEED = 20
# If the range of the logits is below this, all labels are practically equally likely.
_MIN_SPREAD = 1e-3


def save_reference(directory: Path, pixels: Pixels, *, logits: Logits | None = None) -> None:
    """Save a few images with a model, at most 8 and less than 1 MB.

    Args:
        directory: The bundle, or a converted model in the engine cache.
        pixels: uint8 [n, H, W, C] of the input spec.
        logits: The logits of Keras, float32 [n, K]; None if they are not computed yet.
    """
    for count in range(min(len(pixels), MAX_IMAGES), 0, -1):
        arrays = {"pixels": pixels[:count]}
        if logits is not None:
            arrays["logits"] = np.asarray(logits[:count], np.float32)
        with atomic_path(directory / REFERENCE_FILE) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)
            if count > 1 and temporary.stat().st_size > _MAX_BYTES:
                continue
        return


def read_reference(directory: Path) -> tuple[Pixels, Logits | None] | None:
    """Read the reference images of a model; None if there are none.

    Raises:
        RunError: The file is damaged.
    """
    path = directory / REFERENCE_FILE
    try:
        check_regular(path)
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["pixels"], arrays.get("logits")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged: {error}", f"delete {path}") from error


def draw_reference(shape: tuple[int, int, int]) -> Pixels:
    """Draw synthetic images: gradients, waves and noise, dark and bright; always the same ones.

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
    for number in range(MAX_IMAGES):
        slope = rng.uniform(-1, 1, (2, channels))
        waves = np.sin(rng.uniform(2, 30, channels) * (x * slope[0] + y * slope[1]) * np.pi)
        noise = rng.normal(0, 1, (height, width, channels))
        part = number / (MAX_IMAGES - 1)
        values = 128 + 90 * ((1 - part) * waves + part * noise) + rng.uniform(-60, 60, channels)
        images.append(np.clip(values, 0, 255).astype(np.uint8))
    return np.stack(images)


@dataclass(frozen=True)
class Agreement:
    """The result of a comparison with Keras.

    Args:
        difference: Largest absolute difference as a fraction of the range of Keras' logits.
        agreement: Fraction of images with the same best label, 0..1.
        images: Number of images compared.
        is_close: Whether both are within the tolerance.
    """

    difference: float
    agreement: float
    images: int
    is_close: bool


def compare_logits(logits: Logits, expected: Logits, *, tolerance: Tolerance) -> Agreement:
    """Compare the logits of an engine with those of Keras for the same images.

    Args:
        logits: float32 [n, K].
        expected: float32 [n, K], of Keras.
        tolerance: How far they may differ.
    """
    numbers = expected[np.isfinite(expected)]
    spread = max(float(np.ptp(numbers)) if len(numbers) else 0.0, _MIN_SPREAD)
    distance = np.abs(logits.astype(np.float64) - expected)
    # NaN in Keras' logits, too, is not a fault of the engine.
    distance = np.where(np.isnan(logits) & np.isnan(expected), 0.0, distance)
    difference = float(np.nan_to_num(distance.max(), nan=np.inf, posinf=np.inf)) / spread
    ranked = np.sort(expected, axis=1)
    is_tie = (
        ranked[:, -1] - ranked[:, -2] <= 2 * tolerance.difference * spread
        if expected.shape[1] > 1
        else np.ones(len(expected), bool)
    )
    is_same = (logits.argmax(axis=1) == expected.argmax(axis=1)) | is_tie
    agreement = float(is_same.mean())
    is_close = difference <= tolerance.difference and agreement >= tolerance.agreement
    return Agreement(difference, agreement, len(expected), is_close)
