"""Batch normalization as one operation: the same numbers as those of Keras, and nothing saved."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnclf.config import OptimizerConfig, TrainingConfig
from cnnclf.runtime.fused_norms import fuse_norms
from cnnclf.training.fitting.fit import Phase, compile_phase

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="other backends stay as they are"
)

CLASSES = 3


@pytest.fixture(autouse=True)
def _float32() -> Any:
    policy = keras.mixed_precision.global_policy()
    yield
    keras.mixed_precision.set_global_policy(policy)


def build(channels: int, *, scale: bool = True, frozen: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    norm = keras.layers.BatchNormalization(momentum=0.7, scale=scale, name="norm")
    norm.trainable = not frozen
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            keras.layers.Conv2D(channels, 3, name="conv"),
            norm,
            keras.layers.GlobalMaxPooling2D(dtype="float32"),
            keras.layers.Dense(CLASSES, dtype="float32"),
        ]
    )


def train(net: keras.Model, steps: int = 4) -> list[float]:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.3), loss=loss, jit_compile=False)
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (7, 6, 5, 2)).astype(np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[np.arange(7) % CLASSES]
    return [float(net.train_on_batch(x, y)) for _ in range(steps)]


def is_fused(net: keras.Model) -> bool:
    return "call" in vars(net.get_layer("norm"))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("channels", [8, 16, 24])
def test_losses_weights_and_averages_are_those_of_keras(channels: int, scale: bool) -> None:
    own, theirs = build(channels, scale=scale), build(channels, scale=scale)
    fuse_norms(own)
    assert is_fused(own)
    np.testing.assert_allclose(train(own), train(theirs), rtol=1e-4)
    for mine, other in zip(own.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-4, err_msg=mine.path)
    assert np.abs(own.get_layer("norm").moving_mean.numpy()).max() > 0.1


@pytest.mark.parametrize("channels", [16, 24])
def test_under_mixed_precision_too(channels: int) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    own, theirs = build(channels), build(channels)
    fuse_norms(own)
    norm = own.get_layer("norm")
    maps = np.random.default_rng(0).normal(0, 1, (4, 3, 3, channels)).astype(np.float32)
    assert keras.backend.standardize_dtype(norm(maps, training=True).dtype) == "bfloat16"
    np.testing.assert_allclose(
        np.asarray(keras.ops.cast(norm(maps, training=True), "float32")),
        np.asarray(keras.ops.cast(theirs.get_layer("norm")(maps, training=True), "float32")),
        atol=0.02,
    )
    np.testing.assert_allclose(train(own), train(theirs), rtol=0.03)


def test_a_frozen_layer_uses_its_averages() -> None:
    own, theirs = build(16, frozen=True), build(16, frozen=True)
    fuse_norms(own)
    assert train(own) == train(theirs)
    assert not own.get_layer("norm").moving_mean.numpy().any()


def test_inference_is_that_of_keras() -> None:
    own = build(16)
    x = np.ones((2, 6, 5, 2), np.float32)
    before = np.asarray(own(x, training=False))
    fuse_norms(own)
    np.testing.assert_array_equal(np.asarray(own(x, training=False)), before)


def test_numbers_of_channels_without_fast_code_stay() -> None:
    net = build(9)
    fuse_norms(net)
    assert not is_fused(net)


def test_what_is_saved_knows_nothing_of_it(tmp_path: Path) -> None:
    net = build(16)
    content = net.get_config()
    fuse_norms(net)
    train(net, steps=1)
    assert net.get_config() == content
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    assert type(loaded.get_layer("norm")) is keras.layers.BatchNormalization
    assert not is_fused(loaded)
    x = np.ones((2, 6, 5, 2), np.float32)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), net.predict_on_batch(x))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_is_trained_without_xla_is_fused(jit_compile: bool) -> None:
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9)
    phase = Phase(name="train", training=TrainingConfig(), optimizer=optimizer)
    net = build(16)
    whole = keras.Sequential([keras.Input((6, 5, 2)), net])
    compile_phase(phase, whole, steps=1, jit_compile=jit_compile)
    assert is_fused(net) is not jit_compile
