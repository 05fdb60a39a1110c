"""What one layer of a Keras graph is: its kind, window, weights and multiply-accumulates."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from cnnclf.models.anatomy import LayerRow, count_weights


@dataclass(frozen=True)
class LayerWindow:
    """A window that slides over feature maps, each pair down and across."""

    sides: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: str

    @classmethod
    def of(cls, layer: Any) -> "LayerWindow | None":
        """Return the window of a convolution or pooling layer; None for others."""
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


def describe_layer(operation: Any, output: Any, *, name: str) -> LayerRow:
    """Count the weights and multiply-accumulates of one operation.

    Args:
        operation: A Keras layer, or an operation such as `x + y`.
        output: Its symbolic output.
        name: Name of the row.
    """
    shape = tuple(output.shape[1:])
    shapes = _weight_shapes(operation)
    parameters, formula = count_weights(*shapes)
    window = LayerWindow.of(operation)
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
    elif isinstance(operation, layers.Conv2DTranspose):
        # Each value of the input is multiplied by the whole kernel.
        return int(math.prod(operation.kernel.shape) * math.prod(operation.input.shape[1:-1]))
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
