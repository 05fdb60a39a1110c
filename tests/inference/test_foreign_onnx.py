"""ONNX files of other programs: the bundle gives what the file gives on scaled images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import CnnclfError, DataError, MissingPackageError, RunError, UsageError
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.classifier import Classifier
from tests.conftest import Cli
from tests.inference.test_adopting import LABELS, adopt, labels

__all__ = ["labels"]

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def write(
    path: Path,
    *,
    shape: list[Any] | None = None,
    ending: str = "",
    half: bool = False,
    outputs: int = 3,
    fixed: bool = False,
) -> np.ndarray:
    """Write a linear model on the means of the colors; return its weights [channels, K]."""
    import onnx
    from onnx import TensorProto, helper

    shape = ["batch", 3, 8, 8] if shape is None else shape
    is_planar = shape[1] in (1, 3)
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    channels = shape[1] if is_planar else shape[3]
    weights = np.random.default_rng(3).normal(0, 2, (channels, outputs)).astype(dtype)
    constant = onnx.numpy_helper.from_array(weights, "w")
    axes = [2, 3] if is_planar else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["means"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["means", "w"], ["logits"]),
    ]
    last = "logits"
    if fixed:
        target = onnx.numpy_helper.from_array(np.array([1, outputs], np.int64), "target")
        nodes.append(helper.make_node("Reshape", ["logits", "target"], ["reshaped"]))
        last = "reshaped"
    if ending:
        nodes.append(helper.make_node(ending, [last], ["end"]))
        last = "end"
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(last, kind, [shape[0], outputs])],
        [constant, *([target] if fixed else [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return weights.astype(np.float64)


@pytest.mark.parametrize("ending", ["", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("shape", "scale", "half"),
    [
        (["batch", 3, 8, 8], "imagenet", False),
        ([1, 3, 8, 8], "0:1", False),
        (["n", 8, 8, 3], "-1:1", False),
        (["n", 1, 8, 8], "0:255", False),
        (["n", 3, None, None], "-1:1", True),
    ],
)
def test_the_bundle_gives_what_the_file_gives(
    tmp_path: Path, labels: Path, ending: str, shape: list[Any], scale: str, half: bool
) -> None:
    weights = write(tmp_path / "model.onnx", shape=shape, ending=ending, half=half)
    size = (8, 8) if None in shape else None
    classifier = Classifier.load(adopt(tmp_path / "model.onnx", labels, scale=scale, size=size))
    assert (classifier.labels, classifier.engine.name) == (LABELS, "onnxruntime")
    channels = len(weights)
    assert classifier.input_spec.shape == (8, 8, channels)
    pixels = np.random.default_rng(4).integers(0, 256, (5, 8, 8, channels), np.uint8)
    if scale == "imagenet":
        scaled = (pixels / 255 - MEAN) / DEVIATION
    else:
        low, high = (float(each) for each in scale.split(":"))
        scaled = low + pixels / 255 * (high - low)
    logits = scaled.mean(axis=(1, 2)) @ weights
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = classifier.probabilities(classifier.logits(pixels))
    assert np.allclose(found, expected, atol=5e-3 if half else 1e-5)


@pytest.mark.parametrize(
    ("settings", "size", "scale", "kind", "told"),
    [
        ({"ending": "Sigmoid"}, None, "0:1", RunError, "ends in sigmoid: it is multi-label"),
        ({"outputs": 4}, None, "0:1", DataError, "4 outputs, but there are 3 labels"),
        ({"fixed": True}, None, "0:1", RunError, "one image at a time"),
        ({"shape": ["n", 3, None, None]}, None, "0:1", UsageError, "images of any size"),
        ({}, (9, 9), "0:1", RunError, "takes images of 8x8, not 9x9"),
        ({"shape": ["n", 1, 8, 8]}, None, "imagenet", UsageError, "takes gray images"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path,
    labels: Path,
    settings: dict[str, Any],
    size: tuple[int, int] | None,
    scale: str,
    kind: type[CnnclfError],
    told: str,
) -> None:
    write(tmp_path / "model.onnx", **settings)
    with pytest.raises(kind, match=told):
        adopt(tmp_path / "model.onnx", labels, scale=scale, size=size)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["labels.txt", "model.onnx"]


def test_damaged_files_are_named(tmp_path: Path, labels: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07 no graph")
    with pytest.raises(RunError, match=r"model\.onnx"):
        adopt(tmp_path / "model.onnx", labels)


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "model.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as caught:
        adopt(tmp_path / "model.onnx", labels)
    assert "cnnclf[onnx]" in caught.value.hint


def test_a_file_without_a_description_leads_to_adopt(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "pets.onnx")
    for path in (tmp_path, tmp_path / "pets.onnx"):
        with pytest.raises(RunError, match="is missing next to the model") as caught:
            find_bundle(path)
        assert f"cnnclf adopt {path} --labels" in caught.value.hint


def test_the_commands_work_on_the_bundle(cli: Cli, tmp_path: Path, labels: Path) -> None:
    from PIL import Image

    write(tmp_path / "model.onnx")
    bundle = adopt(tmp_path / "model.onnx", labels)
    for number, label in enumerate(LABELS):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for at in range(2):
            Image.new("RGB", (8, 8), (80 * number, 9 * at, 50)).save(folder / f"{at}.png")
    assert cli("predict", bundle, tmp_path / "photos").code == 0
    result = cli("evaluate", bundle, tmp_path / "photos", "--split", "all")
    assert result.code == 0, result.stderr
    refused = cli("export", bundle, "--format", "litert")
    assert refused.code == 4
    assert "only models of Keras can be exported" in refused.stderr
