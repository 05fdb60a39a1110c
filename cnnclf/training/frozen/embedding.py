"""Features of a pretrained network for the images of a dataset, to compare their contents.

The network is EfficientNet-Lite0 with its ImageNet weights, which are installed with cnnclf.
"""

from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.files import hash_file
from cnnclf.images.input_spec import InputSpec
from cnnclf.models.backbones import Backbone, find_backbone
from cnnclf.models.trunk import build_backbone, find_stage_end
from cnnclf.models.weights.filling import load_weights
from cnnclf.models.weights.sources import WeightSource, find_weights
from cnnclf.packages import read_versions
from cnnclf.progress import Progress
from cnnclf.quality.network_features import NetworkFeatures
from cnnclf.runtime import setup_runtime
from cnnclf.training.frozen.feature_cache import BATCH, gather_batch
from cnnclf.training.frozen.feature_engines import (
    FrozenNetwork,
    choose_engine,
    foresee_engine,
    open_engine,
)

EMBEDDER: Final = "efficientnet-lite0"
_NETWORK_VERSION: Final = 1  # raise it when `_build_network` gives other features
_STAGES: Final = ("stage3", "stage4", "stage5", "stage6", "stage7")


def embed_images(
    dataset: Dataset, rows: npt.NDArray[np.intp], *, threads: int | None, progress: Progress
) -> NetworkFeatures:
    """Compute the features of images in a pretrained network.

    Args:
        dataset: Its files are read.
        rows: Which images, int [n].
        threads: At least 1; None means one per processor.
        progress: Receives the number of images.

    Returns:
        Float16 [N, 1280] and [N, 1488] for all N images of the dataset; 0 for those that are not
        among `rows` or cannot be decoded.

    Raises:
        MissingPackageError: The weights or the backend of Keras are not installed.
        RunError: The weights are damaged.
    """
    backbone = find_backbone(EMBEDDER)
    source = find_weights(backbone, "imagenet")
    size = backbone.default_size
    start = partial(setup_runtime, threads=threads, progress=progress)

    def build() -> Any:
        start()
        return _build_network(backbone, source, progress)

    name = foresee_engine() or choose_engine(start(), progress)
    network = FrozenNetwork(EMBEDDER, _identify(backbone, source), build)
    engine = open_engine(name, network, threads=threads, progress=progress)
    # All of the image, as a duplicate or a wrong label may show only at its border.
    spec = InputSpec(
        size, size, channels=3, fit="squash", interpolation="bicubic", bands=dataset.bands
    )
    pixels = open_pixels(dataset, spec, cache="none", rows=rows, threads=threads, progress=progress)
    features = NetworkFeatures(
        *(np.zeros((len(dataset), *shape), np.float16) for shape in engine.shapes)
    )
    with progress.task("computing features", len(rows), unit="images") as task:

        def write(start: int, outputs: list[npt.NDArray[Any]]) -> None:
            for values, found in zip(features, outputs, strict=True):
                values[rows[start : start + len(found)]] = found
            task.advance(len(outputs[0]))

        starts = range(0, len(rows), BATCH)
        batches = ((at, gather_batch(pixels, rows, start=at, failed={})) for at in starts)
        engine.run(batches, write)
    for row in pixels.failed:
        for values in features:
            values[row] = 0
    return features


def _build_network(backbone: Backbone, source: WeightSource, progress: Progress) -> Any:
    """Build the model from pixels to the features before its last layer, and those of stages."""
    import keras  # after the runtime, which silences it

    trunk = build_backbone(backbone, height=backbone.default_size, width=backbone.default_size)
    load_weights(trunk, source, progress=progress)
    pool = keras.layers.GlobalAveragePooling2D()
    ends = [find_stage_end(trunk, backbone, stage=name) for name in _STAGES]
    maps = [trunk.operations[end].output for end in ends]
    spreads = [keras.ops.std(each, axis=(1, 2)) for each in maps]
    stages = keras.ops.concatenate([pool(each) for each in maps] + spreads, axis=-1)
    return keras.Model(trunk.input, [pool(trunk.output), stages])


def _identify(backbone: Backbone, source: WeightSource) -> str:
    """Return whatever the features depend on."""
    weights = hash_file(source.path) if source.path is not None else ""
    versions = read_versions(["keras", "tensorflow"])
    return f"{_NETWORK_VERSION} {backbone} {weights} {_STAGES} {versions}"
