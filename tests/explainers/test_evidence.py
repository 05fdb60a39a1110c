"""Evidence maps add up to the logit for every head, and wrong maps are found."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import cnnclf
from cnnclf.config import HeadConfig
from cnnclf.errors import RunError, UsageError
from cnnclf.explainers.evidence import map_evidence, measure_errors
from cnnclf.explainers.explainer import ClassMaps
from cnnclf.explainers.explainer_table import find_explainers
from cnnclf.explainers.explaining import ExplainRequest, explain_images
from cnnclf.explainers.flat_graph import FlatGraph
from cnnclf.explainers.heads import find_head
from cnnclf.explainers.map_figure import describe_errors, overlay
from cnnclf.explainers.network import Network
from cnnclf.inference.classifier import Classifier
from cnnclf.models.backbones import BACKBONES, Backbone
from cnnclf.models.transfer import build_transfer
from tests.explainers.conftest import OpenModel, draw_noise

MAX_ERROR = 1e-5
layers = keras.layers


def build_head(top: str, inputs: Any) -> Any:
    match top:
        case "both":
            pools = [layers.GlobalAveragePooling2D()(inputs), layers.GlobalMaxPooling2D()(inputs)]
            return layers.Concatenate()(pools)
        case "average":
            return layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(inputs))
        case "max":
            return layers.GlobalMaxPooling2D()(inputs)
        case _:
            return layers.Flatten()(inputs)


def build_network(top: str, *, nested: bool = False, hidden: int = 0) -> Any:
    keras.utils.set_random_seed(1)
    pixels = keras.Input((12, 10, 3))
    maps = layers.Conv2D(5, 3, activation="relu", name="conv")(layers.Rescaling(1 / 255)(pixels))
    if nested:
        branch = keras.Sequential(
            [keras.Input(maps.shape[1:]), layers.Conv2D(5, 3, padding="same", name="inner")]
        )
        maps = layers.Add()([maps, branch(maps)])
    vector = build_head(top, maps)
    if hidden:
        vector = layers.Dense(hidden, activation="relu")(vector)
    return keras.Model(pixels, layers.Dense(3, bias_initializer="normal")(vector))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("top", ["average", "max", "both", "flatten"])
def test_the_map_and_the_bias_are_the_logit(open_model: OpenModel, top: str, nested: bool) -> None:
    context = open_model(build_network(top, nested=nested))
    pixels = draw_noise(context)
    maps = map_evidence(context.network, pixels, classes=[0, 2], config=context.config)
    head = find_head(context.network.graph)
    sums = maps.values.sum(axis=(1, 2)) + head.bias[[0, 2]]
    logits = context.network.classifier.model.predict(pixels[None].astype(np.float32), verbose=0)
    np.testing.assert_allclose(sums, logits[0, [0, 2]], rtol=1e-5, atol=1e-5)
    assert maps.errors is not None
    assert maps.errors.max() < MAX_ERROR
    assert maps.method.startswith("exact")


@pytest.mark.parametrize(
    ("top", "form"),
    [
        *((top, "openvino") for top in ("average", "max", "both", "flatten")),
        ("both", "onnx"),
        ("flatten", "litert"),
    ],
)
def test_the_graph_of_an_engine_gives_the_same_map(
    open_model: OpenModel, tmp_path: Path, top: str, form: str
) -> None:
    context = open_model(build_network(top))
    pixels = draw_noise(context)
    exact = map_evidence(context.network, pixels, classes=[0, 2], config=context.config)
    cnnclf.export(tmp_path / "bundle", {"format": form, "verify": False}, out=tmp_path / "export")
    network = Network(Classifier.load(tmp_path / "export", device="cpu"))
    maps = map_evidence(network, pixels, classes=[0, 2], config=context.config)
    assert maps.method == exact.method
    np.testing.assert_allclose(maps.values, exact.values, atol=1e-5)
    assert maps.errors is not None
    assert maps.errors.max() < MAX_ERROR
    assert "neither features nor gradients" in _refuse_graph(network)


def test_probabilities_of_an_export_are_no_logits(open_model: OpenModel, tmp_path: Path) -> None:
    context = open_model(build_network("average"))
    pixels = draw_noise(context)
    exact = map_evidence(context.network, pixels, classes=[0], config=context.config)
    settings = {"format": "openvino", "verify": False, "probabilities": True}
    cnnclf.export(tmp_path / "bundle", settings, out=tmp_path / "export")
    network = Network(Classifier.load(tmp_path / "export", device="cpu"))
    maps = map_evidence(network, pixels, classes=[0], config=context.config)
    np.testing.assert_allclose(maps.values, exact.values, atol=1e-5)
    assert maps.errors is not None
    assert maps.errors.max() < MAX_ERROR


def test_the_head_of_an_onnx_graph_in_int8_is_found(open_model: OpenModel, tmp_path: Path) -> None:
    context = open_model(build_network("both"))
    for number in range(30):
        place = tmp_path / f"data/class {number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(place / f"{number}.png", draw_noise(context, number), scale=False)
    settings = {"format": "onnx", "quantize": "int8"}
    source = str(tmp_path / "data")
    written = cnnclf.export(tmp_path / "bundle", settings, dataset=source, out=tmp_path / "export")
    network = Network(Classifier.load(written.directory, device="cpu"))
    head, exact = network.find_head(), find_head(context.network.graph)
    assert head.parts == exact.parts
    assert not head.is_of_engine
    step = np.abs(exact.kernel).max() / 100
    np.testing.assert_allclose(head.kernel, exact.kernel, atol=step)
    assert head.bias.shape == exact.bias.shape  # its values are corrected after quantization


def test_of_an_export_with_several_dense_layers_there_is_no_map(
    open_model: OpenModel, tmp_path: Path
) -> None:
    open_model(build_network("average", hidden=4))
    cnnclf.export(
        tmp_path / "bundle", {"format": "openvino", "verify": False}, out=tmp_path / "export"
    )
    network = Network(Classifier.load(tmp_path / "export", device="cpu"))
    with pytest.raises(RunError, match="neither features nor gradients") as caught:
        network.find_head()
    assert "with one dense layer" in caught.value.hint


def _refuse_graph(network: Network) -> str:
    with pytest.raises(RunError) as caught:
        _ = network.graph
    return caught.value.message


def test_a_wrong_map_is_found(open_model: OpenModel) -> None:
    context = open_model(build_network("average"))
    network: Network = context.network
    head = find_head(network.graph)
    pixels = draw_noise(context)[None]
    features, logits = head.look(pixels)
    maps = head.contributions(features, np.array([1]))
    wrong = maps[0] * 1.001
    told = [
        describe_errors(
            ClassMaps(each, "", errors=measure_errors(each, logits[0], classes=[1], head=head))
        )
        for each in (maps[0], wrong)
    ]
    assert told[0].startswith("complete")
    assert told[1].startswith("NOT complete")
    assert measure_errors(maps[0], logits[0], classes=[1], head=head).max() < MAX_ERROR
    assert measure_errors(wrong, logits[0], classes=[1], head=head).max() > MAX_ERROR


def test_a_map_of_another_computation_than_that_of_the_engine_is_found(
    open_model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In reduced precision OpenVINO may compute other logits than the engine of an export."""
    context = open_model(build_network("average"))
    head = find_head(context.network.graph)

    def look_elsewhere(pixels: Any) -> Any:
        features, logits = head.look(pixels)
        return 2 * features, 2 * (logits - head.bias) + head.bias

    other = replace(head, look=look_elsewhere, precision="int8", is_of_engine=False)
    monkeypatch.setattr(context.network, "find_head", lambda: other)
    maps = map_evidence(context.network, draw_noise(context), classes=[1], config=context.config)
    assert describe_errors(maps).startswith("NOT complete")
    assert "in int8" in maps.scale


