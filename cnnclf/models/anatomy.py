"""The anatomy of a network: its layers, shapes, parameters, compute and receptive fields, on paper.

Says nothing about where a network comes from. `models/cnn_anatomy.py` derives the anatomy of the
CNN that settings describe, `models/graph_anatomy.py` that of any Keras graph.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Self

from pydantic import TypeAdapter

from cnnclf.models.receptive_field import Field

BYTES_PER_VALUE = 4  # float32
INPUT = ""  # the name of the image

# Arrays of the size of the weights that an optimizer keeps: moments, velocities.
_SLOTS = {"sgd": 1, "rmsprop": 2, "adam": 2, "adamw": 2, "muon": 2}


@dataclass(frozen=True)
class LayerRow:
    """One layer, or several that were folded into one row.

    Args:
        name: Unique in the network; layers of nested networks are `network/layer`.
        kind: What the layer does, such as `conv`, `pool` or `dense`.
        output_shape: Without the batch: (height, width, channels), (units,) or any other.
        parameters: Weights, counting the non-trainable ones.
        macs: Multiply-accumulates of convolutions and dense layers, for one image.
        receptive_field: Side of the square of input pixels that one output value depends on; 0
            once it depends on the whole image.
        units: Filters of a convolution, units of a dense layer, else 0.
        stride: Stride of a convolution or pooling, else 1.
        window: Longer side of the kernel or pooling window, else 1.
        kernel: Height and width of the window; empty without one.
        padding: `same` or `valid`; empty without a window.
        dilation: Distance of neighboring values in the window.
        field_stride: Pixels between the receptive fields of neighboring output values.
        field_offset: Center of the receptive field of the first output value, down and across, in
            pixels from the center of the first pixel.
        formula: How the parameters are counted, as a product and a sum; empty without any.
        group: The stage or block it belongs to; empty for none.
        values: Output values for one image, of all layers that were folded; 0: as in the shape.
        inputs: Names of the layers that it reads, `INPUT` for the image; none: the one before.
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
    kernel: tuple[int, ...] = ()
    padding: str = ""
    dilation: int = 1
    field_stride: int = 1
    field_offset: tuple[float, ...] = (0.0, 0.0)
    formula: str = ""
    group: str = ""
    values: int = 0
    inputs: tuple[str, ...] = ()

    @property
    def activation_bytes(self) -> int:
        """Memory of the outputs for one image, in float32."""
        return (self.values or math.prod(self.output_shape)) * BYTES_PER_VALUE

    def with_fields(self, fields: Sequence[Field]) -> "LayerRow":
        """Return the row with the receptive fields down and across."""
        return replace(
            self,
            receptive_field=max(field.size for field in fields),
            field_stride=max(field.stride for field in fields),
            field_offset=tuple(field.offset for field in fields),
        )


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

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, in float32."""
        return self.parameters * BYTES_PER_VALUE

    @property
    def flops(self) -> int:
        """Floating-point operations for one image: a multiplication and an addition for each."""
        return 2 * self.macs

    @cached_property
    def activation_bytes(self) -> int:
        """Memory of the outputs of all layers for one image, in float32."""
        return sum(layer.activation_bytes for layer in self.layers)

    def training_bytes(self, batch_size: int, optimizer: str) -> int:
        """Memory of all outputs of a batch, which gradients need, weights and optimizer."""
        copies = 2 + _SLOTS[optimizer]  # the weights, their gradients
        outputs = batch_size * self.activation_bytes
        return outputs + copies * self.parameters * BYTES_PER_VALUE

    @cached_property
    def last_local(self) -> LayerRow | None:
        """The last layer whose values do not depend on the whole image, if any."""
        local = [layer for layer in self.layers if layer.receptive_field]
        return local[-1] if local else None

    def fold(self, depth: int) -> "Anatomy":
        """Return fewer rows.

        Args:
            depth: 1: one row per group; 2: one per layer, each nested network being one; 3: one per
                layer of these, and so on.
        """

        def key_of(layer: LayerRow) -> str:
            if depth == 1:
                return layer.group or layer.name.partition("/")[0]
            return "/".join(layer.name.split("/")[: depth - 1])

        return self.join(key_of)

    def join(self, key_of: Callable[[LayerRow], str]) -> "Anatomy":
        """Return fewer rows: those that follow each other become one.

        Args:
            key_of: Returns the name of the row that a layer becomes part of; "": of its own.
        """
        return Anatomy(tuple(_join_rows(self.layers, key_of)))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dictionary per layer, for JSON."""
        return [asdict(layer) for layer in self.layers]

    @classmethod
    def from_dicts(cls, rows: list[dict[str, Any]]) -> Self:
        """Read back the result of `to_dicts`, also of versions that wrote fewer fields.

        Raises:
            ValueError: A field is missing or has another type.
        """
        return cls(TypeAdapter(tuple[LayerRow, ...]).validate_python(rows))


def count_weights(*shapes: Sequence[int]) -> tuple[int, str]:
    """Count the weights of arrays.

    Args:
        *shapes: One shape for each array, such as (3, 3, 64, 128) and (128,).

    Returns:
        Their number, and how it is counted: 3x3x64x128 + 128.
    """
    formula = " + ".join("x".join(f"{side:,}" for side in shape) for shape in shapes)
    return sum(math.prod(shape) for shape in shapes), formula


def _join_rows(layers: Sequence[LayerRow], key_of: Callable[[LayerRow], str]) -> "list[LayerRow]":
    joined = []
    names = {INPUT: INPUT}  # of the row that each layer becomes part of
    before = last = INPUT
    for key, members in groupby(layers, lambda layer: key_of(layer) or layer.name):
        rows = list(members)
        name = key if len(rows) > 1 else rows[0].name
        names |= {row.name: name for row in rows}
        sources: dict[str, None] = {}
        for row in rows:
            sources |= dict.fromkeys(names[each] for each in row.inputs or (before,))
            before = row.name
        inputs = tuple(each for each in sources if each != name)
        inputs, last = () if inputs == (last,) else inputs, name
        if len(rows) == 1:
            joined.append(replace(rows[0], inputs=inputs))
            continue
        joined.append(
            LayerRow(
                key,
                f"{len(rows)} layers",
                rows[-1].output_shape,
                sum(row.parameters for row in rows),
                sum(row.macs for row in rows),
                rows[-1].receptive_field,
                field_stride=rows[-1].field_stride,
                field_offset=rows[-1].field_offset,
                group=rows[-1].group,
                values=sum(row.activation_bytes for row in rows) // BYTES_PER_VALUE,
                inputs=inputs,
            )
        )
    return joined
