"""Which layers become one block."""

import pytest

from cnnclf.config import load_config
from cnnclf.errors import ConfigError
from cnnclf.explainers.network_diagram import MAX_BLOCKS, draw_blocks
from cnnclf.explainers.network_sources import describe_cnn
from cnnclf.models.anatomy import Anatomy, LayerRow


def test_normalization_activations_and_dropout_join_the_layer_before() -> None:
    config, given = load_config(options={"model.preset": "tiny", "model.dense_units": "8"})
    network = describe_cnn(config, classes=3, given=given)
    blocks = draw_blocks(network.anatomy, network.input_shape)
    assert [block.lines[0] for block in blocks] == [
        *("input", "conv 3x3", "pool 2x2/2", "conv 3x3", "global pool", "dense", "dense"),
    ]
    assert blocks[1].lines == ("conv 3x3", "64x64x8", "248", "norm, relu")
    assert blocks[5].lines == ("dense", "8", "136", "relu")
    assert [block.color for block in blocks[:3]] == ["input", "conv", "pool"]


def test_stages_are_blocks_of_their_own() -> None:
    rows = (
        LayerRow("stage1", "7 layers", (8, 8, 4), 100),
        LayerRow("out", "activation", (8, 8, 4)),
    )
    (_, stage) = draw_blocks(Anatomy(rows), (16, 16, 3))
    assert stage.lines == ("stage1", "7 layers", "8x8x4", "100", "activation")
    assert stage.color == "stage"


def test_more_blocks_than_fit_on_a_page_are_refused() -> None:
    rows = tuple(LayerRow(f"conv{n}", "conv", (8, 8, 4)) for n in range(MAX_BLOCKS))
    with pytest.raises(ConfigError, match=f"{MAX_BLOCKS + 1} blocks"):
        draw_blocks(Anatomy(rows), (8, 8, 4))
