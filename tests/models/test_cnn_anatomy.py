"""The anatomy of a CNN, and that Keras builds the same."""

from typing import Any

import numpy as np
import pytest

from cnnclf.config import ModelConfig, TrainConfig, load_config
from cnnclf.errors import ConfigError
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.cnn import build_cnn
from cnnclf.models.cnn_anatomy import plan_cnn


def shaped(**changes: Any) -> ModelConfig:
    base: dict[str, Any] = {
        "blocks": 2,
        "filters": [4, 6],
        "convs_per_block": [1, 2],
        "pool_stride": 2,
    }
    return ModelConfig.model_validate(base | changes)


def plan_shaped(input_shape: tuple[int, int, int]) -> Anatomy:
    return plan_cnn(shaped(), input_shape, num_classes=3)


def test_textbook_counts_what_the_textbook_counts() -> None:
    config, _ = load_config(options={"model.preset": "textbook"}, kind=TrainConfig)
    anatomy = plan_cnn(config.model, (64, 64, 3), num_classes=10)
    assert anatomy.parameters == 3_938_570
    shapes = {layer.name: layer.output_shape for layer in anatomy.layers}
    assert shapes["block1_conv1"] == (62, 62, 32)
    assert shapes["block1_pool"] == (31, 31, 32)
    assert shapes["flatten"] == (30_752,)


def test_receptive_fields_follow_the_recurrence() -> None:
    layers = {layer.name: layer for layer in plan_shaped((32, 32, 3)).layers}
    assert layers["block1_conv1"].receptive_field == 3
    assert layers["block1_pool"].receptive_field == 4
    assert layers["block2_conv1"].receptive_field == 8
    assert layers["block2_conv2"].receptive_field == 12
    assert layers["logits"].receptive_field == 0, "the top sees the whole image"


def test_macs_of_a_convolution() -> None:
    layers = {layer.name: layer for layer in plan_shaped((32, 32, 3)).layers}
    assert layers["block1_conv1"].macs == 32 * 32 * 3 * 3 * 3 * 4
    assert layers["logits"].macs == 6 * 3


VARIANTS: list[dict[str, Any]] = [
    {},
    {"padding": "valid"},
    {"stride": 2},
    {"kernel_size": 5, "padding": "valid"},
    {"pooling": "average", "pool_size": 3, "pool_stride": 1},
    {"pooling": "none"},
    {"pool_last": True},
    {"pool_last": True, "pool_after": "first"},
    {"whiten": 2, "norm_scale": False, "initial_kernels": "identity"},
    {"whiten": 3, "batch_norm": False, "pool_after": "first", "pooling": "average"},
    {"batch_norm": False},
    {"top": "flatten"},
    {"top": "global_max", "dense_units": [7, 5], "dropout": 0.5},
    {"dense_units": [8], "dropout": 0.0, "l1": 0.1, "l2": 0.1},
    *({"activation": name} for name in ("leaky_relu", "elu", "selu", "gelu", "swish")),
    *({"activation": name} for name in ("tanh", "sigmoid")),
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("shape", [(32, 32, 3), (29, 37, 1)], ids=str)
def test_keras_builds_what_the_plan_says(
    changes: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    import keras

    model = shaped(**changes)
    plan = plan_cnn(model, shape, num_classes=3).layers
    net = build_cnn(model, shape, num_classes=3)
    assert isinstance(net, keras.Sequential)
    assert [layer.name for layer in net.layers] == [layer.name for layer in plan]
    for layer, planned in zip(net.layers, plan, strict=True):
        assert tuple(layer.output.shape[1:]) == planned.output_shape, planned.name
        assert layer.count_params() == planned.parameters, planned.name
    logits = np.asarray(net(np.full((2, *shape), 255, np.uint8)))
    assert logits.shape == (2, 3)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_last_pooling_is_in_float32_under_mixed_precision() -> None:
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = build_cnn(shaped(dropout=0.5), (32, 32, 3), num_classes=3)
    finally:
        keras.config.set_dtype_policy(policy)
    kinds = {layer.name: str(layer.output.dtype) for layer in net.layers}
    assert kinds["block1_conv1"] == "bfloat16"
    assert (kinds["global_average"], kinds["logits"]) == ("float32", "float32")


def test_convolutions_that_start_as_the_identity_pass_their_input_on() -> None:
    model = shaped(initial_kernels="identity", filters=[5, 3], convs_per_block=[1])
    net = build_cnn(model, (8, 8, 3), num_classes=2)
    maps = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    wider, narrower = net.get_layer("block1_conv1"), net.get_layer("block2_conv1")
    wide = np.asarray(wider(maps))
    np.testing.assert_allclose(wide[..., :3], maps, atol=1e-6)
    assert np.abs(wide[..., 3:]).max() > 0.1, "further filters are random"
    np.testing.assert_allclose(np.asarray(narrower(wide)), wide[..., :3], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"padding": "valid", "kernel_size": 31},
            "block1_conv1: its window of 31x31 is larger than the feature maps",
        ),
        (
            {"pool_size": 16, "pool_stride": 16, "pool_last": True},
            "block2_pool: its window of 16x16",
        ),
        ({"filters": [4]}, "model.filters = 4: 1 number for 2 blocks"),
        ({"convs_per_block": [1, 1, 1]}, "model.convs_per_block = 1,1,1: 3 numbers for 2 blocks"),
        ({"blocks": "auto"}, "expected a resolved model"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_cnn(shaped(**changes), (16, 16, 1), num_classes=2)


@pytest.mark.parametrize(
    ("changes", "side", "hint"),
    [
        ({"pool_size": 16, "pool_stride": 16}, 16, "a smaller --pool-size, fewer --blocks or"),
        ({"pool_size": 2, "pool_stride": 16}, 16, "a smaller --pool-stride, fewer --blocks or"),
        ({"stride": 8}, 16, "a smaller --stride, fewer --blocks or"),
        ({"padding": "valid", "kernel_size": 31}, 16, "a smaller --kernel-size, --padding same or"),
        ({"pool_size": 9}, 8, "a smaller --pool-size or"),
        ({}, 1, ""),
        ({"whiten": 3}, 2, "a smaller --whiten or"),
    ],
)
def test_the_hint_names_what_makes_the_windows_too_large(
    changes: dict[str, Any], side: int, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_cnn(shaped(pool_last=True, **changes), (side, side, 1), num_classes=2)
    assert caught.value.hint == f"use {hint} a larger --image-size".replace("  ", " ")
