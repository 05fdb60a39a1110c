"""The table of costs: complete, equal to the graphs, and right at other sizes."""

import pytest

from cnnclf.config import HeadConfig
from cnnclf.explainers.network_sources import describe_backbone
from cnnclf.models.backbone_costs import plan_stages
from cnnclf.models.backbones import BACKBONES, Backbone, find_backbone
from cnnclf.planning.finetune_memory import plan_head

ROWS = pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)


@ROWS
def test_every_backbone_has_its_stages_weights_and_arithmetic(row: Backbone) -> None:
    stages = plan_stages(row, height=row.default_size, width=row.default_size)
    assert tuple(stage.name for stage in stages.layers) == row.stage_names
    assert stages.parameters == row.parameters
    assert stages.macs == pytest.approx(1e9 * row.gmacs, rel=1e-3)
    assert min(stage.values for stage in stages.layers) > 0


@pytest.mark.slow
@ROWS
def test_the_table_is_what_keras_builds(row: Backbone) -> None:
    found = describe_backbone(row.name).anatomy.fold(1)
    stages = plan_stages(row, height=row.default_size, width=row.default_size)
    for stage, built in zip(stages.layers, found.layers, strict=True):
        assert stage.activation_bytes == built.activation_bytes
        assert (stage.name, stage.parameters, stage.macs) == (
            built.name,
            built.parameters,
            built.macs,
        )
    assert stages.layers[-1].output_shape == found.layers[-1].output_shape[-1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50", "inceptionv3"])
def test_other_sizes_and_heads_are_close(name: str) -> None:
    found = describe_backbone(name, image_size=(160, 256), classes=7).anatomy
    stages = plan_stages(find_backbone(name), height=160, width=256)
    assert stages.macs == pytest.approx(found.macs, rel=0.1)
    assert stages.activation_bytes == pytest.approx(found.activation_bytes, rel=0.1)
    head = plan_head(stages, HeadConfig(), classes=7)
    assert stages.parameters + head.parameters == found.parameters
