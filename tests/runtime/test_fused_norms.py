"""Batch normalization as one operation: the same numbers as those of Keras, and nothing saved."""

from collections.abc import Callable
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
    from tensorflow.python.framework import config

    policy = keras.mixed_precision.global_policy()
    config.disable_op_determinism()  # an earlier test may have asked for it; XLA is refused with it
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


def train(net: keras.Model, steps: int = 4, *, rate: float = 0.3) -> list[float]:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(rate), loss=loss, jit_compile=False)
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
    np.testing.assert_allclose(train(own), train(theirs), rtol=1e-4)
    assert not own.get_layer("norm").moving_mean.numpy().any()


CONVOLUTIONS: dict[str, Callable[[], keras.Layer]] = {
    "3x3, bias": lambda: keras.layers.Conv2D(6, 3, padding="same"),
    "1x1": lambda: keras.layers.Conv2D(6, 1, use_bias=False),
    "1x1, bias": lambda: keras.layers.Conv2D(6, 1),
    "1x1, stride 2": lambda: keras.layers.Conv2D(6, 1, strides=2, use_bias=False),
    "dilated": lambda: keras.layers.Conv2D(6, 2, dilation_rate=2),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, strides=2, padding="same"),
    "depthwise, five columns": lambda: keras.layers.DepthwiseConv2D((3, 5), padding="same"),
    "depthwise, five, stride 2": lambda: keras.layers.DepthwiseConv2D(5, 2, padding="same"),
    "depthwise, two": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
}


def build_frozen(
    build_layer: Callable[[], keras.Layer], *, scale: bool = True, frozen: bool = True
) -> keras.Model:
    keras.utils.set_random_seed(0)
    norm = keras.layers.BatchNormalization(scale=scale, name="norm")
    layers = [keras.Input((6, 5, 2)), build_layer(), norm, keras.layers.GlobalMaxPooling2D()]
    net = keras.Sequential([*layers, keras.layers.Dense(CLASSES)])
    rng = np.random.default_rng(1)
    for each in norm.weights:
        each.assign(rng.uniform(0.5, 2, each.shape))
    norm.trainable = not frozen
    return net


def is_folded(net: keras.Model) -> bool:
    return "call" in vars(net.layers[0])


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_frozen_layer_is_part_of_the_convolution_before_it(kind: str, scale: bool) -> None:
    own, theirs = (build_frozen(CONVOLUTIONS[kind], scale=scale) for _ in range(2))
    fuse_norms(own)
    assert is_folded(own)
    assert own.output_shape == theirs.output_shape
    np.testing.assert_allclose(train(own, rate=0.01), train(theirs, rate=0.01), rtol=1e-4)
    for mine, other in zip(own.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-5, err_msg=mine.path)


def test_a_layer_that_is_trained_again_is_that_of_keras() -> None:
    own, theirs = (build_frozen(CONVOLUTIONS["1x1"]) for _ in range(2))
    fuse_norms(own)
    own.get_layer("norm").trainable = theirs.get_layer("norm").trainable = True
    assert train(own) == train(theirs)


@pytest.mark.parametrize("why", ["trained", "activation", "bfloat16", "used twice", "an output"])
def test_other_convolutions_stay(why: str) -> None:
    if why == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    activation = "relu" if why == "activation" else None
    net = build_frozen(
        lambda: keras.layers.Conv2D(6, 1, activation=activation), frozen=why != "trained"
    )
    if why == "used twice":
        keras.layers.ReLU()(net.layers[0].output)
    convolution = net.layers[0]
    if why == "an output":
        net = keras.Model(net.inputs, [*net.outputs, convolution.output])
    fuse_norms(net)
    assert "call" not in vars(convolution)


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


def test_a_step_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    net = build(16)
    call = net.get_layer("conv").call

    def count(inputs: Any) -> Any:
        traced.append(inputs.shape)
        return call(inputs)

    monkeypatch.setattr(net.get_layer("conv"), "call", count)
    optimizer = OptimizerConfig(name="adamw", learning_rate=0.1)
    phase = Phase(name="train", training=TrainingConfig(), optimizer=optimizer)
    trainer = compile_phase(phase, net, steps=2, jit_compile=False)
    x, y = np.ones((4, 6, 5, 2), np.float32), np.eye(CLASSES, dtype=np.float32)[[0, 1, 2, 0]]
    history = trainer.fit(x, y, batch_size=2, epochs=1, verbose=0).history
    assert len(traced) == 1
    assert 0 < history["accuracy"][0] < 1, "nothing is left of what built the metrics"
