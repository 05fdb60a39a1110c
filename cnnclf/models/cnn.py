"""The Keras Sequential CNN that settings describe: pixels 0..255 in, logits out."""

from typing import TYPE_CHECKING, Any

from cnnclf.config import ModelConfig
from cnnclf.models.anatomy import LayerRow
from cnnclf.models.cnn_anatomy import plan_cnn

if TYPE_CHECKING:
    import keras


def build_cnn(
    model: ModelConfig, input_shape: tuple[int, int, int], *, num_classes: int
) -> "keras.Sequential":
    """Build the network laid out by `plan_cnn`.

    Args:
        model: Settings in which nothing is "auto".
        input_shape: (height, width, channels).
        num_classes: Outputs.

    Returns:
        An uncompiled model from float32 pixels 0..255 [N, H, W, C] to float32 logits [N, K].

    Raises:
        ConfigError: The network does not fit the input shape.
    """
    import keras

    layers = [keras.Input(input_shape, name="pixels")]
    anatomy = plan_cnn(model, input_shape, num_classes=num_classes)
    layers += [_build_layer(row, model) for row in anatomy.layers]
    net = keras.Sequential(layers, name="cnn")
    if model.initial_kernels == "identity":
        _pass_inputs_on(net)
    return net


def _build_layer(row: LayerRow, model: ModelConfig) -> Any:
    import keras

    match row.kind:
        case "rescale":
            return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=row.name)
        case "conv":
            is_fixed = row.name == "whiten"  # its weights are set from training images
            return keras.layers.Conv2D(
                row.units,
                row.window,
                strides=row.stride,
                padding=row.padding,
                use_bias=is_fixed or not model.batch_norm,
                kernel_initializer=_initializer(model),
                kernel_regularizer=None if is_fixed else _penalty(model),
                trainable=not is_fixed,
                name=row.name,
            )
        case "batch_norm":
            # 0.9: with Keras's 0.99 the averages would not converge in a few hundred steps
            return keras.layers.BatchNormalization(
                momentum=0.9, scale=model.norm_scale, name=row.name
            )
        case "activation":
            return keras.layers.Activation(model.activation, name=row.name)
        case "pool":
            pool = (
                keras.layers.MaxPooling2D
                if model.pooling == "max"
                else keras.layers.AveragePooling2D
            )
            return pool(row.window, strides=row.stride, name=row.name)
        case "flatten" | "global_pool":
            tops = {
                "flatten": keras.layers.Flatten,
                "global_average": keras.layers.GlobalAveragePooling2D,
                "global_max": keras.layers.GlobalMaxPooling2D,
            }
            # float32 under mixed precision too: a mean of bfloat16 has more than its 8 bits
            return tops[model.top](dtype="float32", name=row.name)
        case "dropout":
            return keras.layers.Dropout(model.dropout, name=row.name)
        case "dense":
            is_output = row.name == "logits"
            return keras.layers.Dense(
                row.units,
                kernel_initializer=_output_initializer(model) if is_output else _initializer(model),
                kernel_regularizer=_penalty(model),
                # float32 under mixed precision too: softmax in half precision loses digits
                dtype="float32" if is_output else None,
                name=row.name,
            )
    raise ValueError(f"unknown kind of layer: {row.kind}")


def _initializer(model: ModelConfig) -> Any:
    import keras

    if model.initial_kernels == "identity":  # about the size of the kernels that pass inputs on
        return keras.initializers.VarianceScaling(1 / 3, distribution="uniform")
    if model.activation == "selu":
        return "lecun_normal"
    return "glorot_uniform" if model.activation in {"tanh", "sigmoid"} else "he_normal"


def _output_initializer(model: ModelConfig) -> Any:
    """Start with logits near 0 where features have their full size from the first step."""
    import keras

    if model.initial_kernels == "identity":
        return keras.initializers.VarianceScaling(1 / 81, "fan_avg", "uniform")
    return "glorot_uniform"


def _pass_inputs_on(net: "keras.Sequential") -> None:
    """Let the first filters of each convolution copy its input, channel by channel.

    Zagoruyko and Komodakis, "DiracNets", 2017; values are set, so that a saved network needs no
    initializer of ours.
    """
    import keras
    import numpy as np

    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.trainable:
            kernel = np.array(keras.ops.convert_to_numpy(layer.kernel))
            copied = np.arange(min(kernel.shape[2:]))
            kernel[:, :, :, copied] = 0
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, copied, copied] = 1
            layer.kernel.assign(kernel)


def _penalty(model: ModelConfig) -> Any:
    import keras

    return keras.regularizers.L1L2(l1=model.l1, l2=model.l2) if model.l1 or model.l2 else None
