"""The anatomy of any Keras graph: Sequential, functional, branching, with networks inside it.

Only shapes are read, so the weights need not exist: `models/weightless.py` builds a graph without
them. Multiply-accumulates are those of convolutions and dense layers; all else counts as free.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnclf.models.anatomy import INPUT, Anatomy, LayerRow
from cnnclf.models.backbones import Backbone
from cnnclf.models.layer_facts import LayerWindow, describe_layer
from cnnclf.models.receptive_field import WHOLE, Field, join_fields, pad_before
from cnnclf.models.trunk import find_stage_end

Fields = tuple[Field, Field]  # down and across
Makers = dict[int, str]  # name of the layer that makes a tensor
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
    rows: list[LayerRow] = []
    before = INPUT
    for index, found in enumerate(_walk_model(model, {}, {}, prefix="")):
        group = _find_group(index, stage_ends or {})
        for row in found:
            inputs = () if row.inputs == (before,) else row.inputs
            rows.append(replace(row, group=group, inputs=inputs))
            before = row.name
    return Anatomy(tuple(rows))


def find_stage_ends(model: Any, backbone: Backbone) -> dict[str, int]:
    """Find the last operation of each stage of a backbone, also in a network that extends it."""
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


def _walk_model(
    model: Any, fields: dict[int, Fields], makers: Makers, *, prefix: str
) -> Iterator[list[LayerRow]]:
    """Give the rows of each operation of a model; `fields` and `makers` are of its inputs, too."""
    import keras

    if not isinstance(model, keras.Sequential):
        for operation in model.operations:
            yield list(_walk(operation, fields, makers, prefix=prefix))
        return
    # Layers of a Sequential model may have been called before, so tensors need not be shared.
    current = id(model.inputs[0])
    for layer in model.layers:
        _copy(current, id(keras.tree.flatten(layer.input)[0]), fields, makers)
        yield list(_walk(layer, fields, makers, prefix=prefix))
        current = id(keras.tree.flatten(layer.output)[0])
    _copy(current, id(model.outputs[0]), fields, makers)


def _copy(known: int, new: int, fields: dict[int, Fields], makers: Makers) -> None:
    """Note that two tensors are the same."""
    fields[new], makers[new] = fields.get(known, _FIRST), makers.get(known, INPUT)


def _walk(
    operation: Any, fields: dict[int, Fields], makers: Makers, *, prefix: str
) -> Iterator[LayerRow]:
    """Give the rows of one operation, and note the fields and the maker of its outputs."""
    import keras

    inputs = keras.tree.flatten(operation.input)
    outputs = keras.tree.flatten(operation.output)
    if isinstance(operation, keras.layers.InputLayer):
        for each in outputs:
            _copy(id(each), id(each), fields, makers)
        return
    found = [fields.get(id(each), _FIRST) for each in inputs]
    if isinstance(operation, keras.Model):
        yield from _walk_nested(operation, inputs, fields, makers, prefix=prefix)
        return
    after = _reach(operation, inputs, found)
    name = prefix + operation.name
    sources = tuple(dict.fromkeys(makers.get(id(each), INPUT) for each in inputs))
    fields.update({id(each): after for each in outputs})
    makers.update({id(each): name for each in outputs})
    row = describe_layer(operation, outputs[0], name=name).with_fields(after)
    yield replace(row, inputs=sources)


def _walk_nested(
    model: Any, inputs: Sequence[Any], fields: dict[int, Fields], makers: Makers, *, prefix: str
) -> Iterator[LayerRow]:
    """Walk a network that is one layer of another: its own input is that of the outer one."""
    import keras

    inside: dict[int, Fields] = {}
    made: Makers = {}
    for own, each in zip(model.inputs, inputs, strict=True):
        inside[id(own)] = fields.get(id(each), _FIRST)
        made[id(own)] = makers.get(id(each), INPUT)
    for rows in _walk_model(model, inside, made, prefix=f"{prefix}{model.name}/"):
        yield from rows
    outer = keras.tree.flatten(model.output)
    # Called in a graph, a model has outputs of its own there, which `output` of its layer gives.
    for own, called in zip(model.outputs, outer, strict=True):
        for each in (called, own):
            fields[id(each)], makers[id(each)] = inside[id(own)], made[id(own)]


def _reach(operation: Any, inputs: Sequence[Any], found: Sequence[Fields]) -> Fields:
    """Return the fields of the output of an operation."""
    import keras

    output = keras.tree.flatten(operation.output)[0]
    merged = _merge(inputs, found)
    if _is_whole(merged):
        return merged
    window = LayerWindow.of(operation)
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


def _slide(fields: Fields, window: LayerWindow, sizes: Sequence[int]) -> Fields:
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
