"""Keeps a few pictures in the best checkpoint, for engines to be compared with Keras on."""

import numpy as np
import numpy.typing as npt

from cnnclf.data.store import Pixels
from cnnclf.errors import ImageError
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_comparison import MOST_PICTURES, save_reference


def keep_reference(classifier: Classifier, pixels: Pixels, rows: npt.NDArray[np.intp]) -> None:
    """Write some pictures of a dataset, and what the classifier says of them, into its bundle.

    Args:
        classifier: Computes with Keras.
        pixels: The decoded pictures.
        rows: Those to choose from, in the order of the dataset, so that all classes are met.
    """
    readable = rows[~np.isin(rows, np.fromiter(pixels.failed, np.intp, len(pixels.failed)))]
    count = min(MOST_PICTURES, len(readable))
    if not count:
        return
    chosen = readable[np.linspace(0, len(readable) - 1, count).round().astype(np.intp)]
    try:
        pictures = pixels.gather(chosen)
    except ImageError:  # it went bad since it was last read; engines draw pictures themselves
        return
    save_reference(classifier.directory, pictures, classifier.logits(pictures))
