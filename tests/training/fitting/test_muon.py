"""Muon: what a step does to kernels, and to everything else."""

from typing import Any

import numpy as np
import pytest

from cnnclf.config import OptimizerConfig
from cnnclf.training.fitting.muon import ADAM_RATIO, orthogonalize
from cnnclf.training.fitting.optimizers import build_optimizer


def settings(**options: Any) -> OptimizerConfig:
    base: dict[str, Any] = {"name": "muon", "learning_rate": 0.1, "schedule": "constant"}
    return OptimizerConfig(**base | {"warmup": 0, "weight_decay": 0.0} | options)


def build_net() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, name="logits"),
        ]
    )


def draw_gradients(net: Any, *, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    shapes = [variable.shape for variable in net.trainable_variables]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shape", [(27, 6), (6, 27), (16, 16), (1, 5)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    matrix = 1e3 * np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    made = np.asarray(orthogonalize(matrix))
    values = np.diag(left.T @ made @ right.T)
    clear = sizes > 0.05 * sizes[0]
    assert np.all((values[clear] > 0.4) & (values[clear] < 1.3))
    np.testing.assert_allclose(made, (left * values) @ right, atol=1e-3)


def test_a_step_changes_a_kernel_by_its_rate_and_keeps_its_norm() -> None:
    net = build_net()
    optimizer = build_optimizer(settings(learning_rate=0.01), total_steps=9)
    (before, *_) = net.get_weights()
    optimizer.apply(draw_gradients(net), net.trainable_variables)
    (after, *_) = net.get_weights()
    size = np.linalg.norm(before)
    assert np.linalg.norm(after) == pytest.approx(size, rel=1e-5)
    # singular values of a step are about 1, not 1
    assert np.linalg.norm(after - before) / size == pytest.approx(0.01, rel=0.3)


def test_the_size_of_gradients_has_no_effect_on_kernels() -> None:
    kernels = []
    for scale in (1.0, 1e-4):
        net = build_net()
        optimizer = build_optimizer(settings(), total_steps=9)
        for seed in range(3):
            gradients = [scale * each for each in draw_gradients(net, seed=seed)]
            optimizer.apply(gradients, net.trainable_variables)
        kernels.append(net.get_weights()[0])
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-3)


def test_other_weights_are_trained_by_adamw() -> None:
    weights = []
    for chosen in (
        settings(weight_decay=0.3),
        settings(name="adamw", learning_rate=0.1 * ADAM_RATIO, weight_decay=0.3),
    ):
        net = build_net()
        optimizer = build_optimizer(chosen, total_steps=9)
        optimizer.apply(draw_gradients(net), net.trainable_variables)
        weights.append(net.get_weights()[1:])
    for muon, adamw in zip(*weights, strict=True):
        np.testing.assert_allclose(muon, adamw, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("is_zero", ["kernel", "gradient"])
def test_zeros_stay_zero_and_finite(is_zero: str) -> None:
    net = build_net()
    optimizer = build_optimizer(settings(), total_steps=9)
    kernel = net.trainable_variables[0]
    gradients = draw_gradients(net)
    if is_zero == "kernel":
        kernel.assign(np.zeros(kernel.shape, np.float32))
    else:
        gradients[0] = np.zeros(kernel.shape, np.float32)
    before = np.asarray(kernel)
    optimizer.apply(gradients, net.trainable_variables)
    np.testing.assert_allclose(np.asarray(kernel), before, rtol=1e-5)
