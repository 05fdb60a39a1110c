"""Keras as an engine: what it computes in, and the graph that takes bytes."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cnnclf.config import ModelConfig
from cnnclf.inference.engines.keras_engine import KerasEngine, accept_uint8, set_precision
from cnnclf.inference.familiarity import join_features
from cnnclf.models.cnn import build_cnn
from tests.inference.conftest import build_tiny


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


def build_mixed(policy: str) -> Any:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build_tiny()
    finally:
        keras.config.set_dtype_policy(before)
    return model


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_trained_in_short_numbers_computes_exactly(policy: str, pixels: np.ndarray) -> None:
    model = build_mixed(policy)
    exact = set_precision(model, "float32")
    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    assert KerasEngine(exact).precision == "float32"
    expected = KerasEngine(build_tiny()).logits(pixels)
    np.testing.assert_allclose(KerasEngine(exact).logits(pixels), expected, atol=1e-5)
    # The one it was made of stays as it was trained.
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")


def test_a_model_computes_in_bfloat16_but_gives_exact_numbers(pixels: np.ndarray) -> None:
    model = build_tiny()
    short = set_precision(model, "bfloat16")
    engine = KerasEngine(short)
    assert engine.precision == "bfloat16"
    assert short.layers[1].compute_dtype == "bfloat16"
    assert short.layers[1].kernel.dtype == "float32"
    assert short.layers[-1].compute_dtype == "float32"
    expected = KerasEngine(model).logits(pixels)
    found = engine.logits(pixels)
    assert np.abs(found - expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=0.05 * float(np.ptp(expected)))
    assert set_precision(short, "bfloat16") is short


def test_a_network_trained_in_short_numbers_stays_as_it_is() -> None:
    """Resuming would otherwise train another network: its pooling is exact."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        settings = ModelConfig(blocks=1, filters=[4], convs_per_block=[1], pool_stride=2)
        net = build_cnn(settings, (16, 16, 3), num_classes=2)
    finally:
        keras.config.set_dtype_policy(before)
    kinds = {layer.name: layer.compute_dtype for layer in net.layers}
    assert kinds["global_average"] == "float32"
    assert set_precision(net, "bfloat16") is net
    again = set_precision(set_precision(net, "float32"), "bfloat16")
    pools = [layer for layer in again.layers if layer.name == "global_average"]
    assert [layer.compute_dtype for layer in pools] == ["float32"]


def test_logits_stay_exact_beside_features(pixels: np.ndarray) -> None:
    model = build_tiny()
    joined = set_precision(join_features(model), "bfloat16")
    kinds = {layer.name: layer.compute_dtype for layer in joined.layers}
    assert kinds["logits"] == kinds["familiarity_join"] == "float32"
    assert "bfloat16" in kinds.values()
    alone = KerasEngine(set_precision(model, "bfloat16")).logits(pixels)
    np.testing.assert_array_equal(KerasEngine(joined).logits(pixels)[:, :3], alone)


def test_threads_may_compute_batches_of_new_sizes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that are known were counted while another thread added one."""

    class Sizes(set[int]):
        def __iter__(self) -> Iterator[int]:
            for size in super().__iter__():
                time.sleep(1e-4)  # another thread may go on here
                yield size

    engine = KerasEngine(build_tiny())
    monkeypatch.setattr(engine, "_sizes", Sizes())
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(engine._choose_size, [*range(1, 40)] * 2))
    assert all(size >= count for size, count in zip(sizes, [*range(1, 40)] * 2, strict=True))


def test_a_model_that_is_exact_already_is_taken_as_it_is() -> None:
    model = build_tiny()
    assert set_precision(model, "float32") is model


def test_a_graph_that_takes_bytes_gives_the_same(pixels: np.ndarray) -> None:
    import keras

    model = build_tiny()
    np.testing.assert_allclose(
        accept_uint8(model)(pixels), model(pixels.astype(np.float32)), atol=1e-6
    )
    two = keras.Model(model.inputs, [model.layers[1].output, *model.outputs])
    shapes = [each.shape for each in accept_uint8(two)(pixels)]
    assert shapes == [(6, 14, 14, 4), (6, 3)]
