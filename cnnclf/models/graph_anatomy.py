"""The anatomy of any Keras graph: Sequential, functional, branching, with networks inside it.

Only shapes are read, so the weights need not exist: `models/weightless.py` builds a graph without
them. Multiply-accumulates are those of convolutions and dense layers; all else counts as free.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnclf.models.anatomy import Anatomy, LayerRow, count_weights
from cnnclf.models.backbones import Backbone
from cnnclf.models.receptive_field import WHOLE, Field, join_fields, pad_before
from cnnclf.models.trunk import find_stage_end

Fields = tuple[Field, Field]  # down and across
_FIRST: Fields = (Field(), Field())
_NOTHING: Fields = (WHOLE, WHOLE)


def plan_graph(model: Any, *, stage_ends: Mapping[str, int] | None = None) -> Anatomy:
    """Lay out a built Keras model, layer by layer.

    Where paths join, the receptive field is the smallest one that contains those of all paths,
    which is that of the longest path (Araujo, Norris and Sim, 2019). A gate of one value per
    channel that was computed from the whole image (squeeze-and-excitation: Hu, Shen and Sun, 2018)
    does not widen the field of the maps that it scales. Layers whose reach is not known, such as
    attention, count as seeing the whole image.

    Args:
        model: A `keras.Model` with one input [N, H, W, C]; each layer is called once.
        stage_ends: Index in `model.operations` of the last operation of each stage, in order;
            operations after the last one belong to the head.

    Returns:
        The layers in the order in which they are computed, inputs excluded.
    """
    rows = []
    for index, found in enumerate(_walk_model(model, {}, prefix="")):
        group = _find_group(index, stage_ends or {})
        rows += [replace(row, group=group) for row in found]
    return Anatomy(tuple(rows))


def find_stage_ends(model: Any, backbone: Backbone) -> dict[str, int]:
    """Find the last operation of each stage of a backbone, also within a network that extends it.

    Args:
        model: A result of `build_backbone`, or a model that extends it.
        backbone: The row.
    """
    names = backbone.stage_names
    ends = {name: find_stage_end(model, backbone, stage=name) for name in names[:-1]}
    last = backbone.stages[-1]
    if last.end or last.before:
        return ends | {last.name: find_stage_end(model, backbone, stage=last.name)}
    first_of_head = next(
        (
            index
            for index, each in enumerate(model.operations)
            if each.name in {"pool_avg", "pool_max"}
        ),
        len(model.operations),
    )
    return ends | {last.name: first_of_head - 1}


def _find_group(index: int, ends: Mapping[str, int]) -> str:
    if not ends:
        return ""
    return next((name for name, end in ends.items() if index <= end), "head")


def _walk_model(model: Any, fields: dict[int, Fields], *, prefix: str) -> Iterator[list[LayerRow]]:
    """Give the rows of each operation of a model; `fields` has those of its inputs."""
    import keras

    if not isinstance(model, keras.Sequential):
        for operation in model.operations:
            yield list(_walk(operation, fields, prefix=prefix))
        return
    # Layers of a Sequential model may have been called before, so tensors need not be shared.
    current = fields.get(id(model.inputs[0]), _FIRST)
    for layer in model.layers:
        fields[id(keras.tree.flatten(layer.input)[0])] = current
        yield list(_walk(layer, fields, prefix=prefix))
        current = fields[id(keras.tree.flatten(layer.output)[0])]
    fields[id(model.outputs[0])] = current


def _walk(operation: Any, fields: dict[int, Fields], *, prefix: str) -> Iterator[LayerRow]:
    """Give the rows of one operation, and note the fields of its outputs."""
    import keras

    inputs = keras.tree.flatten(operation.input)
    outputs = keras.tree.flatten(operation.output)
    if isinstance(operation, keras.layers.InputLayer):
        fields.update({id(each): fields.get(id(each), _FIRST) for each in outputs})
        return
    found = [fields.get(id(each), _FIRST) for each in inputs]
    if isinstance(operation, keras.Model):
        yield from _walk_nested(operation, found, fields, prefix=prefix)
        return
    after = _reach(operation, inputs, found)
    fields.update({id(each): after for each in outputs})
    yield _describe(operation, outputs[0], name=prefix + operation.name).with_fields(after)


def _walk_nested(
    model: Any, found: Sequence[Fields], fields: dict[int, Fields], *, prefix: str
) -> Iterator[LayerRow]:
    """Walk a network that is one layer of another: its own input has the field of the outer one."""
    import keras

    inside = {id(own): each for own, each in zip(model.inputs, found, strict=True)}
    for rows in _walk_model(model, inside, prefix=f"{prefix}{model.name}/"):
        yield from rows
    outer = keras.tree.flatten(model.output)
    # Called in a graph, a model has outputs of its own there, which `output` of its layer gives.
    for own, called in zip(model.outputs, outer, strict=True):
        fields[id(called)] = inside[id(own)]
        fields[id(own)] = inside[id(own)]


@dataclass(frozen=True)
class _Window:
    """A window that slides over feature maps, each pair down and across."""

    sides: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: str

    @classmethod
    def of(cls, layer: Any) -> "_Window | None":
        import keras

        kinds = (
            keras.layers.Conv2D,
            keras.layers.DepthwiseConv2D,
            keras.layers.SeparableConv2D,
        )
        if isinstance(layer, kinds) and not isinstance(layer, keras.layers.Conv2DTranspose):
            return cls(
                tuple(layer.kernel_size),
                tuple(layer.strides),
                tuple(layer.dilation_rate),
                layer.padding,
            )
        if isinstance(layer, keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
            return cls(tuple(layer.pool_size), tuple(layer.strides), (1, 1), layer.padding)
        return None


def _reach(operation: Any, inputs: Sequence[Any], found: Sequence[Fields]) -> Fields:
    """Return the fields of the output of an operation."""
    import keras

    output = keras.tree.flatten(operation.output)[0]
    merged = _merge(inputs, found)
    if _is_whole(merged):
        return merged
    window = _Window.of(operation)
    if window is not None:
        return _slide(merged, window, inputs[0].shape[1:3])
    if isinstance(operation, keras.layers.ZeroPadding2D):
        return _shift(merged, [-before for before, _ in operation.padding])
    if isinstance(operation, keras.layers.Cropping2D):
        return _shift(merged, [before for before, _ in operation.cropping])
    keeps_places = len(output.shape) == 4 and any(
        len(each.shape) == 4 and each.shape[1:3] == output.shape[1:3] for each in inputs
    )
    looks_around = isinstance(
        operation,
        keras.layers.GlobalAveragePooling2D
        | keras.layers.GlobalMaxPooling2D
        | keras.layers.MultiHeadAttention,
    )
    return merged if keeps_places and not looks_around else _NOTHING


def _merge(inputs: Sequence[Any], found: Sequence[Fields]) -> Fields:
    """Join the fields of all inputs; a gate of 1x1 does not count beside maps."""
    local = [each for each in found if not _is_whole(each)]
    gates = [
        math.prod(side or 0 for side in tensor.shape[1:-1]) == 1
        for tensor, each in zip(inputs, found, strict=True)
        if _is_whole(each)
    ]
    if not local or not all(gates):
        return _NOTHING
    down, across = (join_fields([each[axis] for each in local]) for axis in (0, 1))
    return down, across


def _is_whole(fields: Fields) -> bool:
    return fields[0].is_whole or fields[1].is_whole


def _shift(fields: Fields, values: Sequence[int]) -> Fields:
    return fields[0].shift(values[0]), fields[1].shift(values[1])


def _slide(fields: Fields, window: _Window, sizes: Sequence[int]) -> Fields:
    down, across = (
        field.slide(
            side,
            stride=stride,
            padded=pad_before(size, side, stride=stride, dilation=dilation)
            if window.padding == "same"
            else 0,
            dilation=dilation,
        )
        for field, side, stride, dilation, size in zip(
            fields, window.sides, window.strides, window.dilations, sizes, strict=True
        )
    )
    return down, across


def _describe(operation: Any, output: Any, *, name: str) -> LayerRow:
    """Count the weights and multiply-accumulates of one operation."""
    shape = tuple(output.shape[1:])
    shapes = _weight_shapes(operation)
    parameters, formula = count_weights(*shapes)
    window = _Window.of(operation)
    row = LayerRow(
        name,
        _kind_of(operation),
        shape,
        parameters,
        _count_macs(operation, shape),
        units=int(getattr(operation, "filters", 0) or getattr(operation, "units", 0) or 0),
        formula=formula,
    )
    if window is None:
        return row
    return replace(
        row,
        stride=max(window.strides),
        window=max(window.sides),
        kernel=window.sides,
        padding=window.padding,
        dilation=max(window.dilations),
    )


def _weight_shapes(operation: Any) -> list[tuple[int, ...]]:
    """Give the shape of each array of weights; equal vectors, as of normalization, in one."""
    shapes = [tuple(each.shape) for each in getattr(operation, "weights", ())]
    if len(shapes) > 2 and len(set(shapes)) == 1 and len(shapes[0]) == 1:
        return [(len(shapes), *shapes[0])]
    return shapes


def _count_macs(operation: Any, shape: tuple[int, ...]) -> int:
    import keras

    layers = keras.layers
    if isinstance(operation, layers.SeparableConv2D):
        weights = math.prod(operation.depthwise_kernel.shape)
        weights += math.prod(operation.pointwise_kernel.shape)
    elif isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
        weights = math.prod(operation.kernel.shape)
    else:
        return 0
    return int(weights) * math.prod(shape[:-1])


def _kind_of(operation: Any) -> str:
    """Name what an operation does, with the words of the CNN where it has the layer."""
    import keras

    layers = keras.layers
    kinds: tuple[tuple[Any, str], ...] = (
        (layers.Conv2DTranspose, "conv_transpose"),
        (layers.DepthwiseConv2D, "depthwise_conv"),
        (layers.SeparableConv2D, "separable_conv"),
        (layers.Conv2D, "conv"),
        (layers.Dense, "dense"),
        (layers.BatchNormalization, "batch_norm"),
        (layers.LayerNormalization, "layer_norm"),
        (layers.MaxPooling2D | layers.AveragePooling2D, "pool"),
        (layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D, "global_pool"),
        (layers.Rescaling, "rescale"),
        (layers.Normalization, "normalize"),
        (layers.ZeroPadding2D, "pad"),
        (layers.Cropping2D, "crop"),
        (layers.Activation | layers.ReLU, "activation"),
        (layers.Dropout, "dropout"),
    )
    for kind, word in kinds:
        if isinstance(operation, kind):
            return word
    # a layer or an operation such as `x + y`
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(operation).__name__).lower()
