"""Which layers become one block."""

from dataclasses import replace

from cnnclf.config import TrainConfig, load_config
from cnnclf.explainers.network_sources import describe_cnn
from cnnclf.models.anatomy import INPUT, Anatomy, LayerRow
from cnnclf.models.network_diagram import MAX_BLOCKS, count_folded, draw_blocks


def test_normalization_activations_and_dropout_join_the_layer_before() -> None:
    config, given = load_config(
        options={"model.preset": "tiny", "model.dense_units": "8"}, kind=TrainConfig
    )
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


def test_of_more_blocks_than_fit_on_a_page_the_largest_stage_is_one() -> None:
    shape = (8, 8, 4)
    rows = [LayerRow(f"a{n}", "conv", shape, 10, group="stage1") for n in range(30)]
    rows += [LayerRow(f"b{n}", "conv", shape, 10, group="stage2") for n in range(MAX_BLOCKS - 30)]
    blocks = draw_blocks(Anatomy(tuple(rows)), shape)
    assert len(blocks) == 32
    assert blocks[-1].lines == ("stage2", "50 layers", "8x8x4", "500")
    assert blocks[-1].inputs == (30,)
    assert count_folded(blocks) == 1
    assert len(draw_blocks(Anatomy(tuple(rows[1:])), shape)) == MAX_BLOCKS
    plain = tuple(replace(row, group="") for row in rows)
    assert [each.lines[0] for each in draw_blocks(Anatomy(plain), shape)] == [
        "input",
        "maps of 8x8",
    ]


def test_branches_read_what_the_layers_read() -> None:
    """A residual block: normalization joins its convolution, the sum reads both paths."""
    rows = (
        LayerRow("scale", "rescale", (8, 8, 3), inputs=(INPUT,)),
        LayerRow("stem", "conv", (8, 8, 4), inputs=("scale",)),
        LayerRow("a", "conv", (8, 8, 4), inputs=("stem",)),
        LayerRow("b", "conv", (8, 8, 4), inputs=("stem",)),
        LayerRow("a_bn", "batch_norm", (8, 8, 4), inputs=("a",)),
        LayerRow("b_bn", "batch_norm", (8, 8, 4), inputs=("b",)),
        LayerRow("b_relu", "activation", (8, 8, 4), inputs=("b_bn",)),
        LayerRow("sum", "add", (8, 8, 4), inputs=("a_bn", "b_relu", "stem")),
    )
    blocks = draw_blocks(Anatomy(rows), (8, 8, 3))
    assert [block.inputs for block in blocks] == [(), (0,), (1,), (1,), (2, 3, 1)]
    assert [block.lines[-1] for block in blocks[2:4]] == ["norm", "norm, relu"]
