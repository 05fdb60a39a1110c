"""A SavedModel is looked through before it is run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import RunError
from cnnclf.inference.engines.keras_engine import load_saved_model
from cnnclf.inference.engines.saved_model_check import ALLOWED, GRAPH_FILE, check_saved_model
from cnnclf.models.backbones import find_backbone
from cnnclf.models.trunk import build_backbone

SHAPE = (4, 4, 3)


def save(path: Path, serve: Any) -> Path:
    """Save a module whose endpoint `serve` is this function of uint8 images."""
    import tensorflow as tf

    module = tf.Module()
    module.scale = tf.Variable([2.0, 3.0])
    signature = tf.TensorSpec((None, *SHAPE), tf.uint8)
    module.serve = tf.function(lambda pixels: serve(module, pixels), input_signature=[signature])
    tf.saved_model.save(module, str(path))
    return path


def compute(module: Any, pixels: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.cast(pixels, tf.float32), axis=(1, 2))[:, :2] * module.scale


def test_what_only_computes_is_loaded_and_run(tmp_path: Path) -> None:
    model = load_saved_model(save(tmp_path / "good", compute), SHAPE)
    pixels = np.full((2, *SHAPE), 10, np.uint8)
    np.testing.assert_allclose(model(pixels), [[20.0, 30.0]] * 2)


@pytest.mark.parametrize("kind", ["write", "read", "python", "nested"])
def test_what_touches_files_or_python_is_never_run(tmp_path: Path, kind: str) -> None:
    import tensorflow as tf

    traces = tmp_path / "traces.txt"

    def write() -> Any:
        with tf.control_dependencies([tf.io.write_file(str(traces), "was here")]):
            return tf.constant(0.0)

    def serve(module: Any, pixels: Any) -> Any:
        if kind == "read":
            extra = tf.cast(tf.strings.length(tf.io.read_file(str(traces))), tf.float32)
        elif kind == "python":
            extra = tf.py_function(lambda: traces.write_text("was here"), [], tf.float32)
        elif kind == "nested":
            extra = tf.cond(tf.reduce_sum(tf.cast(pixels, tf.int32)) > 0, write, lambda: 0.0)
        else:
            extra = write()
        return compute(module, pixels) + extra

    path = save(tmp_path / "bad", serve)
    with pytest.raises(RunError, match=r"is not run: .*(WriteFile|ReadFile|PyFunc)"):
        load_saved_model(path, SHAPE)
    assert not traces.exists()


def test_what_saves_variables_may_not_be_called(tmp_path: Path) -> None:
    """The saver's operations are in every SavedModel; only one that calls them is refused."""
    import tensorflow as tf

    def serve(module: Any, pixels: Any) -> Any:
        target = str(tmp_path / "stolen")
        save_op = tf.raw_ops.SaveV2(
            prefix=target, tensor_names=["x"], shape_and_slices=[""], tensors=[module.scale]
        )
        with tf.control_dependencies([save_op]):
            return compute(module, pixels) + 0.0

    with pytest.raises(RunError, match="SaveV2"):
        check_saved_model(save(tmp_path / "bad", serve))


def test_what_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot read"):
        check_saved_model(tmp_path)
    (tmp_path / GRAPH_FILE).write_bytes(b"\xff\xff\xff not a graph")
    with pytest.raises(RunError, match="damaged"):
        check_saved_model(tmp_path)
    (tmp_path / GRAPH_FILE).write_bytes(b"")
    with pytest.raises(RunError, match="0 graphs"):
        check_saved_model(tmp_path)


FAMILIES = (
    "vgg16",
    "resnet50",
    "resnet50v2",
    "inceptionv3",
    "inceptionresnetv2",
    "xception",
    "densenet121",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3-small",
    "nasnet-mobile",
    "efficientnet-b0",
    "efficientnetv2-b0",
    "convnext-tiny",
    "efficientnet-lite0",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_every_family_holds_only_allowed_operations(name: str) -> None:
    import tensorflow as tf

    row = find_backbone(name)
    side = max(row.min_size, 32)
    model = build_backbone(row, height=side, width=side)
    signature = tf.TensorSpec((None, side, side, 3), tf.float32)
    graph = tf.function(model, input_signature=[signature]).get_concrete_function().graph
    functions = graph.as_graph_def().library.function
    used = {node.op for node in graph.as_graph_def().node}
    used |= {node.op for each in functions for node in each.node_def}
    assert used <= ALLOWED
