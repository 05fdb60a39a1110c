"""How many bits the images of a dataset use that have more than 8."""

from typing import TYPE_CHECKING, Final

import numpy as np

from cnnclf.errors import ImageError
from cnnclf.images.decode import count_16_bit_values

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset

ValueRange = tuple[float, float]

_MAX_IMAGES: Final = 256
_PERCENTILE: Final = 99.99
_FULL_BITS: Final = 16
_LEAST_BITS: Final = 8


def find_bits(dataset: "Dataset") -> tuple[int, int, int] | None:
    """Find the least bits, 8 to 16, that hold 99.99 % of the pixels of images of 16 bits.

    Args:
        dataset: At most 256 of its training images are read, spread evenly; of all images if none
            is for training.

    Returns:
        The bits, how many images were read, and the value that 99.99 % do not exceed; None if no
        image has 16 bits.
    """
    manifest = dataset.manifest
    rows = manifest.training_rows()
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


def to_range(bits: int) -> ValueRange | None:
    """Return the values that become black and white; None for those of the type."""
    return None if bits == _FULL_BITS else (0.0, 2.0**bits - 1)
