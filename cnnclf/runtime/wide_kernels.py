"""Depthwise convolutions of five columns, whose weights get their gradient column by column.

oneDNN has fast code for that gradient with up to three columns; with five it takes four times as
long, and half of a training step of EfficientNet-Lite0: docs/benchmarks.md, B19.
"""

from typing import Any

_COLUMNS = 5
_ONE = [1, 1, 1, 1]


def has_wide_kernel(layer: Any) -> bool:
    """Return whether a depthwise layer of Keras is one that `convolve_wide` computes.

    Args:
        layer: `keras.layers.DepthwiseConv2D`, channels last, in float32.
    """
    import tensorflow as tf

    return (
        layer.kernel_size[1] == _COLUMNS
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.padding == "same"
        and layer.depth_multiplier == 1
        and not tf.config.get_visible_devices("GPU")
    )


def convolve_wide(images: Any, kernel: Any) -> Any:
    """Convolve each channel with its own kernel, with zeros around the images.

    Args:
        images: float32 [n, height, width, channels].
        kernel: float32 [rows, 5, channels, 1].

    Returns:
        float32 [n, height, width, channels].
    """
    import tensorflow as tf

    def find_columns(images: Any, slopes: Any, columns: int) -> Any:
        size = (kernel.shape[0], columns, images.shape[-1], 1)
        return tf.nn.depthwise_conv2d_backprop_filter(images, size, slopes, _ONE, "SAME")

    def convolve(images: Any, kernel: Any) -> Any:
        def differentiate(slopes: Any) -> Any:
            to_images = tf.nn.depthwise_conv2d_backprop_input(
                tf.shape(images), kernel, slopes, _ONE, "SAME"
            )
            columns = [
                find_columns(images[:, :, :-2], slopes[:, :, 2:], 1),
                find_columns(images, slopes, _COLUMNS - 2),
                find_columns(images[:, :, 2:], slopes[:, :, :-2], 1),
            ]
            return to_images, tf.concat(columns, axis=1)

        return tf.nn.depthwise_conv2d(images, kernel, _ONE, "SAME"), differentiate

    return tf.custom_gradient(convolve)(images, kernel)
