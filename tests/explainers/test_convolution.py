"""Convolution and pooling in NumPy equal the layers of Keras, in every combination they have."""

import itertools

import numpy as np
import pytest

from cnnclf.config import choices_of, list_fields
from cnnclf.config.convolve_config import ConvolveConfig
from cnnclf.errors import UsageError
from cnnclf.explainers.convolution import Sliding, activate, convolve, pool_maps, spread
from cnnclf.explainers.filter_table import Kernel

RNG = np.random.default_rng(3)
MOVES = [(stride, 1) for stride in (1, 2, 3)] + [(1, 2), (1, 3)]  # Keras refuses both at once
SIDES = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 2)]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_convolution_equals_conv2d(padding: str, sides: tuple[int, int], channels: int) -> None:
    import keras

    kernel = Kernel("k", RNG.normal(size=(*sides, channels)), bias=0.3)
    for (stride, dilation), shape in itertools.product(MOVES, [(17, 16), (23, 14)]):
        image = RNG.random((*shape, channels))
        layer = keras.layers.Conv2D(
            1, sides, strides=stride, dilation_rate=dilation, padding=padding
        )
        layer.build((None, *image.shape))
        layer.set_weights([kernel.weights[..., None], np.array([kernel.bias])])
        expected = np.asarray(layer(image[None].astype(np.float32)))[0, ..., 0]
        found = convolve(image, kernel, sliding=Sliding(stride, dilation, padding))
        np.testing.assert_allclose(found.summed, expected, atol=1e-5)
        place = tuple(side // 2 for side in expected.shape)
        assert found.arithmetic(*place).total == pytest.approx(float(expected[place]), abs=1e-5)
        assert found.per_channel.shape == (*expected.shape, channels)
        rows, columns = (
            found.sliding.formula(size, side).rpartition("= ")[2]
            for size, side in zip(shape, sides, strict=True)
        )
        assert (int(rows), int(columns)) == expected.shape


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_equals_keras(kind: str) -> None:
    import keras

    layers = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
    for size, shape in itertools.product((1, 2, 3, 5), [(7, 9), (8, 6)]):
        values = RNG.normal(size=shape)
        layer = layers[kind](size)
        expected = np.asarray(layer(values[None, ..., None].astype(np.float32)))[0, ..., 0]
        found = pool_maps(values, kind, size=size)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", choices_of(list_fields(ConvolveConfig)["activation"]))
def test_activations_equal_keras(name: str) -> None:
    import keras

    values = np.concatenate([RNG.normal(size=50) * 3, [0.0, -1000.0, 1000.0]])
    function = keras.activations.get(None if name == "none" else name)
    expected = np.asarray(function(keras.ops.convert_to_tensor(values.astype(np.float32))))
    np.testing.assert_allclose(activate(values, name), expected, atol=1e-5, rtol=1e-5)


def test_padding_that_keras_does_not_have() -> None:
    image = np.arange(12.0).reshape(3, 4, 1)
    kernel = Kernel("sum", np.ones((3, 3)))
    modes = {
        mode: convolve(image, kernel, sliding=Sliding(padding="same", pad_mode=mode, pad_value=7.0))
        for mode in ("zeros", "constant", "reflect", "edge")
    }
    corner = {mode: float(found.summed[0, 0]) for mode, found in modes.items()}
    assert corner["zeros"] == 0 + 1 + 4 + 5
    assert corner["constant"] == corner["zeros"] + 5 * 7
    assert corner["edge"] == 0 + 0 + 1 + 0 + 0 + 1 + 4 + 4 + 5
    assert corner["reflect"] == 5 + 4 + 5 + 1 + 0 + 1 + 5 + 4 + 5


def test_a_kernel_without_channels_is_the_same_for_all() -> None:
    image = RNG.random((5, 6, 3))
    found = convolve(image, Kernel("k", np.ones((2, 2))), sliding=Sliding())
    np.testing.assert_allclose(found.summed, found.per_channel.sum(axis=2))
    alone = convolve(image[..., 1:2], Kernel("k", np.ones((2, 2))), sliding=Sliding())
    np.testing.assert_allclose(found.per_channel[..., 1], alone.summed)
    with pytest.raises(UsageError, match="has 2 channels, the image 3"):
        spread(np.ones((3, 3, 2)), 3)


def test_stride_and_dilation_together() -> None:
    image = RNG.random((9, 9, 1))
    weights = RNG.random((3, 3))
    found = convolve(image, Kernel("k", weights), sliding=Sliding(2, 2)).summed
    dilated = np.zeros((5, 5))
    dilated[::2, ::2] = weights
    whole = convolve(image, Kernel("k", dilated), sliding=Sliding()).summed
    np.testing.assert_allclose(found, whole[::2, ::2])


@pytest.mark.parametrize(
    ("sliding", "words"),
    [
        (Sliding(), "the kernel is larger than the image: it covers 5 pixels"),
        (Sliding(dilation=2), "it covers 9 pixels"),
        (Sliding(padding="same", pad_mode="reflect", dilation=3), "need a larger image"),
    ],
)
def test_a_kernel_that_does_not_fit(sliding: Sliding, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        convolve(np.ones((4, 4, 1)), Kernel("k", np.ones((5, 5))), sliding=sliding)


def test_places_and_windows_outside_are_refused() -> None:
    found = convolve(np.ones((4, 5, 1)), Kernel("k", np.ones((3, 3))), sliding=Sliding())
    assert found.arithmetic(1, 2).total == 9
    with pytest.raises(UsageError, match="rows 0 to 1 and columns 0 to 2"):
        found.arithmetic(2, 0)
    with pytest.raises(UsageError, match="larger than the result before it, 2x3"):
        pool_maps(found.summed, "max", size=3)
