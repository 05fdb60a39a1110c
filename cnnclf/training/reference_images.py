"""Keeps a few images in the best checkpoint, to compare engines with Keras on."""

import numpy as np
import numpy.typing as npt

from cnnclf.data.store import Pixels, keep_readable
from cnnclf.errors import ImageError
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_comparison import MAX_IMAGES, save_reference


def keep_reference(classifier: Classifier, pixels: Pixels, *, rows: npt.NDArray[np.intp]) -> None:
    """Write some images of a dataset, and their logits, into the bundle of a classifier.

    Args:
        classifier: Computes with Keras.
        pixels: The decoded images.
        rows: Rows to choose from, in the order of the dataset, so that all classes occur.
    """
    readable = keep_readable(rows, pixels.failed)
    count = min(MAX_IMAGES, len(readable))
    if not count:
        return
    chosen = readable[np.linspace(0, len(readable) - 1, count).round().astype(np.intp)]
    try:
        images = pixels.gather(chosen)
    except ImageError:  # it became unreadable since; engines draw images themselves
        return
    save_reference(classifier.directory, images, logits=classifier.logits(images))
