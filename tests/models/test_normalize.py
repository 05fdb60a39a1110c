"""Normalization layers against Keras's own preprocessing functions."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.models.normalize import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALIZATIONS,
    complete_inside_normalization,
    normalize_pixels,
)

Pixels = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Every value 0..255 in every channel, in a different order in each."""
    rng = np.random.default_rng(0)
    planes = [rng.permutation(np.arange(256)).reshape(16, 16) for _ in range(3)]
    return np.stack(planes, axis=-1)[np.newaxis].astype("f4")


def build(kind: str) -> Any:
    import keras

    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, normalize_pixels(inputs, kind))


def expect(kind: str, pixels: Pixels) -> Pixels:
    from keras.applications.imagenet_utils import preprocess_input

    if kind == "inside":
        return pixels
    if kind == "lite":
        return ((pixels - 127) / 128).astype("f4")
    return np.asarray(preprocess_input(pixels.copy(), mode=kind))


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_layers_do_what_keras_does(kind: str, pixels: Pixels, tmp_path: Path) -> None:
    import keras

    model = build(kind)
    assert model.weights == []
    expected = expect(kind, pixels)
    np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(pixels), model(pixels))


@pytest.mark.parametrize("kind", ["tf", "caffe", "torch", "lite"])
def test_mixed_precision_does_not_blur_pixels(kind: str, pixels: Pixels) -> None:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        normalized = build(kind)(pixels)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(normalized, expect(kind, pixels), rtol=0, atol=1e-5)


def test_an_unknown_kind_is_a_mistake_in_the_table() -> None:
    with pytest.raises(ValueError, match="'photo'"):
        build("photo")


def test_an_incomplete_normalization_inside_is_completed(pixels: Pixels) -> None:
    """As Keras leaves it after loading ImageNet weights without its own second rescaling."""
    import keras

    inputs = keras.Input((16, 16, 3))
    layer = keras.layers.Normalization()
    model = keras.Model(inputs, layer(keras.layers.Rescaling(1 / 255)(inputs)))
    mean, variance, _ = layer.weights
    mean.assign(IMAGENET_MEAN)
    variance.assign(IMAGENET_STD)
    layer.finalize_state()
    expected = expect("torch", pixels)
    assert np.abs(np.asarray(model(pixels)) - expected).max() > 0.1
    complete_inside_normalization(model)
    np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-5)


def test_fixed_normalizations_are_not_changed(pixels: Pixels) -> None:
    import keras

    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Normalization(mean=1.0, variance=4.0)(inputs))
    before = np.asarray(model(pixels))
    complete_inside_normalization(model)
    np.testing.assert_array_equal(model(pixels), before)
