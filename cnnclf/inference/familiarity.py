"""Whether an image is like anything a network learned: distances to training images in features.

A network is sure of the label of noise. In the features before its last layer, however, noise lies
far from all training images (Sun et al., "Out-of-distribution detection with deep nearest
neighbors", 2022). The distance is stated as the fraction of val images that lie at least as far.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_INDEX_BYTES = 1_800_000
MAX_INDEX_IMAGES = 4_000
_NEIGHBOR = 5  # the distance is that of the fifth nearest training image
_CHUNK = 512

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Compares features with those of training images.

    Args:
        index: Features of training images, scaled to length 1 and quantized, int8 [m, d].
        distances: Of val images, ascending, float32 [n].
    """

    index: npt.NDArray[np.int8]
    distances: npt.NDArray[np.float32]

    @property
    def features(self) -> int:
        """Number of features, d."""
        return int(self.index.shape[1])

    def measure(self, features: Features) -> npt.NDArray[np.float64]:
        """Return the familiarity of images.

        Args:
            features: Scaled to length 1, float32 [n, d].

        Returns:
            float64 [n], above 0, at most 1: the fraction of images at least as far, of the val
            images and itself. For images like those of val it is at most q in a fraction q.
        """
        found = find_distances(self.index, features)
        below = np.searchsorted(self.distances, found, side="left")
        count = len(self.distances)
        return np.asarray((1 + count - below) / (count + 1), np.float64)

    def find_limit(self, fraction: float) -> float:
        """Return the familiarity at or below which an image is unlike anything learned.

        Args:
            fraction: Of images like those of val, how many are below; with few val images, only
                what lies farther than all of them is.
        """
        return max(fraction, 1 / (len(self.distances) + 1))


def count_index(features: int) -> int:
    """Return how many training images an index has room for."""
    return max(_NEIGHBOR, min(MAX_INDEX_IMAGES, MAX_INDEX_BYTES // features))


def quantize(features: Features) -> npt.NDArray[np.int8]:
    """Quantize features: each image is scaled so that its largest value is 127."""
    largest = np.abs(features).max(axis=1, keepdims=True)
    return np.round(features / np.where(largest > 0, largest, 1) * 127).astype(np.int8)


def find_distances(index: npt.NDArray[np.int8], features: Features) -> npt.NDArray[np.float32]:
    """Return 1 minus the cosine to the fifth nearest training image, float32 [n]."""
    known = index.astype(np.float32)
    known /= np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12)
    # Averages of several views are shorter than 1.
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    rank = min(_NEIGHBOR, len(known))
    distances = [np.zeros(0, np.float32)]
    for start in range(0, len(features), _CHUNK):
        cosines = features[start : start + _CHUNK] @ known.T
        distances.append(1 - np.partition(cosines, -rank, axis=1)[:, -rank])
    return np.concatenate(distances)


def join_features(model: Any) -> Any:
    """Return a Keras model whose output is its logits, followed by features of length 1.

    Every engine computes one output, so logits and features share it.

    Args:
        model: Pixels [N, H, W, C] to logits [N, K]; its layers are shared.
    """
    import keras

    logits, features = _split_head(model)
    # Names of their own: those that Keras would give may be taken in a network from a file.
    exact = {"dtype": "float32"}
    features = keras.layers.Flatten(name="familiarity_flatten", **exact)(features)
    features = keras.layers.UnitNormalization(name="familiarity_scale", **exact)(features)
    joined = keras.layers.Concatenate(name="familiarity_join", **exact)([logits, features])
    return keras.Model(model.inputs[0], joined, name=model.name)


def _split_head(model: Any) -> tuple[Any, Any]:
    """Return the logits and the input of the last dense layer, also of nested models."""
    import keras

    logits = model.outputs[0]
    operation, node_index, _ = logits._keras_history  # noqa: SLF001 (Keras has no public name)
    inputs: Iterable[Any] = operation._inbound_nodes[node_index].input_tensors  # noqa: SLF001
    tensor = next(iter(inputs), logits)
    if isinstance(operation, keras.Model):
        inner = keras.Model(operation.inputs[0], list(_split_head(operation)))
        joined = inner(tensor)
        return joined[0], joined[1]
    # Without a dense layer at the end, the logits are the only features there are.
    return logits, tensor if isinstance(operation, keras.layers.Dense) else logits
