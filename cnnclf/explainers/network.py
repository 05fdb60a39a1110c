"""A network to explain: its logits from any engine, its graph from Keras, and a randomized copy."""

import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import MAX_DOCUMENT_BYTES, parse_json
from cnnclf.errors import RunError
from cnnclf.explainers.flat_graph import FlatGraph
from cnnclf.explainers.heads import Head, find_engine_head, find_head
from cnnclf.inference.classifier import Classifier
from cnnclf.models.anatomy import LayerRow
from cnnclf.models.graph_anatomy import plan_graph
from cnnclf.probabilities import softmax
from cnnclf.progress import Progress, Silent

_BATCH = 32
Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[Any]


def read_layer_names(path: Path) -> list[str]:
    """Return the names of all layers of a .keras file, without Keras; none if it has no such list.

    Args:
        path: The file, whose network may contain others.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            waiting: list[Any] = [parse_json(file.read(MAX_DOCUMENT_BYTES))]
    except (OSError, LookupError, RuntimeError, ValueError, zipfile.BadZipFile):
        return []
    names: list[str] = []
    while waiting:
        content = waiting.pop()
        if isinstance(content, dict):
            settings = content.get("config")
            if "class_name" in content and isinstance(settings, dict) and "name" in settings:
                names.append(str(settings["name"]))
            waiting += content.values()
        elif isinstance(content, list):
            waiting += content
    return names


class Network:
    """A trained network.

    Args:
        classifier: Its labels, its engine and its model.

    Attributes:
        progress: Receives tasks within one image.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.progress: Progress = Silent()
        self.labels = classifier.labels
        self._randomized: RandomizedNetwork | None = None
        self._ahead: list[tuple[Pixels, Features, Features]] = []

    @property
    def has_graph(self) -> bool:
        """Whether the layers can be seen: not in exports."""
        return self.classifier.source.model.format == "keras"

    @cached_property
    def graph(self) -> FlatGraph:
        """The layers, computed in float32.

        Raises:
            RunError: It is an export, which gives logits only.
        """
        from cnnclf.inference.engines.keras_engine import set_precision

        if not self.has_graph:
            kind = self.classifier.source.model.format
            raise RunError(
                f"{self.classifier.directory} is an export to {kind}, which gives logits but"
                " neither features nor gradients",
                "these need Keras: use the run it was exported from; --show occlusion and --show"
                " rise need only logits, and --show evidence a graph that OpenVINO opens, with one"
                " dense layer",
            )
        return FlatGraph(set_precision(self.classifier.model, "float32"))

    @cached_property
    def _engine_head(self) -> Head | None:
        return find_engine_head(self.classifier)

    def find_head(self) -> Head:
        """Find the head, in the graph of the engine where that is possible.

        Raises:
            RunError: It is an export without a linear head, or none that OpenVINO opens.
        """
        return self._engine_head or find_head(self.graph)

    @cached_property
    def anatomy(self) -> dict[str, LayerRow]:
        """The layers by name, with their receptive fields."""
        rows = plan_graph(self.graph.original).layers
        return {row.name.rpartition("/")[2]: row for row in rows}

    def logits(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Compute logits, float32 [n, K], with the engine."""
        batches = enumerate(pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH))
        return np.concatenate([logits for _, logits in self.classifier.stream(batches)])

    def look(self, pixels: Pixels) -> tuple[Features, Features]:
        """Return the last features [1, h, w, C] and the logits [1, K] of an image [H, W, C]."""
        for image, features, logits in self._ahead:
            if image is pixels:
                return features, logits
        features, logits = self.find_head().look(pixels[None])
        return features, logits

    def look_ahead(self, images: Sequence[Pixels]) -> Features:
        """Compute the logits [n, K] of images, and keep their last features for `look`.

        So evidence maps need no second pass through the network.
        """
        head, stacked = self.find_head(), np.stack(images)
        is_same = head.is_of_engine and head.precision == self.classifier.engine.precision
        if not (head.is_linear and is_same):
            return self.logits(stacked)
        features, logits = head.look(stacked)
        cut = [slice(at, at + 1) for at in range(len(images))]
        self._ahead = [
            (each, features[at], logits[at]) for each, at in zip(images, cut, strict=True)
        ]
        return logits

    def probabilities(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Turn logits into probabilities."""
        return self.classifier.probabilities(logits)

    def randomize(self, seed: int) -> "RandomizedNetwork":
        """Return the same network with random weights; the next call changes its weights.

        Raises:
            RunError: It is an export.
        """
        if self._randomized is None:
            self._randomized = RandomizedNetwork(self.classifier.model, self.progress)
        self._randomized.draw(seed)
        return self._randomized


class RandomizedNetwork:
    """A network with the layers of another one and random weights (Adebayo et al., 2018).

    Kernels are drawn as He et al. (2015) do, all other weights are those of an untrained network.

    Args:
        model: The trained network; not changed.
        progress: Receives tasks within one image.
    """

    def __init__(self, model: Any, progress: Progress) -> None:
        import keras

        from cnnclf.inference.engines.keras_engine import set_precision

        with keras.device("cpu"):
            self._trained = set_precision(model, "float32")
            self._copy = model.__class__.from_config(self._trained.get_config())
        self._drawn: int | None = None
        self.progress = progress
        self.graph = FlatGraph(self._copy)
        self.labels = tuple(map(str, range(int(self._copy.output_shape[-1]))))
        self.has_graph = True

    def find_head(self) -> Head:
        """Find the head, with the weights as they are now."""
        return find_head(self.graph)

    def look(self, pixels: Pixels) -> tuple[Features, Features]:
        """Compute the last features and the logits of an image, with the weights as they are."""
        features, logits = self.find_head().look(pixels[None])
        return features, logits

    def draw(self, seed: int) -> None:
        """Draw all weights with a random seed."""
        if seed != self._drawn:
            rng = np.random.default_rng(seed)
            self._copy.set_weights([_draw(each, rng) for each in self._trained.weights])
            self._drawn = seed

    def logits(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Compute logits, float32 [n, K]."""
        return self.graph.compute([self.graph.logits], pixels)[0]

    def probabilities(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Turn logits into probabilities."""
        return softmax(np.asarray(logits, np.float64))


def _draw(variable: Any, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw a kernel; reset biases and batch statistics; keep everything else."""
    value = np.asarray(variable)
    name = variable.name
    if name.endswith("kernel"):
        fan_in = value.size // value.shape[-1]
        if "depthwise" in name:  # each filter sees one channel
            fan_in = int(np.prod(value.shape[:2]))
        return rng.normal(0, np.sqrt(2 / max(fan_in, 1)), value.shape).astype(value.dtype)
    if name in {"bias", "beta", "moving_mean"}:
        return np.zeros_like(value)
    if name == "moving_variance" or (name == "gamma" and value.ndim == 1 and value.max() > 1e-3):
        return np.ones_like(value)
    return value
