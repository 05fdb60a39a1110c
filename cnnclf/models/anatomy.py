"""The anatomy of a network: its layers, shapes, parameters, compute and receptive fields, on paper.

Says nothing about where a network comes from. `models/cnn_anatomy.py` derives the anatomy of the
CNN that settings describe; that of any Keras graph can be derived beside it.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from pydantic import TypeAdapter


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Args:
        name: Unique in the network.
        kind: What the layer does, such as `conv`, `pool` or `dense`.
        output_shape: Without the batch: (height, width, channels), (units,) or any other.
        parameters: Weights, counting the non-trainable ones.
        macs: Multiply-accumulates for one image.
        receptive_field: Side of the square of input pixels that one output value depends on; 0
            once it depends on the whole image.
        units: Filters of a convolution, units of a dense layer, else 0.
        stride: Stride of a convolution or pooling, else 1.
        window: Side of the kernel or pooling window, else 1.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int = 0
    macs: int = 0
    receptive_field: int = 1
    units: int = 0
    stride: int = 1
    window: int = 1


@dataclass(frozen=True)
class Anatomy:
    """All layers of a network, from input to output."""

    layers: tuple[LayerRow, ...]

    @cached_property
    def parameters(self) -> int:
        """Weights, trainable or not."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dictionary per layer, for JSON."""
        return [asdict(layer) for layer in self.layers]

    @classmethod
    def from_dicts(cls, rows: list[dict[str, Any]]) -> Self:
        """Read back the result of `to_dicts`.

        Raises:
            ValueError: A field is missing or has another type.
        """
        return cls(TypeAdapter(tuple[LayerRow, ...]).validate_python(rows))
