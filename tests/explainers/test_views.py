"""Views show what they say: known networks, whose answers can be computed by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from cnnclf.config import ExplainConfig
from cnnclf.errors import CnnclfError, RunError, UsageError
from cnnclf.explainers import nearest_images
from cnnclf.explainers.counterfactual import CHANGES, explain_counterfactual, find_flip
from cnnclf.explainers.explainer import ExplainContext
from cnnclf.explainers.explainer_table import EXPLAINERS
from cnnclf.explainers.explaining import ExplainRequest, explain_images, make_subject
from cnnclf.explainers.feature_maps import _draw, explain_feature_maps
from cnnclf.explainers.filter_patches import cut_patch, explain_filters, scan_layer
from cnnclf.explainers.first_filters import draw_filters
from cnnclf.explainers.integrated_gradients import add_blocks, map_integrated_gradients
from cnnclf.explainers.layer_strip import explain_layers, group_steps
from cnnclf.explainers.nearest_images import explain_nearest
from cnnclf.explainers.occlusion import map_occlusion
from cnnclf.explainers.receptive_fields import (
    FieldOfView,
    find_field,
    frame,
    measure_field,
    measure_side,
)
from cnnclf.explainers.rise import draw_masks, map_rise
from cnnclf.explainers.training_images import TrainingImages
from cnnclf.progress import Silent
from tests.explainers.conftest import OpenModel, draw_noise

layers = keras.layers


def build_square_detector() -> Any:
    """Build a network whose second logit is the brightness of the upper left quarter."""
    pixels = keras.Input((28, 28, 1))
    kernel = np.zeros((28 * 28, 2), np.float32)
    kernel.reshape(28, 28, 2)[:14, :14, 1] = 1 / (14 * 14 * 25)
    dense = layers.Dense(2)
    model = keras.Model(pixels, dense(layers.Flatten()(pixels)))
    dense.set_weights([kernel, np.zeros(2, np.float32)])
    return model


@pytest.fixture
def square(open_model: OpenModel) -> ExplainContext:
    return open_model(build_square_detector(), fill="gray", masks=300)


def bright_image() -> Any:
    return np.full((28, 28, 1), 255, np.uint8)


@pytest.mark.parametrize("method", [map_occlusion, map_rise, map_integrated_gradients])
def test_the_only_place_that_counts_is_found(square: ExplainContext, method: Any) -> None:
    maps = method(square.network, bright_image(), classes=[1], config=square.config)
    values = maps.values[0]
    half = len(values) // 2
    inside = values[: half - 1, : half - 1].mean()
    outside = values[half + 1 :, half + 1 :]
    assert inside > 0
    assert np.abs(outside).mean() < 0.1 * inside


@pytest.mark.parametrize("side", [1, 5, 13, 20, 64, 225])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_occlusion_covers_every_pixel_and_maps_it_to_its_place(side: int, part: float) -> None:
    place = int(part * side)
    network: Any = SimpleNamespace(
        logits=lambda images: images[:, place, place].astype(np.float32),
        progress=Silent(),
    )
    pixels = np.full((side, side, 1), 255, np.uint8)
    config = ExplainConfig(fill="gray")
    values = map_occlusion(network, pixels, classes=[0], config=config).values[0]
    rows, columns = np.nonzero(values)
    assert len(rows)
    for found in (rows, columns):
        center = (found.mean() + 0.5) * side / len(values)
        assert abs(center - (place + 0.5)) <= max(1, 0.6 * side / len(values))


def test_integrated_gradients_of_a_linear_network_are_complete(square: ExplainContext) -> None:
    maps = map_integrated_gradients(
        square.network, bright_image(), classes=[0, 1], config=square.config
    )
    assert maps.errors is not None
    assert maps.errors.max() < 1e-4
    assert maps.values[1].sum() == pytest.approx((255 - 128) / 25, rel=1e-3)


@pytest.mark.parametrize("size", [5, 31, 32, 33, 100])
def test_blocks_keep_the_sum(size: int) -> None:
    values = np.random.default_rng(0).normal(size=(2, size, 7))
    small = add_blocks(values, places=32)
    assert small.shape == (2, min(size, 32), 7)
    np.testing.assert_allclose(small.sum(axis=(1, 2)), values.sum(axis=(1, 2)))


def test_masks_show_half_of_the_image_and_depend_on_the_seed() -> None:
    first = draw_masks(200, (28, 20), rng=np.random.default_rng(0))
    again = draw_masks(200, (28, 20), rng=np.random.default_rng(0))
    assert first.shape == (200, 28, 20)
    assert first.mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(first, again)


def build_small(activation: Any = "relu") -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((32, 24, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, padding="same", name="first"),
            layers.ReLU(activation, name="act")
            if isinstance(activation, float)
            else layers.Activation(activation, name="act"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="logits"),
        ]
    )


@pytest.fixture
def small(open_model: OpenModel) -> ExplainContext:
    context = open_model(build_small(), samples=8)
    pixels = np.stack([draw_noise(context, seed) for seed in range(6)])
    paths = [f"{at}.png" for at in range(6)]
    context.kept["training images"] = TrainingImages(pixels, np.arange(6) % 2, paths, 6)
    return context


def test_the_effective_field_lies_in_the_theoretical_one(small: ExplainContext) -> None:
    graph = small.network.graph
    images = small.training_images().pixels
    for name, size in (("first", 3), ("second", 8)):
        step = graph.find_layer(name)
        field = find_field(small.network, step)
        assert (field.height, field.width) == (size, size)
        values = measure_field(graph, step, images=images)
        top, left, bottom, right = field.box(step.output.shape[1] // 2, step.output.shape[2] // 2)
        outside = values.copy()
        outside[top:bottom, left:right] = 0
        assert values.max() > 0
        assert outside.max() == 0
        assert 0 < measure_side(values) <= size


def test_the_patch_is_what_the_unit_sees(small: ExplainContext) -> None:
    """The activation of the patch alone is that in the image: nothing else is seen."""
    graph = small.network.graph
    step = graph.find_layer("first")
    images = small.training_images()
    strongest, places = scan_layer(small, step, images=images)
    field = find_field(small.network, step)
    place = divmod(int(places[2, 4]), int(step.output.shape[2]))
    patch = cut_patch(images.pixels[2], place, field=field)
    assert patch.shape == (3, 3, 3)
    kernel, bias = step.operation.get_weights()
    if 0 < place[0] < 31 and 0 < place[1] < 23:
        value = (patch / 255 * kernel[..., 4]).sum() + bias[4]
        assert value == pytest.approx(float(strongest[2, 4]), rel=1e-3)


def test_beyond_the_image_a_patch_is_gray() -> None:
    field = FieldOfView(5, 5, 1, (0.0, 0.0))
    patch = cut_patch(np.zeros((8, 8, 1), np.uint8), (0, 7), field=field)
    assert patch[:2].min() == patch[:, 3:].min() == 200
    assert patch[2:, :3].max() == 0


def test_a_frame_is_cut_at_the_edge() -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    framed = frame(image, (-3, 4, 5, 20))
    assert (framed[:5, 4] < 255).all()
    assert (framed[4, 4:] < 255).all()
    assert (framed[5:] == 255).all()
    assert (image == 255).all()


def test_filters_without_a_dataset_are_the_kernels(small: ExplainContext) -> None:
    def fail() -> TrainingImages:
        raise CnnclfError("the dataset is gone")

    with_images = explain_filters(small)
    assert len(with_images.scores["images"]) == 6
    small.kept.clear()
    small.open_images = fail
    alone = explain_filters(small)
    assert "the dataset is gone" in alone.summary
    assert sum(len(row) for row in alone.tiles) == 6
    small.config = small.config | {"layer": "second"}
    with pytest.raises(CnnclfError, match="is gone"):
        explain_filters(small)


def test_kernels_over_colors_are_images() -> None:
    layer = layers.Conv2D(1, 2, use_bias=False)
    graph_input = keras.Input((8, 8, 3))
    model = keras.Model(graph_input, layers.Flatten()(layer(graph_input)))
    weights = np.zeros((2, 2, 3, 1), np.float32)
    weights[0, 0, 0, 0], weights[1, 1, 2, 0] = 2.0, -2.0
    layer.set_weights([weights])
    from cnnclf.explainers.flat_graph import FlatGraph

    [image] = draw_filters(FlatGraph(model).find_layer(layer.name)) or []
    assert image[0, 0, 0] == 255
    assert image[1, 1, 2] == 0
    assert abs(int(image[0, 1, 1]) - 128) <= 1


def test_a_mean_of_zero_has_no_minus() -> None:
    assert _draw(np.full((2, 2), -1e-9, np.float32), 0, limit=1.0).caption == "mean +0.00"


def test_feature_maps_are_sorted(small: ExplainContext) -> None:
    subject = make_subject(small, draw_noise(small))
    sorted_ = explain_feature_maps(small, subject)
    maps = np.abs(sorted_.arrays["feature_maps"]).mean(axis=(0, 1))
    assert sorted_.scores["channels"] == np.argsort(-maps, kind="stable").tolist()
    small.config = small.config | {"sort": "index"}
    assert explain_feature_maps(small, subject).scores["channels"] == list(range(6))


def test_the_strip_follows_the_network(small: ExplainContext) -> None:
    groups = group_steps(small.network.graph)
    assert [[step.name for step in group] for group in groups] == [
        ["first", "act", "pool"],
        ["second"],
    ]
    explanation = explain_layers(small, make_subject(small, draw_noise(small)))
    assert any("add up to" in line for line in explanation.lines)
    assert (explanation.arrays["act"] >= 0).all()


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        ("relu", "ReLU: negative becomes 0"),
        ("relu6", "ReLU: between 0 and 6"),
        (3.0, "ReLU: between 0 and 3"),
        ("leaky_relu", "leaky_relu"),
    ],
)
def test_the_strip_names_the_activation(open_model: OpenModel, activation: Any, words: str) -> None:
    context = open_model(build_small(activation))
    explanation = explain_layers(context, make_subject(context, draw_noise(context)))
    shown = explanation.tiles[0][2]
    assert shown is not None
    assert shown.title == words


@pytest.mark.parametrize(("temperature", "end"), [(1.0, ""), (1.537, " / 1.54, the temperature")])
def test_the_strip_names_the_temperature(
    open_model: OpenModel, temperature: float, end: str
) -> None:
    context = open_model(build_small())
    context.network.classifier.bundle["temperature"] = temperature
    last = explain_layers(context, make_subject(context, draw_noise(context))).tiles[-1][-1]
    assert last is not None
    assert last.caption == f"softmax of the logits{end}"


def test_figures_say_what_the_colors_of_filters_mean(small: ExplainContext) -> None:
    subject = make_subject(small, draw_noise(small))
    for explanation in (
        explain_layers(small, subject),
        explain_feature_maps(small, subject),
        explain_filters(small),
    ):
        assert any(line.startswith("Weights of filters: gray is 0") for line in explanation.lines)
    assert "each map has a scale of its own" in explain_layers(small, subject).lines[0]


def test_maps_are_as_large_as_the_image(open_model: OpenModel) -> None:
    context = open_model(build_small())
    subject = make_subject(context, draw_noise(context))
    strip, maps = explain_layers(context, subject), explain_feature_maps(context, subject)
    drawn = [*strip.tiles[0][1:], *(tile for row in maps.tiles for tile in row)]
    sides = {tile.sides for tile in drawn if tile and not tile.title.startswith("filter")}
    assert sides == {(32, 24)}


def test_a_training_image_is_nearest_to_itself_and_not_shown(small: ExplainContext) -> None:
    images = small.training_images()
    explanation = explain_nearest(small, make_subject(small, images.pixels[3]))
    assert explanation.arrays["similarity"].argmax() == 3
    assert "3.png" not in [each["path"] for each in explanation.scores["neighbors"]]
    assert "itself is a training image" in explanation.lines[0]
    same = sum(
        each["label"] == explanation.scores["neighbors"][0]["label"]
        for each in explanation.scores["neighbors"]
    )
    has_others = same < len(explanation.scores["neighbors"])
    assert ("the others have a dark frame" in explanation.lines[0]) == has_others


def test_features_of_training_images_are_computed_once(
    small: ExplainContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNCLF_CACHE_DIR", str(tmp_path))
    subject = make_subject(small, draw_noise(small))
    first = explain_nearest(small, subject)
    [file] = tmp_path.glob("nearest/*.npz")
    del small.kept["gallery"]
    batches: list[int] = []
    compute = nearest_images.compute_features

    def count(network: Any, pixels: Any) -> Any:
        batches.append(len(pixels))
        return compute(network, pixels)

    monkeypatch.setattr(nearest_images, "compute_features", count)
    second = explain_nearest(small, subject)
    assert batches == [1]
    assert [each["path"] for each in second.scores["neighbors"]] == [
        each["path"] for each in first.scores["neighbors"]
    ]
    file.write_bytes(b"damaged")
    del small.kept["gallery"]
    np.testing.assert_allclose(
        explain_nearest(small, subject).arrays["similarity"], first.arrays["similarity"], atol=1e-6
    )
    assert sum(batches) > 2


@pytest.mark.parametrize(("method", "total"), [(map_rise, 130), (map_occlusion, 196)])
def test_a_bar_moves_within_one_image(square: ExplainContext, method: Any, total: int) -> None:
    steps: list[int] = []

    class Moving(Silent):
        @contextmanager
        def task(self, name: str, total: int | None, **_: Any) -> Iterator[Any]:
            steps.append(-(total or 0))
            yield SimpleNamespace(advance=steps.append)

    square.network.progress = Moving()
    config = square.config | {"masks": 130}
    method(square.network, draw_noise(square), classes=[1], config=config)
    assert steps[0] == -total
    assert len(steps) > 2
    assert sum(steps) == 0


def test_the_smallest_change_is_found(square: ExplainContext) -> None:
    """The second logit is above the first one, 0, unless the quarter is black."""
    pixels = np.full((28, 28, 1), 42, np.uint8)
    subject = make_subject(square, pixels)
    darker = next(change for change in CHANGES if change.name == "brightness")
    flip = find_flip(square, subject, change=darker)
    assert flip.strength == -45.0 or flip.strength is None
    explanation = explain_counterfactual(square, subject)
    assert len(explanation.scores["changes"]) == len(CHANGES)


def test_a_label_that_stays_is_shown_where_it_is_least_sure(
    square: ExplainContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make_subject(square, np.full((28, 28, 1), 42, np.uint8))
    change = next(change for change in CHANGES if change.name == "brightness")
    own = int(np.argmax(subject.probabilities))
    likely = np.full((len(change.strengths), len(square.network.labels)), 0.1)
    likely[:, own] = 0.9
    likely[3, own] = 0.6
    monkeypatch.setattr(type(square.network), "probabilities", lambda *_: likely)
    flip = find_flip(square, subject, change=change)
    assert flip.strength is None
    assert flip.shown == change.strengths[3]
    assert (flip.pixels == change.apply(subject.pixels, flip.shown)).all()
    explanation = explain_counterfactual(square, subject)
    captions = [tile.caption for row in explanation.tiles for tile in row if tile is not None]
    assert f"least sure {change.describe(change.strengths[3])}" in "".join(captions)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_strengths_grow_and_images_change(change: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3)).astype(np.uint8)
    size = [abs(np.log(each)) if change.name == "zoom" else abs(each) for each in change.strengths]
    assert size == pytest.approx(sorted(size))
    changed = [change.apply(pixels, strength) for strength in change.strengths]
    assert all(each.shape == pixels.shape and each.dtype == np.uint8 for each in changed)
    assert (changed[-1] != pixels).any()
    assert change.describe(change.strengths[0])
    both = {"left or right", "up or down", "either way", "or reduced", "more or less"}
    is_both = any(words in change.describe_most() for words in both)
    assert is_both == (change.name != "blur")
    largest = max(change.strengths) * (100 if "%" in change.most else 1)
    said = change.describe_most().partition("up to ")[2].split()[0]
    assert float(said) == pytest.approx(largest, abs=0.01)


def test_turning_is_clockwise_around_the_center() -> None:
    turn = next(change for change in CHANGES if change.name == "rotation")
    pixels = np.zeros((9, 9, 1), np.uint8)
    pixels[4, 4], pixels[4, 7] = 250, 90
    turned = turn.apply(pixels, 90)
    assert turned[4, 4, 0] == 250
    assert turned[7, 4, 0] in (89, 90)  # clockwise
    assert turned[1, 4, 0] == 0


def test_a_network_without_convolutions(square: ExplainContext) -> None:
    square.kept["training images"] = TrainingImages(
        np.stack([bright_image()] * 2), np.zeros(2, np.int64), ["a", "b"], 2
    )
    for row in EXPLAINERS:
        run = explain_images(square, [bright_image()], request=ExplainRequest([row]))
        if row.name in {"feature-maps", "filters", "receptive-field", "layers"}:
            with pytest.raises(UsageError, match="no convolutions"):
                list(run)
        elif row.name == "descent":  # nothing was trained
            with pytest.raises(RunError, match=r"no descent\.npz"):
                list(run)
        else:
            assert not next(iter(run)).error
