"""Networks to describe, from Python, and the memory they need."""

from pathlib import Path
from typing import Any

import pytest

import cnnclf
from cnnclf.explainers.network_sources import describe_backbone
from cnnclf.models.anatomy import BYTES_PER_VALUE

TINY_RUN = Path(__file__).parents[2] / "sample_data/tiny_run"


def test_memory_is_that_of_outputs_weights_gradients_and_optimizer() -> None:
    settings = {
        "model.preset": "textbook",
        "optimizer.name": "sgd",
        "training.batch_size": 10,
        "data.color": "gray",
    }
    network = cnnclf.describe(config=settings, classes=4)
    maps = 62 * 62 * 32 * BYTES_PER_VALUE
    assert network.image_bytes == 2 * maps, "a convolution and its activation"
    weights = network.anatomy.parameters * BYTES_PER_VALUE
    outputs = network.anatomy.activation_bytes
    assert network.weight_bytes == weights
    assert network.training_bytes == 10 * outputs + 3 * weights, "weights, gradients, momentum"
    assert network.input_shape == (64, 64, 1)


def test_a_run_a_backbone_and_settings_are_described_from_python() -> None:
    assert cnnclf.describe(TINY_RUN).anatomy.parameters == 12_122
    small = cnnclf.describe(backbone="mobilenet-0.25", image_size=(32, 48), classes=3)
    assert small.input_shape == (32, 48, 3)
    assert small.anatomy.layers[-1].output_shape == (3,)
    assert {row.network for row in small.compare_dense().growth} == {small.anatomy.parameters}


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": TINY_RUN, "backbone": "vgg16"},
        {"model": TINY_RUN, "classes": 3},
        {"config": {}, "backbone": "vgg16"},
        {"image_size": (8, 8)},
    ],
)
def test_two_networks_at_once_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        cnnclf.describe(**arguments)


def test_a_backbone_is_laid_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNCLF_CACHE_DIR", str(tmp_path))
    calls: list[str] = []

    def describe(classes: int | None = None) -> Any:
        return describe_backbone(
            "mobilenet-0.25",
            image_size=(32, 32),
            classes=classes,
            prepare=lambda: calls.append("Keras"),
        )

    first, second = describe(), describe()
    assert calls == ["Keras"]
    assert second.anatomy == first.anatomy
    assert describe(classes=3).anatomy.parameters > first.anatomy.parameters
    assert len(calls) == 2
    for file in tmp_path.glob("layers/*.json"):
        file.write_text("{")
    assert describe().anatomy == first.anatomy
    assert len(calls) == 3
