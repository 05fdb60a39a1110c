"""A sample of the images that a network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.preview import choose_rows
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import ImageError
from cnnclf.images.input_spec import InputSpec
from cnnclf.progress import Progress


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Decoded training images.

    Args:
        pixels: uint8 [n, H, W, C].
        class_indices: int [n].
        paths: n paths, as in the manifest.
        total: Number of training images of the dataset.
    """

    pixels: npt.NDArray[np.uint8]
    class_indices: npt.NDArray[np.int64]
    paths: Sequence[str]
    total: int

    @property
    def words(self) -> str:
        """How many of how many images were looked at."""
        count = len(self.paths)
        every = f"all {count:,}" if count == self.total else f"{count:,} of {self.total:,}"
        return f"{every} training images"


def sample_images(
    dataset: Dataset, spec: InputSpec, *, count: int, seed: int, progress: Progress
) -> TrainingImages:
    """Decode training images, about as many of each class.

    Args:
        dataset: Its train split is used.
        spec: The input of the network.
        count: Number of images at most.
        seed: Random seed.
        progress: Receives warnings about images that cannot be decoded.

    Raises:
        DataError: There are no training images.
    """
    rows = dataset.select_split("train")
    chosen = choose_rows(dataset, rows, seed=seed)[:count]
    pixels = open_pixels(dataset, spec, cache="none", progress=progress, rows=np.array(chosen))
    decoded, good = [], []
    with progress.task("decoding training images", len(chosen), unit="images") as task:
        for start in range(0, len(chosen), 32):
            for row in chosen[start : start + 32]:
                try:
                    decoded.append(pixels.gather(np.array([row]))[0])
                    good.append(row)
                except ImageError:
                    continue  # `pixels` has reported it
            task.advance(len(chosen[start : start + 32]))
    manifest = dataset.manifest
    return TrainingImages(
        np.stack(decoded) if decoded else np.zeros((0, *spec.shape), np.uint8),
        np.asarray(manifest.class_indices[good], np.int64),
        [str(manifest.paths[row]) for row in good],
        len(rows),
    )
