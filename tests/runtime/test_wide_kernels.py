"""Gradients of depthwise convolutions of five columns."""

import keras
import numpy as np
import pytest

from cnnclf.runtime.wide_kernels import convolve_wide, has_wide_kernel

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize(("height", "width"), [(7, 7), (4, 9), (5, 3), (3, 2), (1, 1)])
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_results_and_gradients_are_those_of_tensorflow(height: int, width: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(3, height, width, 4)).astype(np.float32))
    kernel = tf.constant(rng.normal(size=(rows, 5, 4, 1)).astype(np.float32))
    slopes = tf.constant(rng.normal(size=images.shape).astype(np.float32))

    def same(images: object, kernel: object) -> object:
        return tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "SAME")

    found = []
    for convolve in (convolve_wide, same):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            maps = convolve(images, kernel)
        found.append([maps, *tape.gradient(maps, [images, kernel], output_gradients=slopes)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "is_wide"),
    [
        ({"kernel_size": 5}, True),
        ({"kernel_size": (3, 5)}, True),
        ({"kernel_size": (5, 3)}, False),
        ({"kernel_size": 7}, False),
        ({"kernel_size": 5, "strides": 2}, False),
        ({"kernel_size": 5, "dilation_rate": 2}, False),
        ({"kernel_size": 5, "padding": "valid"}, False),
        ({"kernel_size": 5, "depth_multiplier": 2}, False),
    ],
)
def test_which_layers_are_computed_so(options: dict[str, object], is_wide: bool) -> None:
    layer = keras.layers.DepthwiseConv2D(**{"padding": "same"} | options)
    assert has_wide_kernel(layer) is is_wide
