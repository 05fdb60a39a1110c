"""A sample of the images that a network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.preview import choose_rows
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import DataError, ImageError
from cnnclf.images.input_spec import InputSpec
from cnnclf.names import count_of
from cnnclf.progress import Progress


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Decoded training images.

    Args:
        pixels: uint8 [n, H, W, C].
        class_indices: int [n], in the labels of the network; -1 for classes that it lacks.
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
    dataset: Dataset,
    spec: InputSpec,
    *,
    labels: Sequence[str],
    count: int,
    seed: int,
    progress: Progress,
) -> TrainingImages:
    """Decode training images, about as many of each class.

    Args:
        dataset: Its train split is used.
        spec: The input of the network.
        labels: Of the network.
        count: Number of images at most.
        seed: Random seed.
        progress: Receives warnings about images that cannot be decoded.

    Raises:
        DataError: There are no training images, or none of them can be decoded.
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
    if not decoded:
        raise DataError(
            f"none of {count_of(len(chosen), 'training image')} of {dataset.place} can be decoded",
            "restore them, or give others: --data DATASET",
        )
    manifest, known = dataset.manifest, {label: index for index, label in enumerate(labels)}
    indices = np.array([known.get(label, -1) for label in dataset.labels], np.int64)
    return TrainingImages(
        np.stack(decoded),
        indices[manifest.class_indices[good]],
        [str(manifest.paths[row]) for row in good],
        len(rows),
    )
