"""A network as a diagram: which layers become one block, and what is written below it."""

from collections.abc import Iterator

from cnnclf.config import TrainConfig, choices_of, list_fields
from cnnclf.drawing.block_layout import Block
from cnnclf.errors import ConfigError
from cnnclf.models.anatomy import Anatomy, LayerRow

MAX_BLOCKS = 80

CAPTION = (
    "height and depth: rows and columns of the feature maps; width: root of the number of filters"
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
    "concatenate": "join",
}
# What such a layer does is written below the layer before it.
_ATTACHED = {"batch_norm": "norm", "layer_norm": "norm", "dropout": "dropout", "activation": ""}
_ACTIVATIONS = {*choices_of(list_fields(TrainConfig)["model.activation"]), "relu6"}
_PIXELS = {"rescale", "normalize", "take"}  # `take` orders color channels
_WORDS = {
    "global_pool": "global pool",
    "depthwise_conv": "depthwise",
    "separable_conv": "separable",
}


def draw_blocks(anatomy: Anatomy, input_shape: tuple[int, int, int]) -> list[Block]:
    """Turn layers into blocks: normalization, activations and dropout join the layer before.

    Args:
        anatomy: The network, folded as deep as wanted.
        input_shape: (height, width, channels) of its images.

    Raises:
        ConfigError: There would be more than `MAX_BLOCKS` blocks.
    """
    blocks = [Block(("input", _shape(input_shape)), input_shape, "input")]
    group: list[LayerRow] = []
    for layer in anatomy.layers:
        if group and layer.kind not in _ATTACHED:
            blocks += _draw(group)
            group = []
        group.append(layer)
    blocks += _draw(group)
    if len(blocks) > MAX_BLOCKS:
        raise ConfigError(
            f"the diagram would have {len(blocks)} blocks, and a page has room for {MAX_BLOCKS}",
            "--depth 1 draws one block per stage",
        )
    return blocks


def _draw(group: list[LayerRow]) -> Iterator[Block]:
    """Give the block of a layer and those that follow it; scaling pixels has none."""
    first = group[0]
    if first.kind in _PIXELS:
        return
    parameters = sum(layer.parameters for layer in group)
    words = [_attach(layer) for layer in group[1:]]
    lines = [
        *_name(first),
        _shape(first.output_shape),
        *([f"{parameters:,}"] if parameters else []),
        *([", ".join(words)] if words else []),
    ]
    yield Block(tuple(lines), first.output_shape, _COLORS.get(first.kind, "stage"))


def _name(layer: LayerRow) -> list[str]:
    if layer.kind.endswith(" layers"):
        return [layer.name.rpartition("/")[2], layer.kind]
    word = _WORDS.get(layer.kind, layer.kind)
    if not layer.kernel:
        return [word]
    stride = f"/{layer.stride}" if layer.stride > 1 else ""
    return [f"{word} {_shape(layer.kernel)}{stride}"]


def _attach(layer: LayerRow) -> str:
    # our activations are named after the layer and the function: block1_conv1_relu
    word = layer.name.rpartition("_")[2]
    return _ATTACHED[layer.kind] or (word if word in _ACTIVATIONS else "activation")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