def test_images_pass_through_the_network_once(
    open_model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = open_model(build_network("average"), checks=False)
    head, looked = find_head(context.network.graph), []

    def look(pixels: Any) -> Any:
        looked.append(len(pixels))
        return head.look(pixels)

    counted = replace(head, look=look)
    monkeypatch.setattr(context.network, "find_head", lambda: counted)
    images = [draw_noise(context, seed) for seed in range(3)]
    request = ExplainRequest(find_explainers(["evidence"]), classes=["class 1"])
    explained = list(explain_images(context, images, request=request))
    assert looked == [3]
    for image, each in zip(images, explained, strict=True):
        features, logits = head.look(image[None])
        maps = head.contributions(features, np.array([1]))
        assert each.explanation is not None
        np.testing.assert_allclose(each.explanation.arrays["maps"], maps[0], atol=1e-6)
        assert each.scores["completeness_errors"][0] < MAX_ERROR
        assert each.label == f"class {logits[0].argmax()}"


def test_the_map_is_where_the_evidence_is(open_model: OpenModel) -> None:
    """A 1x1 filter that sees only brightness gives the bright square and nothing else."""
    pixels = keras.Input((12, 10, 3))
    maps = layers.Conv2D(1, 1, kernel_initializer="ones")(pixels)
    pooled = layers.GlobalAveragePooling2D()(maps)
    context = open_model(keras.Model(pixels, layers.Dense(2, kernel_initializer="ones")(pooled)))
    image = np.zeros((12, 10, 3), np.uint8)
    image[3:6, 2:5] = 100
    values = map_evidence(context.network, image, classes=[0], config=context.config).values[0]
    assert (values[3:6, 2:5] > 0).all()
    assert values.sum() == pytest.approx(values[3:6, 2:5].sum())


def test_several_dense_layers_are_approximate_and_said_to_be(open_model: OpenModel) -> None:
    context = open_model(build_network("average", hidden=4))
    maps = map_evidence(context.network, draw_noise(context), classes=[0, 1], config=context.config)
    assert maps.method.startswith("approximate")
    assert describe_errors(maps).startswith("approximate: error")
    assert maps.values.shape == (2, 10, 8)
    assert np.isfinite(maps.values).all()


def test_a_linear_network_explains_its_pixels(open_model: OpenModel) -> None:
    pixels = keras.Input((6, 5, 1))
    context = open_model(keras.Model(pixels, layers.Dense(2)(layers.Flatten()(pixels))))
    maps = map_evidence(context.network, draw_noise(context), classes=[0, 1], config=context.config)
    assert maps.values.shape == (2, 6, 5)
    assert maps.errors is not None
    assert maps.errors.max() < MAX_ERROR


def test_nested_layers_are_unfolded(open_model: OpenModel) -> None:
    model = build_network("average", nested=True)
    graph = FlatGraph(model)
    assert [step.name for step in graph.convolutions] == ["conv", "inner"]
    images = np.random.default_rng(0).random((3, 12, 10, 3), np.float32) * 255
    inner, logits = graph.compute([graph.find_layer("inner").output, graph.logits], images)
    assert inner.shape == (3, 10, 8, 5)
    np.testing.assert_allclose(logits, model.predict(images, verbose=0), atol=1e-5)


def test_gradients_are_those_of_small_changes() -> None:
    graph = FlatGraph(build_network("flatten", nested=True))
    rng = np.random.default_rng(0)
    images = rng.random((2, 12, 10, 3)).astype(np.float32) * 255
    weights = np.eye(3, dtype=np.float32)[[2, 0]]
    (logits,), (slope,) = graph.differentiate([graph.logits], images, weights=weights)
    direction = rng.normal(size=images.shape).astype(np.float32)
    (changed,) = graph.compute([graph.logits], images + 0.01 * direction)
    found = ((changed - logits) * weights).sum(axis=1) / 0.01
    expected = (slope * direction).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02)


