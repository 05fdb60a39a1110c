"""The table of costs: complete, equal to the graphs, and right at other sizes."""

import math
from typing import Any

import pytest

from cnnclf.config import HeadConfig
from cnnclf.explainers.network_sources import describe_backbone
from cnnclf.models.backbone_costs import plan_stages
from cnnclf.models.backbones import BACKBONES, Backbone, find_backbone
from cnnclf.models.graph_anatomy import find_stage_ends, plan_graph
from cnnclf.models.trunk import build_backbone
from cnnclf.models.weightless import build_weightless
from cnnclf.planning.finetune_memory import plan_head

# Our own builder and the fastest of Keras's; all others are slow.
QUICK = ("efficientnet-lite0", "mobilenet-0.25")
BUILT = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=[] if row.name in QUICK else [pytest.mark.slow])
        for row in BACKBONES
    ],
)
ROWS = pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)


@ROWS
def test_every_backbone_has_its_stages_weights_and_arithmetic(row: Backbone) -> None:
    stages = plan_stages(row, height=row.default_size, width=row.default_size)
    assert tuple(stage.name for stage in stages.layers) == row.stage_names
    assert stages.parameters == row.parameters
    assert stages.macs == pytest.approx(1e9 * row.gmacs, rel=1e-3)
    assert min(stage.values for stage in stages.layers) > 0


@BUILT
def test_the_table_is_what_keras_builds(row: Backbone) -> None:
    import keras

    side = row.default_size
    model = build_weightless(lambda: build_backbone(row, height=side, width=side))
    anatomy = plan_graph(model, stage_ends=find_stage_ends(model, row))
    keras.backend.clear_session()
    assert anatomy.parameters == model.count_params() == row.parameters
    assert anatomy.macs == count_macs(model) == pytest.approx(1e9 * row.gmacs, rel=1e-3)
    stages = plan_stages(row, height=side, width=side)
    built = anatomy.fold(1)
    for stage, found in zip(stages.layers, built.layers, strict=True):
        assert stage.activation_bytes == found.activation_bytes
        assert (stage.name, stage.parameters, stage.macs) == (
            found.name,
            found.parameters,
            found.macs,
        )
    assert stages.layers[-1].output_shape == built.layers[-1].output_shape[-1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2", "inceptionv3", "inceptionresnetv2"])
def test_other_sizes_and_heads_are_close(name: str) -> None:
    found = describe_backbone(name, image_size=(160, 256), classes=7).anatomy
    stages = plan_stages(find_backbone(name), height=160, width=256)
    assert stages.macs == pytest.approx(found.macs, rel=0.05)
    assert stages.activation_bytes == pytest.approx(found.activation_bytes, rel=0.05)
    head = plan_head(stages, HeadConfig(), classes=7)
    assert stages.parameters + head.parameters == found.parameters


def count_macs(model: Any) -> int:
    """Multiply-accumulates of convolutions and dense layers, from kernels and output sizes."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += count_macs(layer)
            continue
        kernels = [weight for weight in layer.weights if "kernel" in weight.name]
        positions = math.prod(layer.output.shape[1:-1])
        total += positions * sum(math.prod(kernel.shape) for kernel in kernels)
    return total
