"""Rates of single variables: what each step does to them, with every optimizer and backend."""

import importlib.util
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cnnclf.config import OptimizerConfig
from cnnclf.training.fitting.optimizers import build_optimizer

SCALES = (0.25, 0.5, 1.0)


def build_net() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,)), *(keras.layers.Dense(4, activation="tanh") for _ in SCALES)]
    )


def scale_layers(net: Any) -> dict[int, float]:
    return {
        id(variable): scale
        for layer, scale in zip(net.layers, SCALES, strict=True)
        for variable in layer.variables
        if scale != 1.0  # what is not named has the whole rate
    }


def settings(name: str, **options: Any) -> OptimizerConfig:
    return OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.3, warmup=0, **options)


def take_step(net: Any, optimizer: Any, *, before: int) -> list[Any]:
    """Return what one step changes, after so many others from the same weights."""
    start = net.get_weights()
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=weight.shape).astype(np.float32) for weight in start]
    for _ in range(before + 1):
        net.set_weights(start)
        optimizer.apply([*gradients], net.trainable_variables)
    changed = [new - old for new, old in zip(net.get_weights(), start, strict=True)]
    net.set_weights(start)
    return changed


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "muon"])
def test_a_step_is_scaled_with_its_weight_decay(name: str, schedule: str) -> None:
    net = build_net()
    chosen = settings(name, schedule=schedule, clip_norm=1.0)
    whole = take_step(net, build_optimizer(chosen, total_steps=9), before=3)
    scaled = build_optimizer(chosen, total_steps=9, scales=scale_layers(net))
    parts = take_step(net, scaled, before=3)
    factors = [scale for scale in SCALES for _ in ("kernel", "bias")]
    for part, all_of_it, factor in zip(parts, whole, factors, strict=True):
        assert np.abs(all_of_it).min() > 1e-6
        np.testing.assert_allclose(part, factor * all_of_it, rtol=1e-4, atol=1e-7)


def test_a_compiled_network_is_trained_with_scaled_rates() -> None:
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    changes = []
    for is_scaled in (False, True):
        net = build_net()
        optimizer = build_optimizer(
            settings("adamw"), total_steps=5, scales=scale_layers(net) if is_scaled else None
        )
        start = net.get_weights()
        net.compile(optimizer, "mse", jit_compile=False)
        net.train_on_batch(x, x)
        changes.append([a - b for a, b in zip(net.get_weights(), start, strict=True)])
    factors = [scale for scale in SCALES for _ in ("kernel", "bias")]
    for whole, part, factor in zip(*changes, factors, strict=True):
        np.testing.assert_allclose(part, factor * whole, rtol=1e-3, atol=1e-6)


def test_weight_decay_itself_is_left_as_it_was() -> None:
    net = build_net()
    optimizer = build_optimizer(settings("adamw"), total_steps=5, scales=scale_layers(net))
    take_step(net, optimizer, before=0)
    assert optimizer.weight_decay == 0.3


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_same_holds_on_another_backend(backend: str) -> None:
    if os.environ.get("KERAS_BACKEND") == backend:
        pytest.skip("this is the process on the other backend")
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
