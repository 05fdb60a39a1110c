"""A network as a diagram: which layers become one block, and what is written below it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from cnnclf.config import TrainConfig, choices_of, list_fields
from cnnclf.drawing.block_layout import Block
from cnnclf.models.anatomy import INPUT, Anatomy, LayerRow
from cnnclf.names import join_sides

MAX_BLOCKS = 80

CAPTION = (
    "below: shape of the output, number of parameters; "
    "height, depth: rows, columns of the maps; width: root of their number"
)
_COLORS = {
    "conv": "conv",
    "depthwise_conv": "conv",
    "separable_conv": "conv",
    "pool": "pool",
    "dense": "dense",
    "flatten": "join",
    "global_pool": "join",
    "add": "join",
    "multiply": "join",
    "concatenate": "join",
}
# What such a layer does is written below the layer before it.
_ATTACHED = {
    "batch_norm": "norm",
    "layer_norm": "norm",
    "dropout": "dropout",
    "activation": "",
}
_ACTIVATIONS = {*choices_of(list_fields(TrainConfig)["model.activation"]), "relu6"}
_HIDDEN = {"rescale", "normalize", "take", "pad", "reshape"}  # `take` orders color channels
_WORDS = {
    "global_pool": "global pool",
    "depthwise_conv": "depthwise",
    "separable_conv": "separable",
}


def draw_blocks(anatomy: Anatomy, input_shape: tuple[int, int, int]) -> list[Block]:
    """Turn layers into blocks: normalization, activations and dropout join the layer before.

    Of networks with more than `MAX_BLOCKS` blocks, the largest stages become one block each;
    without stages, the layers whose maps have the same size.

    Args:
        anatomy: The network, folded as deep as wanted.
        input_shape: (height, width, channels) of its images.
    """
    blocks = _make_blocks(anatomy, input_shape)
    counts = Counter(map(_stage_of, anatomy.layers))
    for stage, count in counts.most_common():
        if len(blocks) <= MAX_BLOCKS or count == 1:
            break
        anatomy = anatomy.join(partial(_name_within, stage))
        blocks = _make_blocks(anatomy, input_shape)
    return blocks


def count_folded(blocks: Sequence[Block]) -> int:
    """Return how many blocks are several layers."""
    return sum(line.endswith(" layers") for block in blocks for line in block.lines)


def _name_within(stage: str, layer: LayerRow) -> str:
    return stage if _stage_of(layer) == stage else ""


def _stage_of(layer: LayerRow) -> str:
    return layer.group or f"maps of {join_sides(layer.output_shape[:-1]) or '1x1'}"


def _make_blocks(anatomy: Anatomy, input_shape: tuple[int, int, int]) -> list[Block]:
    groups: list[list[LayerRow]] = []
    places = {INPUT: 0}  # of what each layer gives, in blocks
    inputs: list[tuple[int, ...]] = []
    before = INPUT
    for layer in anatomy.layers:
        sources = dict.fromkeys(places[name] for name in layer.inputs or (before,))
        before = layer.name
        places[before], *others = sources
        if layer.kind in _HIDDEN or (layer.kind in _ATTACHED and groups and not others):
            if places[before]:
                groups[places[before] - 1].append(layer)
            continue
        groups.append([layer])
        inputs.append(tuple(sources))
        places[before] = len(groups)
    first = Block(("input", join_sides(input_shape)), input_shape, "input", ())
    pairs = zip(groups, inputs, strict=True)
    return [first, *(_draw(group, each) for group, each in pairs)]


def _draw(group: list[LayerRow], inputs: tuple[int, ...]) -> Block:
    """Give the block of a layer and those that follow it."""
    first = group[0]
    parameters = sum(layer.parameters for layer in group)
    words = dict.fromkeys(_attach(layer) for layer in group[1:] if layer.kind not in _HIDDEN)
    lines = [
        *_name(first),
        join_sides(first.output_shape),
        *([f"{parameters:,}"] if parameters else []),
        *([", ".join(words)] if words else []),
    ]
    return Block(tuple(lines), first.output_shape, _COLORS.get(first.kind, "stage"), inputs)


def _name(layer: LayerRow) -> list[str]:
    if layer.kind.endswith(" layers"):
        return [layer.name.rpartition("/")[2], layer.kind]
    word = _WORDS.get(layer.kind, layer.kind)
    if not layer.kernel:
        return [word]
    stride = f"/{layer.stride}" if layer.stride > 1 else ""
    return [f"{word} {join_sides(layer.kernel)}{stride}"]


def _attach(layer: LayerRow) -> str:
    # our activations are named after the layer and the function: block1_conv1_relu
    word = layer.name.rpartition("_")[2]
    return _ATTACHED[layer.kind] or (word if word in _ACTIVATIONS else "activation")
