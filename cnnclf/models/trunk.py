"""A built backbone, from pixels 0..255 to features, and where it can be cut.

The trunk is the part before a cut (frozen), the tail the part after it.
"""

from importlib import import_module
from typing import Any

from cnnclf.errors import ConfigError
from cnnclf.models.backbones import Backbone, check_size
from cnnclf.models.normalize import complete_inside_normalization, normalize_pixels


def build_backbone(backbone: Backbone, *, height: int, width: int) -> Any:
    """Build one row of the table with random weights, normalization included.

    The graph does not depend on the weights that are loaded later, and it is flat: layers keep the
    names that their builder gives them.

    Args:
        backbone: The row.
        height: Rows of pixels, at least the row's minimum.
        width: Columns of pixels, at least the row's minimum.

    Returns:
        A `keras.Model`: [N, height, width, 3] float32 pixels 0..255, RGB -> [N, h, w, C] features.

    Raises:
        ConfigError: The size is below the row's minimum.
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


def find_stage_end(model: Any, backbone: Backbone, *, stage: str) -> int:
    """Find where a stage ends.

    Args:
        model: The result of `build_backbone` for this row, or a model that extends it.
        backbone: The row.
        stage: Name of one of its stages.

    Returns:
        Index in `model.operations` of the last operation of the stage.

    Raises:
        ConfigError: The backbone has no such stage.
    """
    stages = {each.name: each for each in backbone.stages}
    if stage not in stages:
        raise ConfigError(
            f"expected a stage of {backbone.name}, received {stage!r}",
            f"its stages are {', '.join(stages)}",
        )
    row = stages[stage]
    operations = model.operations
    if row.end:
        return int(next(i for i, each in enumerate(operations) if each.name == row.end))
    if row.before:
        follower = model.get_layer(row.before)
        return int(next(i for i, each in enumerate(operations) if each.output is follower.input))
    return len(operations) - 1


def find_cut(model: Any, index: int) -> list[Any]:
    """Find the tensors that cross a cut after one operation.

    Args:
        model: A functional `keras.Model`.
        index: Index in `model.operations`.

    Returns:
        Symbolic tensors computed up to the operation and used after it: one, except for NASNet,
        whose cells also take the output of the cell before; none after the last operation.
    """
    import keras

    after = model.operations[index + 1 :]
    used = {id(tensor) for each in after for tensor in keras.tree.flatten(each.input)}
    return [each.output for each in model.operations[: index + 1] if id(each.output) in used]
