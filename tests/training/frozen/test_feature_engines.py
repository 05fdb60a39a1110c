"""What computes frozen layers: both engines give the same outputs for the same images."""

import secrets
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.config import HeadConfig
from cnnclf.data.cache import list_cache
from cnnclf.errors import RunError
from cnnclf.inference.engines import openvino_engine
from cnnclf.inference.engines.engine import EngineRefusedError
from cnnclf.inference.engines.keras_engine import set_precision
from cnnclf.models.backbones import find_backbone
from cnnclf.models.transfer import build_transfer, choose_frozen_stage
from cnnclf.progress import Silent
from cnnclf.training.frozen import feature_engines
from cnnclf.training.frozen.feature_engines import (
    FeatureEngine,
    FrozenNetwork,
    choose_engine,
    foresee_engine,
    open_engine,
)

RUNTIME: Any = SimpleNamespace(kind="cpu", backend="tensorflow", precision="float32")


def build_trunk() -> Any:
    """A model with two outputs of different shapes."""
    import keras

    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(pixels))
    return keras.Model(pixels, [maps, keras.layers.GlobalAveragePooling2D()(maps)])


def open_model(name: str, model: Any) -> FeatureEngine:
    """Open an engine for a model that nobody has converted before."""
    network = FrozenNetwork("tiny", secrets.token_hex(), lambda: model)
    return open_engine(name, network, progress=Silent())


def run(name: str, model: Any) -> dict[int, list[npt.NDArray[Any]]]:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    results: dict[int, list[npt.NDArray[Any]]] = {}
    batches = ((at, pixels[at : at + 4]) for at in range(0, 11, 4))
    open_model(name, model).run(batches, results.__setitem__)
    return results


@pytest.mark.parametrize(("name", "within"), [("openvino-f32", 1e-5), ("openvino-bf16", 0.05)])
def test_openvino_gives_what_keras_gives(name: str, within: float) -> None:
    model = build_trunk()
    expected, found = run("keras-float32", model), run(name, model)
    assert list(found) == list(expected) == [0, 4, 8]
    for at, outputs in expected.items():
        assert [each.shape for each in found[at]] == [each.shape for each in outputs]
        for ours, theirs in zip(found[at], outputs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=within)


# Each kind of layers: plain, residual, dense, separable, gated, several maps at a cut, layer
# normalization with GELU.
FAMILIES = (
    "vgg16",
    "resnet50v2",
    "densenet121",
    "xception",
    "mobilenetv2-0.35",
    "mobilenetv3-small-0.75",
    "efficientnetv2-b0",
    "nasnet-mobile",
    "convnext-tiny",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_computes_the_frozen_layers_of_every_family(name: str) -> None:
    import keras

    keras.utils.set_random_seed(2)  # some draws magnify rounding from layer to layer
    row = find_backbone(name)
    transfer = build_transfer(
        row, HeadConfig(), height=row.min_size, width=row.min_size, num_classes=2
    )
    frozen = transfer.features(choose_frozen_stage(row, "1") or "")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *frozen.input_shape[1:]), np.uint8)
    settle_norms(transfer.backbone, pixels)
    found: dict[int, list[npt.NDArray[Any]]] = {}
    for number, engine in enumerate(("keras-float32", "openvino-f32")):
        open_model(engine, frozen).run([(number, pixels)], found.__setitem__)
    for theirs, ours in zip(found[0], found[1], strict=True):
        assert ours.shape == theirs.shape
        assert theirs.std(axis=0).max() > 1e-3, "else all images are the same to it"
        assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()
    keras.backend.clear_session()


def settle_norms(model: Any, pixels: npt.NDArray[np.uint8]) -> None:
    """Give norms the statistics of some images: else random weights let nothing through."""
    import keras

    norms = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
    model(pixels.astype(np.float32), training=True)
    for norm in norms:
        norm.trainable = False
        # one for all channels: a channel with next to no variance would magnify rounding
        norm.moving_variance.assign(
            np.full_like(norm.moving_variance, np.mean(norm.moving_variance))
        )


