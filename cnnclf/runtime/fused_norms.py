"""Batch normalization as one operation of TensorFlow, or as none, while a network is trained.

Keras computes it from means, squares and products of their own, each of which reads or writes the
whole feature map, in float32 also under mixed precision. The fused operation takes a fifth of the
time, in bfloat16 an eighth, forward and backward. Frozen, it only scales and shifts the result of
the convolution before it, as other weights and a bias of that do. See docs/benchmarks.md, B19.
"""

from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnclf.runtime.wide_kernels import convolve_wide, has_wide_kernel

if TYPE_CHECKING:
    import keras

_IMAGES = 4  # dimensions of feature maps: images, height, width, channels

# oneDNN has fast code for multiples of these numbers of channels, in any precision and in float32;
# for others its code takes longer than that of Keras
_CHANNELS, _FLOAT32_CHANNELS = 16, 8


def fuse_norms(model: "keras.Model") -> None:
    """Let layers of batch normalization use the fused operation, and convolutions the frozen ones.

    The layers stay those of Keras, with the same weights: what is saved knows nothing of it.
    Backends other than TensorFlow stay as they are.

    Args:
        model: The network, before it is compiled without XLA, which fuses by itself.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            fuse_norms(layer)
        elif type(layer) is keras.layers.BatchNormalization and _is_over_channels(layer):
            convolution = _find_convolution(layer, {id(each) for each in model.outputs})
            if convolution is not None:
                convolution.call = partial(_convolve, convolution, layer)
                layer.call = partial(_pass_on, layer)
            elif _is_fusible(layer):
                layer.call = partial(_normalize, layer)


def _is_over_channels(layer: Any) -> bool:
    return layer.axis in {-1, _IMAGES - 1} and layer.input_spec.ndim == _IMAGES


def _is_fusible(layer: Any) -> bool:
    return (
        layer.moving_mean.shape[0] % _FLOAT32_CHANNELS == 0
        and not layer.synchronized
        and not layer.renorm
    )


def _find_convolution(norm: Any, outputs: AbstractSet[int]) -> Any:
    """Return the convolution whose results only this frozen layer uses, in float32; or None.

    Args:
        norm: The layer.
        outputs: Identities of what the network returns.
    """
    import keras

    # Keras has no public names for the edges of its graph
    inputs = [each for node in norm._inbound_nodes for each in node.input_tensors]  # noqa: SLF001
    before = {each._keras_history.operation for each in inputs}  # noqa: SLF001
    if norm.trainable or len(before) != 1:
        return None
    layer = before.pop()
    is_alone = all(node.operation is norm for node in layer._outbound_nodes)  # noqa: SLF001
    is_alone = is_alone and outputs.isdisjoint(map(id, inputs))
    is_plain = (
        type(layer) in {keras.layers.Conv2D, keras.layers.DepthwiseConv2D}
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.linear
        and layer.compute_dtype == "float32"
    )
    return layer if is_alone and is_plain else None


def _convolve(layer: Any, norm: Any, inputs: Any, **_: Any) -> Any:
    """Convolve with the weights and the bias that give what the frozen normalization would."""
    if norm.trainable:  # it was frozen only in an earlier phase
        return type(layer).call(layer, inputs)
    import keras
    import tensorflow as tf

    scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    scale = scale * norm.gamma if norm.scale else scale
    shift = (norm.beta if norm.center else 0.0) - norm.moving_mean * scale
    shift = shift + layer.bias * scale if layer.use_bias else shift
    shape = {"strides": layer.strides, "padding": layer.padding}
    shape |= {"dilation_rate": layer.dilation_rate}
    if type(layer) is keras.layers.DepthwiseConv2D:
        kernel = layer.kernel * tf.reshape(scale, layer.kernel.shape[2:])
        if has_wide_kernel(layer):
            maps = convolve_wide(inputs, kernel)
        else:
            maps = keras.ops.depthwise_conv(inputs, kernel, **shape)
    elif layer.kernel_size == layer.strides == (1, 1) and layer.groups == 1:
        # gradients of the product take less time than those of the convolution
        kernel = tf.reshape(layer.kernel * scale, layer.kernel.shape[2:])
        rows = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
        sizes = tf.concat([tf.shape(inputs)[:-1], kernel.shape[1:]], axis=0)
        maps = tf.reshape(tf.nn.bias_add(rows, shift), sizes)
        return tf.ensure_shape(maps, [*inputs.shape[:-1], kernel.shape[1]])
    else:
        maps = keras.ops.conv(inputs, layer.kernel * scale, **shape)
    return tf.nn.bias_add(maps, shift)


def _pass_on(norm: Any, inputs: Any, **given: Any) -> Any:
    return type(norm).call(norm, inputs, **given) if norm.trainable else inputs


def _normalize(layer: Any, inputs: Any, *, training: bool | None = None, mask: Any = None) -> Any:
    """Normalize a batch as `keras.layers.BatchNormalization` does, and update its averages."""
    if not training or not layer.trainable or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    import tensorflow as tf

    channels = inputs.shape[-1]
    result = tf.raw_ops.FusedBatchNormV3(
        x=inputs if channels % _CHANNELS == 0 else tf.cast(inputs, tf.float32),
        scale=layer.gamma if layer.scale else tf.ones(channels),
        offset=layer.beta if layer.center else tf.zeros(channels),
        mean=tf.zeros(channels),
        variance=tf.ones(channels),
        epsilon=layer.epsilon,
        is_training=True,
    )
    count = tf.cast(tf.size(inputs) // channels, tf.float32)
    variance = result.batch_variance * (count - 1) / count  # that of a sample, as Keras has it
    for average, value in (
        (layer.moving_mean, result.batch_mean),
        (layer.moving_variance, variance),
    ):
        average.assign(average * layer.momentum + value * (1 - layer.momentum))
    return tf.cast(result.y, inputs.dtype)
