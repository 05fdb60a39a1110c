"""A built backbone: from pixels 0..255 to features, and where it can be cut.

The trunk is the part in front of a cut (frozen), the tail the part behind it.
"""

from importlib import import_module
from typing import Any

from cnnclf.errors import ConfigError
from cnnclf.models.backbones import Backbone, check_size
from cnnclf.models.normalize import complete_inside_normalization, normalize_pixels


def build_backbone(backbone: Backbone, *, height: int, width: int) -> Any:
    """Build one row of the table with random weights, normalization included.

    The graph is the same whatever weights are loaded into it later, and flat: its layers keep the
    names that the builder gives them.

    Args:
        backbone: The row.
        height: Rows of pixels, at least the row's minimum.
        width: Columns of pixels, at least the row's minimum.

    Returns:
        A `keras.Model`: [N, height, width, 3] float32 pixels 0..255, RGB -> [N, h, w, C] features.

    Raises:
        ConfigError: If the size is below the row's minimum.
    """
    import keras

    check_size(backbone, height=height, width=width)
    module, _, function = backbone.builder.rpartition(".")
    builder = getattr(import_module(module), function)
    pixels = keras.Input((height, width, 3), name="pixels")
    normalized = normalize_pixels(pixels, backbone.normalization)
    built = builder(input_tensor=normalized, **dict(backbone.arguments))
    model = keras.Model(pixels, built.output, name=backbone.name)
    complete_inside_normalization(model)
    return model


def find_stage_end(model: Any, backbone: Backbone, name: str) -> int:
    """Find where a stage ends.

    Args:
        model: What `build_backbone` gave for this row, or a model grown from its output.
        backbone: The row.
        name: One of its stages.

    Returns:
        Index in `model.operations` of the last operation of the stage.

    Raises:
        ConfigError: If the backbone has no such stage.
    """
    stages = {stage.name: stage for stage in backbone.stages}
    if name not in stages:
        raise ConfigError(
            f"expected a stage of {backbone.name}, received {name!r}",
            f"it has {', '.join(stages)}",
        )
    stage = stages[name]
    operations = model.operations
    if stage.end:
        return int(next(i for i, each in enumerate(operations) if each.name == stage.end))
    if stage.before:
        follower = model.get_layer(stage.before)
        return int(next(i for i, each in enumerate(operations) if each.output is follower.input))
    return len(operations) - 1


def find_cut(model: Any, index: int) -> list[Any]:
    """Find the tensors that cross a cut behind one operation.

    Args:
        model: A functional `keras.Model`.
        index: Index in `model.operations`.

    Returns:
        Symbolic tensors made up to and including the operation and used after it: one, but for
        NASNet, whose cells look back over two others; none behind the last operation.
    """
    import keras

    behind = model.operations[index + 1 :]
    used = {id(tensor) for each in behind for tensor in keras.tree.flatten(each.input)}
    return [each.output for each in model.operations[: index + 1] if id(each.output) in used]


def split_backbone(model: Any, backbone: Backbone, stage: str) -> tuple[Any, Any]:
    """Split a backbone behind a stage; both parts share their weights with it.

    Args:
        model: What `build_backbone` gave.
        backbone: The row.
        stage: Name of the last stage of the trunk; not the last stage of the backbone.

    Returns:
        Trunk (pixels -> tensors at the cut) and tail (these tensors -> features), `keras.Model`s;
        a single tensor stands for itself, several come as a list.

    Raises:
        ConfigError: If there is no such stage or nothing lies behind it.
    """
    import keras

    tensors = find_cut(model, find_stage_end(model, backbone, stage))
    if not tensors:
        raise ConfigError(
            f"expected a stage of {backbone.name} that others follow, received {stage!r}",
            f"one of {', '.join(backbone.stage_names[:-1])}",
        )
    crossing = tensors[0] if len(tensors) == 1 else tensors
    trunk = keras.Model(model.input, crossing, name=f"{backbone.name}-trunk")
    tail = keras.Model(crossing, model.output, name=f"{backbone.name}-tail")
    return trunk, tail
