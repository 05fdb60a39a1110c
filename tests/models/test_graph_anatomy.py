"""The anatomy of Keras graphs: published figures, Keras's counts, nested graphs."""

from dataclasses import replace
from typing import Any

import pytest

from cnnclf.config import MODEL_PRESETS, TrainConfig, load_config
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.backbones import find_backbone
from cnnclf.models.cnn import build_cnn
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.models.graph_anatomy import find_stage_ends, plan_graph
from cnnclf.models.layer_facts import describe_layer
from cnnclf.models.trunk import build_backbone
from cnnclf.models.weightless import build_weightless
from cnnclf.planning.network_settings import resolve_model

# Araujo, Norris and Sim (2019), table of receptive fields and strides before the dense layers.
# Their networks are those of TF-Slim. The ResNets of keras.applications have their strides in other
# layers (the first 1x1 convolution of a stage, not the last 3x3 one before it), and the same sizes
# in the end; MobileNet has the same strides.
PUBLISHED_FIELDS = {
    "vgg16": (212, 32),
    "mobilenet": (315, 32),
    "resnet50": (483, 32),
    "resnet50v2": (483, 32),
    "inceptionv3": (1311, 32),
}
SLOW_PUBLISHED_FIELDS = {
    "resnet101": (1027, 32),
    "resnet152": (1507, 32),
    "resnet101v2": (1027, 32),
    "resnet152v2": (1507, 32),
    "inceptionresnetv2": (3039, 32),
}


def plan_backbone(name: str, side: int | None = None) -> Anatomy:
    row = find_backbone(name)
    side = side or row.default_size
    model = build_weightless(lambda: build_backbone(row, height=side, width=side))
    return plan_graph(model, stage_ends=find_stage_ends(model, row))


@pytest.mark.parametrize("preset", MODEL_PRESETS)
@pytest.mark.parametrize("shape", [(64, 64, 3), (29, 37, 1)], ids=str)
def test_our_network_has_the_same_anatomy_built_and_on_paper(
    preset: str, shape: tuple[int, int, int]
) -> None:
    config, given = load_config(options={"model.preset": preset}, kind=TrainConfig)
    model, _ = resolve_model(config.model, shape[:2], given=given)
    paper = plan_cnn(model, shape, num_classes=7)
    built = plan_graph(build_cnn(model, shape, num_classes=7))
    # only the paper knows blocks
    assert built.layers == tuple(replace(layer, group="") for layer in paper.layers)
    assert built.parameters == build_cnn(model, shape, num_classes=7).count_params()


@pytest.mark.parametrize("name", PUBLISHED_FIELDS)
def test_receptive_fields_are_the_published_ones(name: str) -> None:
    check_field(name, PUBLISHED_FIELDS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_PUBLISHED_FIELDS)
def test_receptive_fields_of_large_backbones_are_the_published_ones(name: str) -> None:
    check_field(name, SLOW_PUBLISHED_FIELDS[name])


def check_field(name: str, published: tuple[int, int]) -> None:
    last = plan_backbone(name).layers[-1]
    assert (last.receptive_field, last.field_stride) == published


def test_xception_computes_nearly_what_a_profiler_counts() -> None:
    """Half of the operations that a profiler of TensorFlow counts is about 1.926 G.

    It also counts what normalization and activations do, which are no multiply-accumulates: 0.1 %.
    """
    macs = plan_backbone("xception", 150).macs
    assert macs == 1_924_397_456
    assert macs == pytest.approx(1.926e9, rel=0.002)


def test_stages_add_up_and_end_where_they_are_cut() -> None:
    anatomy = plan_backbone("mobilenet-0.25")
    stages = anatomy.fold(1)
    assert stages.parameters == anatomy.parameters
    assert stages.macs == anatomy.macs
    assert stages.activation_bytes == anatomy.activation_bytes
    assert [stage.output_shape[0] for stage in stages.layers] == [112, 112, 56, 28, 14, 7]
    assert anatomy.fold(2) == anatomy, "no network inside"


