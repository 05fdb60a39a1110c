"""Every view of the table on the tiny run and on every preset; files, classes and bad input."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnclf
from cnnclf.config import MODEL_PRESETS, ExplainConfig, HeadConfig, load_config
from cnnclf.errors import DataError, RunError, UsageError
from cnnclf.explainers.explainer import ExplainContext
from cnnclf.explainers.explainer_table import EXPLAINERS, ExplainerRow, find_explainers
from cnnclf.explainers.explaining import (
    ExplainedImage,
    ExplainRequest,
    check_count,
    explain_images,
    find_layers,
)
from cnnclf.explainers.map_checks import CheckedImage
from cnnclf.files import plain
from cnnclf.importers import open_dataset
from cnnclf.models.backbones import find_backbone
from cnnclf.models.cnn import build_cnn
from cnnclf.models.transfer import build_transfer
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from tests.explainers.conftest import IMAGES, RUN, OpenModel, draw_noise

X = IMAGES / "x/x001.jpg"
# the way of training needs a run with --trace: see test_weight_path.py
VIEWS = [row for row in EXPLAINERS if row.name != "descent"]


@pytest.mark.parametrize("row", VIEWS, ids=lambda row: row.name)
def test_every_view_of_the_tiny_run(
    tiny: ExplainContext, row: ExplainerRow, tmp_path: Path
) -> None:
    request = ExplainRequest([row], out=tmp_path / "out", npz=True)
    [explained] = explain_images(tiny, [(str(X), "")], request=request)
    assert explained.error == ""
    assert explained.view == row.name
    assert explained.figure is not None
    assert explained.arrays is not None
    with Image.open(explained.figure) as figure:
        assert min(figure.size) > 200
        assert len(set(np.asarray(figure).reshape(-1, 3)[::97].sum(axis=1))) > 5
    with np.load(explained.arrays) as arrays:
        assert arrays.files
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name != "classes")
    json.dumps(plain(explained.to_dict()), allow_nan=False)
    if row.is_map:
        assert explained.scores["checks"]["random"]["deletion"] >= 0


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "deep" else ())
        for name in MODEL_PRESETS
    ],
)
def test_every_view_of_every_preset(open_model: OpenModel, preset: str) -> None:
    config, _ = load_config(
        arguments={"model.preset": preset, "data.image_size": 24}, kind=cnnclf.TrainConfig
    )
    data = open_dataset(IMAGES, options=cnnclf.ImportConfig(), progress=Silent())
    plan = plan_training(config, data, given={})
    model = build_cnn(plan.config.model, plan.input_spec.shape, num_classes=2)
    context = open_model(model, samples=8, checks=False, top_k=1, masks=10)
    context.kept["training images"] = _make_training_images(context)
    request = ExplainRequest(VIEWS)
    explained = list(explain_images(context, [draw_noise(context)], request=request))
    assert sorted(each.view for each in explained) == sorted(row.name for row in VIEWS)
    assert not [each.error for each in explained if each.error]


@pytest.mark.slow
def test_every_view_of_a_nested_backbone(open_model: OpenModel) -> None:
    import keras

    row = find_backbone("efficientnet-lite0")
    whole = build_transfer(row, HeadConfig(), height=32, width=32, num_classes=3).whole
    pixels = keras.Input((32, 32, 3))
    context = open_model(keras.Model(pixels, whole(pixels)), samples=4, top_k=1, masks=10)
    context.kept["training images"] = _make_training_images(context)
    request = ExplainRequest(VIEWS)
    explained = list(explain_images(context, [draw_noise(context)], request=request))
    assert sorted(each.view for each in explained) == sorted(row.name for row in VIEWS)
    assert not [each.error for each in explained if each.error]
    drawn = next(each for each in explained if each.view == "receptive-field")
    fields = drawn.scores["layers"]
    assert drawn.summary.startswith("stem_conv: 3x3, effective ")
    assert not [each.summary for each in explained if re.search(r"\d x \d", each.summary)]
    assert [fields[0]["layer"], fields[0]["theoretical"]] == ["stem_conv", 3]
    evidence = next(each for each in explained if each.view == "evidence")
    assert evidence.scores["completeness_errors"][0] < 1e-5


def _make_training_images(context: ExplainContext) -> Any:
    from cnnclf.explainers.training_images import TrainingImages

    pixels = np.stack([draw_noise(context, seed) for seed in range(6)])
    return TrainingImages(pixels, np.arange(6) % 2, [f"{at}.png" for at in range(6)], 6)


def test_nothing_is_overwritten_unasked(tiny: ExplainContext, tmp_path: Path) -> None:
    request = ExplainRequest(find_explainers(["evidence"]), out=tmp_path)
    tiny.config = tiny.config | {"checks": False}
    names = [
        explained.figure.name
        for _ in range(2)
        for explained in explain_images(tiny, [(str(X), "")], request=request)
        if explained.figure
    ]
    assert names == ["x001-evidence.png", "x001-evidence-2.png"]
    old = {name: (tmp_path / name).stat().st_ino for name in names}
    (tmp_path / "mine.png").touch()
    both = explain_images(tiny, [(str(X), "")] * 2, request=replace(request, overwrite=True))
    assert [each.figure and each.figure.name for each in both] == names
    assert {file.name for file in tmp_path.iterdir()} == {*names, "mine.png"}
    assert all((tmp_path / name).stat().st_ino != old[name] for name in names)


def test_each_image_has_its_own_baselines(tiny: ExplainContext) -> None:
    """Also when many images are explained, and each is forgotten after it."""
    paths = [IMAGES / f"o/o{number:03}.jpg" for number in range(16)]
    request = ExplainRequest(find_explainers(["evidence"]))
    explained = explain_images(tiny, ((str(path), "") for path in paths), request=request)
    for path, each in zip(paths, map(ExplainedImage.to_dict, explained), strict=True):
        pixels = tiny.network.classifier.decode(path)
        index = tiny.network.labels.index(each["label"])
        edges = CheckedImage(tiny.network, pixels, index, "blur").measure_edges()
        assert each["scores"]["checks"]["edges"] == pytest.approx(asdict(edges), abs=1e-6)


def test_without_its_dataset_the_other_views_work(
    tiny: ExplainContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise DataError("the dataset is gone", "name its new path")

    tiny.open_images, tiny.config = fail, tiny.config | {"checks": False}
    with pytest.raises(DataError, match="is gone"):
        next(explain_images(tiny, [], request=ExplainRequest(find_explainers(["nearest"]))))
    views = find_explainers(["nearest", "evidence", "filters"])
    explained = list(explain_images(tiny, [(str(X), "")], request=ExplainRequest(views)))
    assert [(each.view, bool(each.error)) for each in explained] == [
        ("nearest", True),
        ("filters", False),
        ("evidence", False),
    ]
    assert "the dataset is gone" in explained[0].error


def test_of_an_export_views_that_need_logits_work(tmp_path: Path) -> None:
    cnnclf.export(RUN, {"format": "savedmodel", "verify": False}, out=tmp_path / "export")
    with pytest.raises(RunError, match="neither features nor gradients") as error:
        cnnclf.explain(tmp_path / "export", X)
    assert "use the run it was exported from" in error.value.hint
    show = ["evidence", "occlusion", "counterfactual"]
    explained = cnnclf.explain(tmp_path / "export", X, show=show)
    assert [bool(each.error) for each in explained] == [True, False, False]
    assert explained[1].scores["checks"]["randomized"] is None


def test_python_gives_maps_of_files_and_arrays() -> None:
    pixels = np.asarray(Image.open(X))
    from_file, missing, from_array, from_content, damaged = cnnclf.explain(
        RUN,
        [X, "nosuch.png", pixels, X.read_bytes(), b"no image"],
        classes=["x"],
        config={"checks": False, "device": "cpu"},
    )
    assert from_file.explanation is not None
    assert from_array.explanation is not None
    maps = from_file.explanation.arrays["maps"]
    assert maps.shape[0] == 1
    np.testing.assert_allclose(from_array.explanation.arrays["maps"], maps, atol=1e-4)
    assert from_content.explanation is not None
    np.testing.assert_allclose(from_content.explanation.arrays["maps"], maps, atol=1e-4)
    assert missing.error
    assert damaged.error
    assert from_file.figure is None


def test_an_unknown_view_or_class_has_near_names(tiny: ExplainContext) -> None:
    with pytest.raises(UsageError, match="did you mean evidence"):
        find_explainers(["evidnce"])
    with pytest.raises(UsageError, match="expected one view") as caught:
        find_explainers(["grad-cam,layers"])
    assert caught.value.hint == "repeat the option: --show grad-cam --show layers"
    request = ExplainRequest(find_explainers([]), classes=["xx"])
    with pytest.raises(UsageError, match="--class xx"):
        list(explain_images(tiny, [(str(X), "")], request=request))


def test_all_stands_for_the_table_and_names_count_once() -> None:
    assert find_explainers(["all", "evidence"]) == list(EXPLAINERS)
    assert [row.name for row in find_explainers(["layer-cam", "layer-cam"])] == ["layer-cam"]


def test_all_skips_what_the_model_cannot_give(tiny: ExplainContext) -> None:
    views = find_explainers(["descent", "feature-maps"])
    for is_every in (True, False):
        request = ExplainRequest(views, is_every=is_every)
        without, maps = explain_images(tiny, [(str(X), "")], request=request)
        assert (without.view, bool(without.skipped), bool(without.error)) == (
            "descent", is_every, not is_every,
        )  # fmt: skip
        assert "descent.npz" in without.skipped + without.error
        assert maps.explanation


def test_every_setting_has_its_default() -> None:
    assert ExplainConfig().checks


def test_several_layers_have_figures_of_their_own(tiny: ExplainContext, tmp_path: Path) -> None:
    layers = "block1_conv1,block2_conv1"
    context = replace(tiny, config=tiny.config.model_copy(update={"layer": layers}))
    request = ExplainRequest(find_explainers(["feature-maps", "evidence"]), out=tmp_path)
    context = replace(context, config=context.config.model_copy(update={"checks": False}))
    found = list(
        explain_images(context, [(str(X), ""), ("none.jpg", ""), (str(X), "")], request=request)
    )
    names = [each.figure.name if each.figure else each.error.split(":")[0] for each in found]
    assert names == [
        "x001-feature-maps-block1_conv1.png",
        "x001-feature-maps-block2_conv1.png",
        "x001-evidence.png",
        "none.jpg",
        "x001-feature-maps-block1_conv1-2.png",
        "x001-feature-maps-block2_conv1-2.png",
        "x001-evidence-2.png",
    ]
    assert [each.scores.get("layer") for each in found[:2]] == layers.split(",")
    every = replace(tiny, config=tiny.config.model_copy(update={"layer": "all"}))
    assert find_layers(every)[:1] == ["block1_conv1"]
    assert len(find_layers(every)) == len(tiny.network.graph.convolutions)
    with pytest.raises(UsageError, match=r"of 100 images would write [4-9]00 figures"):
        check_count(every, 100, request=ExplainRequest(find_explainers(["feature-maps"])))
    wrong = replace(
        tiny, config=tiny.config.model_copy(update={"layer": "block1_conv1,blok2_conv1"})
    )
    with pytest.raises(UsageError, match="blok2_conv1: the network has no layer") as caught:
        find_layers(wrong)
    assert "did you mean block2_conv1" in caught.value.hint