def test_openvino_gives_no_more_outputs_than_the_model_has() -> None:
    """Swish keeps its input for the gradient, which OpenVINO takes for an output."""
    import keras

    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, activation="swish")(keras.layers.Rescaling(1 / 255)(pixels))
    maps = keras.layers.Conv2D(5, 3, activation="swish")(maps)
    model = keras.Model(pixels, [keras.layers.GlobalAveragePooling2D()(maps), maps])
    expected, found = run("keras-float32", model), run("openvino-f32", model)
    for at, outputs in expected.items():
        assert [each.shape for each in found[at]] == [each.shape for each in outputs]
        for ours, theirs in zip(found[at], outputs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_fastest_engine_that_is_installed_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_engines, "find_fast_precision", lambda: "bfloat16")
    assert choose_engine(RUNTIME, Silent()) == "openvino-bf16"
    monkeypatch.setattr(feature_engines, "find_fast_precision", lambda: "float32")
    assert choose_engine(RUNTIME, Silent()) == "openvino-f32"
    reduced: Any = SimpleNamespace(**vars(RUNTIME) | {"precision": "bfloat16"})
    assert choose_engine(reduced, Silent()) == "keras-bfloat16"
    assert choose_engine(reduced, Silent(), precision="auto") == "openvino-f32", "for the tail only"
    monkeypatch.setattr(feature_engines, "find_missing", lambda *_, **__: ("openvino",))
    progress = Silent()
    assert choose_engine(RUNTIME, progress) == "keras-float32"
    assert "cnnclf[openvino]" in progress.notes[0]


def test_openvino_is_foreseen_where_nothing_else_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feature_engines, "find_fast_precision", lambda: "bfloat16")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert foresee_engine() == choose_engine(RUNTIME, Silent()) == "openvino-bf16"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert foresee_engine() is None
    monkeypatch.delenv("KERAS_BACKEND")
    with monkeypatch.context() as patch:
        patch.setattr(feature_engines, "is_gpu_usable", lambda _: True)
        assert foresee_engine() is None, "TensorFlow has to say whether it finds the GPU"
    monkeypatch.setattr(feature_engines, "find_missing", lambda *_, **__: ("openvino",))
    assert foresee_engine() is None


def test_a_network_is_built_and_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, built = build_trunk(), []
    identity = secrets.token_hex()

    def build() -> Any:
        built.append(True)
        return model

    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    found: dict[int, list[npt.NDArray[Any]]] = {}
    for number in range(2):
        engine = open_engine(
            "openvino-f32", FrozenNetwork("tiny", identity, build), progress=Silent()
        )
        assert engine.shapes == open_model("keras-float32", model).shapes == [(6, 6, 4), (4,)]
        engine.run([(number, pixels)], found.__setitem__)
    assert len(built) == 1
    [entry] = list_cache(("engine-cache",))
    assert entry.source == "tiny"
    for first, second in zip(found[0], found[1], strict=True):
        np.testing.assert_array_equal(first, second)
    open_engine("openvino-f32", FrozenNetwork("tiny", identity + "x", build), progress=Silent())
    assert len(built) == 2, "another network"


def test_layers_that_openvino_does_not_know_are_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise EngineRefusedError("OpenVINO cannot compute this model: no such layer")

    monkeypatch.setattr(openvino_engine, "convert_to_openvino", refuse)
    with pytest.raises(RunError, match="no such layer") as caught:
        open_model("openvino-f32", build_trunk())
    assert caught.value.hint == "use --no-feature-cache"


def test_openvino_computes_a_model_of_reduced_precision_in_its_own() -> None:
    import keras

    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16")(pixels)
    model = keras.Model(pixels, [keras.layers.GlobalAveragePooling2D()(maps), maps])
    plain = set_precision(model, "float32")
    assert plain is not model
    for at, outputs in run("keras-float32", plain).items():
        for ours, theirs in zip(run("openvino-f32", model)[at], outputs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
