"""The values that become black and white in images of more than 8 bits."""

from typing import Final

import numpy as np

from cnnclf.data.manifest import Dataset
from cnnclf.errors import ImageError
from cnnclf.images.decode import count_16_bit_values

ValueRange = tuple[float, float]

_MAX_IMAGES: Final = 256
_PERCENTILE: Final = 99.99
_FULL_BITS: Final = 16
_LEAST_BITS: Final = 8


def plan_range(
    setting: str | ValueRange, dataset: Dataset, *, reasons: dict[str, str]
) -> ValueRange | None:
    """Resolve the setting `data.range`.

    "auto" takes the smallest range from 0 of 8 to 16 bits that holds 99.99 % of the pixels of the
    training images of 16 bits, of which at most 256 are read, spread evenly. A camera of 12 bits is
    then not reduced to the few gray levels that 12 of 16 bits are in 8.

    Args:
        setting: As the user gave it.
        dataset: What to train on.
        reasons: Receives the reason, if there is something to choose.

    Returns:
        The range for the input spec; None for that of the type.
    """
    if not isinstance(setting, str):
        return setting
    found = _find_bits(dataset) if setting == "auto" else None
    if found is None:
        return None
    bits, images, high = found
    reasons["data.range"] = (
        f"99.99 % of the pixels of {images:,} training images of 16 bits are at most {high:,}, "
        f"which needs {bits} bits"
    )
    if bits == _FULL_BITS:
        return None
    return 0.0, 2.0**bits - 1


def _find_bits(dataset: Dataset) -> tuple[int, int, int] | None:
    """Return the bits that training images of 16 bits need, how many were read, and the value."""
    manifest = dataset.manifest
    rows = manifest.select("train")
    rows = rows if len(rows) else np.arange(len(manifest))
    deep = [row for row in rows.tolist() if "16-bit" in manifest.notes[row]]
    chosen = np.linspace(0, len(deep) - 1, min(len(deep), _MAX_IMAGES)).round().astype(int)
    total, images = np.zeros(2**_FULL_BITS, np.int64), 0
    for at in chosen.tolist():
        try:
            counts = count_16_bit_values(dataset.file(deep[at]), bands=dataset.bands)
        except ImageError:
            continue  # reported when it is decoded
        if counts is not None:
            total, images = total + counts, images + 1
    if not images:
        return None
    held = np.cumsum(total) >= _PERCENTILE / 100 * total.sum()
    high = int(np.argmax(held))
    return max(_LEAST_BITS, high.bit_length()), images, high