def test_an_unknown_layer_has_near_names() -> None:
    graph = FlatGraph(build_network("average"))
    with pytest.raises(UsageError, match="no layer of this name") as error:
        graph.find_layer("convv")
    assert "did you mean conv" in error.value.hint
    with pytest.raises(UsageError, match="no places"):
        graph.find_layer(graph.steps[-1].name)


def family_of(row: Backbone) -> str:
    """Give what is in front of the size: resnet50v2 is of the family resnetv2."""
    marks = [mark for mark in ("v2", "v3", "lite") if mark in row.name]
    return re.sub(r"[-0-9.].*", "", row.name) + "".join(marks)


FAMILIES = {family_of(row): row for row in sorted(BACKBONES, key=lambda row: -row.parameters)}


@pytest.mark.slow
@pytest.mark.parametrize("row", FAMILIES.values(), ids=lambda row: row.name)
def test_every_family_of_backbones_is_exact_even_nested(row: Backbone) -> None:
    side = max(row.min_size, 32)
    whole = build_transfer(row, HeadConfig(), height=side, width=side, num_classes=3).whole
    pixels = keras.Input((side, side, 3))
    graph = FlatGraph(keras.Model(pixels, whole(pixels)))
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.float32)
    head = find_head(graph)
    assert head.parts == ("average",)
    # without predict, which would trace large graphs for minutes
    parts = keras.Model(graph.pixels, [head.maps, graph.logits])(images, training=False)
    features, logits = (np.asarray(part) for part in parts)
    maps = head.contributions(features, np.arange(3))
    np.testing.assert_allclose(
        maps.sum(axis=(2, 3)) + head.bias, logits, atol=1e-5 * max(np.abs(logits).max(), 1)
    )
    if row.parameters > 4e6:
        return  # gradients of large graphs take a minute to trace
    early = graph.convolutions[0].output
    weights = np.eye(3, dtype=np.float32)[[0, 1]]
    _, gradients = graph.differentiate([early, graph.logits], images, weights=weights)
    assert np.isfinite(gradients[1]).all()
    assert np.abs(gradients[1]).max() > 0


@pytest.mark.parametrize("brightness", [20, 240])
def test_an_overlay_is_lightest_where_a_map_changes_its_sign(brightness: int) -> None:
    image = np.full((8, 201, 3), brightness, np.uint8)
    light = overlay(image, np.linspace(-1, 1, 201)[None], limit=1.0).mean(axis=(0, 2))
    assert (np.diff(light[:101]) >= -1).all()
    assert (np.diff(light[100:]) <= 1).all()
    assert light[100] > light[[0, 200]].max() + 50
