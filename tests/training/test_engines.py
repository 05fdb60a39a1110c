"""What computes frozen layers: both engines give the same outputs for the same pictures."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.errors import RunError
from cnnclf.inference.engines import openvino_engine
from cnnclf.inference.engines.base import EngineRefusedError
from cnnclf.progress import Silent
from cnnclf.training import engines
from cnnclf.training.engines import build_engine, choose_engine

RUNTIME: Any = SimpleNamespace(kind="cpu", backend="tensorflow", precision="float32")


def build_trunk() -> Any:
    """A model with two outputs of different shapes."""
    import keras

    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(pixels))
    return keras.Model(pixels, [maps, keras.layers.GlobalAveragePooling2D()(maps)])


def run(name: str, model: Any) -> dict[int, list[npt.NDArray[Any]]]:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    results: dict[int, list[npt.NDArray[Any]]] = {}
    batches = ((at, pixels[at : at + 4]) for at in range(0, 11, 4))
    build_engine(name, model).run(batches, results.__setitem__)
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


def test_the_fastest_engine_that_is_installed_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_fast_precision", lambda: "bfloat16")
    assert choose_engine(RUNTIME, Silent()) == "openvino-bf16"
    monkeypatch.setattr(engines, "find_fast_precision", lambda: "float32")
    assert choose_engine(RUNTIME, Silent()) == "openvino-f32"
    monkeypatch.setattr(engines, "find_missing", lambda *_, **__: ("openvino",))
    progress = Silent()
    assert choose_engine(RUNTIME, progress) == "keras-float32"
    assert "cnnclf[openvino]" in progress.notes[0]


def test_layers_that_openvino_does_not_know_are_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise EngineRefusedError("OpenVINO cannot compute this model: no such layer")

    monkeypatch.setattr(openvino_engine, "convert_to_openvino", refuse)
    with pytest.raises(RunError, match="no such layer") as caught:
        build_engine("openvino-f32", build_trunk())
    assert caught.value.hint == "use --no-feature-cache"
