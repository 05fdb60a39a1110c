"""A Keras network as one flat graph: models nested in it are unfolded.

Explanations need the tensors between the layers. In a model that contains models, these belong to
other graphs than the whole, and any attempt to connect them fails. So the graph is traced once
over the same layers: weights are shared, and every tensor lies between the pixels and the logits.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import UsageError
from cnnclf.names import name_some, suggest
from cnnclf.runtime.gradients import Arrays, Gradient, build_gradient

_BATCH = 32
_FEW = 64  # images that are computed step by step: tracing a graph takes seconds
_GRADIENT_BATCH = 8  # gradients keep the outputs of all layers


@dataclass(frozen=True, eq=False)
class GraphStep:
    """One operation of the graph.

    Args:
        operation: A Keras layer or operation.
        inputs: Symbolic tensors.
        output: Symbolic tensor.
    """

    operation: Any
    inputs: tuple[Any, ...]
    output: Any

    @property
    def name(self) -> str:
        """Its name in the network."""
        return str(self.operation.name)

    @property
    def kind(self) -> str:
        """The class of the layer, such as Conv2D."""
        return type(self.operation).__name__

    @property
    def is_spatial(self) -> bool:
        """Whether its output has places: [n, h, w, C]."""
        return len(self.output.shape) == 4

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution of any kind."""
        return self.is_spatial and "Conv" in self.kind


class FlatGraph:
    """The graph of a network from pixels 0..255 to logits.

    Args:
        model: A Keras model with one input and one output; its layers are shared.
    """

    def __init__(self, model: Any) -> None:
        self.original = model
        self.pixels, self.steps = _trace(model)
        self.logits = self.steps[-1].output
        self._producers = {id(step.output): step for step in self.steps}
        self._models: dict[tuple[int, ...], Any] = {}
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._gradients: dict[tuple[int, ...], Gradient] = {}

    def producer(self, tensor: Any) -> GraphStep | None:
        """Return the step that computes a tensor; None for the pixels."""
        return self._producers.get(id(tensor))

    @cached_property
    def spatial_steps(self) -> list[GraphStep]:
        """All steps with places, from the pixels to the features."""
        return [step for step in self.steps if step.is_spatial]

    @cached_property
    def convolutions(self) -> list[GraphStep]:
        """All convolutions, in order."""
        return [step for step in self.steps if step.is_convolution]

    def find_layer(self, name: str) -> GraphStep:
        """Find a layer whose output has places.

        Raises:
            UsageError: There is no such layer, or its output has no places.
        """
        names = [step.name for step in self.spatial_steps]
        for step in self.steps:
            if step.name == name:
                if step.is_spatial:
                    return step
                raise UsageError(
                    f"--layer {name}: its output has no places any more",
                    f"layers with places: {name_some(names[::-1])}",
                )
        raise UsageError(
            f"--layer {name}: the network has no layer of this name",
            suggest(name, names, count=3, cutoff=0.3) or f"layers: {name_some(names[::-1])}",
        )

    def compute(self, tensors: Sequence[Any], pixels: npt.NDArray[Any]) -> Arrays:
        """Compute tensors of the graph.

        Args:
            tensors: Symbolic tensors of the graph, such as `step.output`.
            pixels: [n, H, W, C], 0..255, n >= 1.

        Returns:
            float32 arrays, one per tensor, [n, ...].
        """
        import keras

        key = tuple(map(id, tensors))
        if key not in self._models:
            self._models[key] = keras.Model(self.pixels, list(tensors))
            self._models[key].compile(jit_compile=False)  # XLA halves the speed on a CPU
        self._seen[key] += len(pixels)
        is_many = self._seen[key] > _FEW
        model = self._models[key]
        run = model.predict_on_batch if is_many else partial(model, training=False)
        parts = [
            [np.asarray(each, np.float32) for each in keras.tree.flatten(run(chunk))]
            for start in range(0, len(pixels), _BATCH)
            if len(chunk := pixels[start : start + _BATCH].astype(np.float32))
        ]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def differentiate(
        self, tensors: Sequence[Any], pixels: npt.NDArray[Any], *, weights: npt.NDArray[Any]
    ) -> tuple[Arrays, Arrays]:
        """Differentiate a weighted sum of logits, or of another last tensor.

        Args:
            tensors: Symbolic tensors of the graph, the last one the one to differentiate.
            pixels: [n, H, W, C], 0..255, n >= 1.
            weights: [n, ...] like the last tensor.

        Returns:
            The values of the tensors, and the gradients of sum(weights * last tensor) with respect
            to the pixels and to all tensors but the last.
        """
        import keras

        key = tuple(map(id, tensors))
        if key not in self._gradients:
            self._gradients[key] = build_gradient(keras.Model(self.pixels, list(tensors)))
        values, gradients = [], []
        for start in range(0, len(pixels), _GRADIENT_BATCH):
            chunk = slice(start, start + _GRADIENT_BATCH)
            found = self._gradients[key](pixels[chunk], weights[chunk])
            values.append(found[0])
            gradients.append(found[1])
        return _join(values), _join(gradients)


def _join(parts: list[Arrays]) -> Arrays:
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _trace(model: Any) -> tuple[Any, list[GraphStep]]:
    """Call all layers of a model, and of models nested in it, once more in order.

    Returns:
        The new input, and the operations with the tensors between them.
    """
    import keras

    steps: list[GraphStep] = []

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(operation, keras.Model):
            trace(operation, keras.tree.flatten(arguments[0]))
            return steps[-1].output
        output = operation(*arguments, **options)
        inputs = keras.tree.flatten((arguments, options))
        tensors = tuple(each for each in inputs if isinstance(each, keras.KerasTensor))
        steps.append(GraphStep(operation, tensors, output))
        return output

    def trace(inner: Any, inputs: Any) -> None:
        keras.models.clone_model(
            keras.Model(inner.inputs, inner.outputs),
            input_tensors=inputs,
            clone_function=lambda each: each,
            call_function=call,
        )

    pixels = keras.Input(model.inputs[0].shape[1:], name="pixels")
    trace(model, [pixels])
    return pixels, steps