def test_a_graph_without_weights_leaves_nothing_that_waits_for_values() -> None:
    import keras

    model = build_weightless(lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    with keras.StatelessScope():  # on its way out, it gives waiting variables of its thread values
        pass
    assert model.weights[0].shape == (4, 2)
    assert model.weights[0]._value is None


def branching() -> Any:
    """A gate, a dilated branch, a separable one, and a network inside."""
    import keras
    from keras import layers

    inside = keras.Sequential(
        [
            keras.Input((16, 16, 8)),
            layers.Conv2D(4, 3, strides=2, padding="same", name="wide"),
            layers.ReLU(name="cut"),
        ],
        name="inside",
    )
    pixels = keras.Input((32, 32, 3))
    maps = layers.Conv2D(8, 3, padding="same", groups=1, use_bias=False, name="first")(pixels)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(maps)
    gate = layers.Dense(8, name="gate")(gate)
    maps = layers.Multiply(name="scale")([maps, gate])
    dilated = layers.Conv2D(8, 3, padding="same", dilation_rate=2, name="dilated")(maps)
    dilated = layers.MaxPooling2D(2, name="halve")(dilated)
    light = layers.SeparableConv2D(8, 3, strides=2, padding="same", name="separable")(maps)
    joined = layers.Concatenate(name="join")([dilated, light])
    joined = layers.Conv2D(8, 1, name="mix")(joined)
    out = layers.Dense(5, name="logits")(layers.Flatten(name="flat")(inside(joined)))
    return keras.Model(pixels, out)


def test_branches_gates_and_networks_inside() -> None:
    rows = {row.name: row for row in plan_graph(branching()).layers}
    assert rows["mean"].receptive_field == 0
    assert rows["gate"].receptive_field == 0
    assert rows["scale"].receptive_field == 3, "a gate does not count"
    assert rows["dilated"].receptive_field == 7
    assert rows["halve"].receptive_field == 8
    assert rows["separable"].receptive_field == 5
    assert rows["join"].receptive_field == 8
    assert rows["inside/wide"].receptive_field == 8 + 2 * 2
    assert rows["inside/cut"].field_stride == 4
    assert rows["logits"].receptive_field == 0
    assert rows["separable"].macs == 16 * 16 * (3 * 3 * 8 + 8 * 8)
    assert rows["dilated"].macs == 32 * 32 * 3 * 3 * 8 * 8
    assert rows["dilated"].formula == "3x3x8x8 + 8"
    assert rows["gate"].macs == 8 * 8


def test_a_transposed_convolution_multiplies_each_input_by_the_kernel() -> None:
    import keras

    pixels = keras.Input((7, 7, 5))
    layer = keras.layers.Conv2DTranspose(3, 4, strides=2, padding="valid")
    row = describe_layer(layer, layer(pixels), name="up")
    assert (row.output_shape, row.macs) == ((16, 16, 3), 7 * 7 * 4 * 4 * 5 * 3)


def test_networks_inside_are_unfolded_as_deep_as_asked() -> None:
    anatomy = plan_graph(branching())
    assert "inside" in [row.name for row in anatomy.fold(2).layers]
    assert anatomy.fold(3) == anatomy
    inside = next(row for row in anatomy.fold(2).layers if row.name == "inside")
    assert (inside.kind, inside.output_shape) == ("2 layers", (8, 8, 4))
    assert inside.parameters == 3 * 3 * 8 * 4 + 4


def test_each_row_names_what_it_reads_also_across_nested_networks() -> None:
    import keras

    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(4, 1, name="inside")], name="inner"
    )
    pixels = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(pixels)
    total = layers.Add(name="sum")([stem, inner(stem)])
    anatomy = plan_graph(keras.Model(pixels, layers.ReLU(name="relu")(total)))
    read = {row.name: row.inputs for row in anatomy.layers}
    assert read == {
        "stem": (),
        "inner/inside": (),
        "sum": ("stem", "inner/inside"),
        "relu": (),
    }
    folded = anatomy.join(lambda row: "head" if row.name in {"sum", "relu"} else "")
    assert folded.layers[-1].inputs == ("stem", "inner/inside")
