"""A learned filter gives exactly what its layer gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import ConvolveConfig
from cnnclf.errors import CnnclfError, UsageError
from cnnclf.explainers.convolved_image import convolve_image
from cnnclf.explainers.learned_filter import parse_learned
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundles import save_bundle

ROOT = Path(__file__).parents[2]
TINY_RUN = ROOT / "sample_data/tiny_run"
IMAGE = ROOT / "sample_data/x_or_o/x/x000.jpg"


def compute_layer(model: Any, name: str, pixels: np.ndarray) -> np.ndarray:
    import keras

    part = keras.Model(model.inputs[0], model.get_layer(name).output)
    maps: np.ndarray = np.asarray(part(pixels[None].astype(np.float32)))[0]
    return maps


@pytest.mark.parametrize("layer", [f"block{number}_conv1" for number in range(1, 5)])
def test_filters_of_a_run(layer: str) -> None:
    from cnnclf.inference.classifier import Classifier

    done = convolve_image(IMAGE, ConvolveConfig(filter=f"{TINY_RUN}:{layer}:5"))
    model = Classifier.load(TINY_RUN).model
    expected = compute_layer(model, layer, done.pixels)[..., 5]
    np.testing.assert_allclose(done.result, expected, atol=1e-5)
    assert done.is_pixels is False, "the network scales pixels first"


@pytest.fixture(scope="module")
def odd_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups, depthwise filters, biases, strides and a dilation."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(2)
    bias = keras.initializers.RandomNormal()
    pixels = keras.Input((20, 18, 3))
    maps = layers.Conv2D(8, 3, strides=2, bias_initializer=bias, name="strided")(pixels)
    maps = layers.Conv2D(6, 3, groups=2, padding="same", name="grouped")(maps)
    maps = layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer=bias, name="depth")(maps)
    maps = layers.Conv2D(4, 2, dilation_rate=2, padding="same", name="dilated")(maps)
    maps = layers.SeparableConv2D(4, 2, name="separable")(maps)
    logits = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D(name="pool")(maps))
    path = tmp_path_factory.mktemp("odd") / "bundle"
    save_bundle(
        path,
        keras.Model(pixels, logits),
        labels=("a", "b"),
        input_spec=InputSpec(20, 18),
        dataset={"name": "none", "fingerprint": "none"},
    )
    return path


@pytest.mark.parametrize(
    ("layer", "index"),
    [
        ("strided", 7),
        ("grouped", 1),
        ("grouped", 4),
        ("depth", 3),
        ("depth", 0),
        ("dilated", 2),
        ("separable", 3),
    ],
)
def test_filters_of_layers_of_every_kind(odd_bundle: Path, layer: str, index: int) -> None:
    from cnnclf.inference.classifier import Classifier

    done = convolve_image(IMAGE, ConvolveConfig(filter=f"{odd_bundle}:{layer}:{index}"))
    expected = compute_layer(Classifier.load(odd_bundle).model, layer, done.pixels)[..., index]
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(done.result, expected, atol=1e-5 * max(scale, 1.0))


@pytest.mark.parametrize(
    ("filter_", "words"),
    [
        (f"{TINY_RUN}:block1_conv:0", "block1_conv is no layer of the network"),
        (f"{TINY_RUN}:block1_pool:0", "block1_pool is no convolution of the network"),
        (f"{TINY_RUN}:block1_conv1:8", "has 8 filters, so the index is 0 to 7, not 8"),
        (f"{TINY_RUN}:block1_conv1:-1", "'-1' is no index of a filter"),
        ("nowhere:block1_conv1:0", "nowhere is not a run directory"),
    ],
)
def test_a_filter_that_does_not_exist(filter_: str, words: str) -> None:
    with pytest.raises(CnnclfError, match=words) as caught:
        convolve_image(IMAGE, ConvolveConfig(filter=filter_))
    if "block1_conv:" in filter_:
        assert "did you mean block1_conv1" in caught.value.hint


def test_what_the_network_decides_cannot_be_given() -> None:
    learned = f"{TINY_RUN}:block1_conv1:0"
    with pytest.raises(UsageError, match="--color cannot be given"):
        convolve_image(IMAGE, ConvolveConfig(filter=learned, color="gray"))
    with pytest.raises(UsageError, match="needs an image file"):
        convolve_image(np.zeros((8, 8), np.uint8), ConvolveConfig(filter=learned))


def test_names_of_runs_may_have_colons() -> None:
    assert parse_learned("a:b:conv:3") == (Path("a:b"), "conv", 3)
    assert parse_learned("blur") is None
    assert parse_learned("C:own.csv") is None
