"""Batch normalization as one operation of TensorFlow while a network is trained.

Keras computes it from means, squares and products of their own, each of which reads or writes the
whole feature map, in float32 also under mixed precision. The fused operation takes a fifth of the
time, in bfloat16 an eighth, forward and backward; see docs/benchmarks.md, B19.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_IMAGES = 4  # dimensions of feature maps: images, height, width, channels

# oneDNN has fast code for multiples of these numbers of channels, in any precision and in float32;
# for others its code takes longer than that of Keras
_CHANNELS, _FLOAT32_CHANNELS = 16, 8


def fuse_norms(model: "keras.Model") -> None:
    """Let the layers of batch normalization use the fused operation in training.

    The layers stay those of Keras, with the same weights: what is saved knows nothing of it, and
    inference is computed as before. Backends other than TensorFlow stay as they are.

    Args:
        model: The network, before it is compiled without XLA, which fuses by itself.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            fuse_norms(layer)
        elif type(layer) is keras.layers.BatchNormalization and _is_fusible(layer):
            layer.call = partial(_normalize, layer)


def _is_fusible(layer: Any) -> bool:
    over_channels = layer.axis in {-1, _IMAGES - 1}
    return (
        over_channels
        and layer.input_spec.ndim == _IMAGES
        and layer.moving_mean.shape[0] % _FLOAT32_CHANNELS == 0
        and not layer.synchronized
        and not layer.renorm
    )


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
