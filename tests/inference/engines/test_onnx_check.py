"""An ONNX file with weights outside of it is refused before a runtime opens it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.errors import RunError
from cnnclf.inference.engines.onnx_check import check_onnx

onnx = pytest.importorskip("onnx")


def make_graph(where: str, location: str) -> Any:
    """Make a graph of one tensor, in a place of its own, with its values in another file."""
    from onnx import helper, numpy_helper

    tensor = numpy_helper.from_array(np.arange(300, dtype=np.float32), "weights")
    if location:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "1200")):
            tensor.external_data.add(key=key, value=value)
    inside = tensor if where == "initializer" else numpy_helper.from_array(np.ones(2), "weights")
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    if where == "branch":
        branch = helper.make_graph([constant], "branch", [], [])
        nodes = [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    else:
        nodes = [constant] if where == "constant" else []
    graph = helper.make_graph(nodes, "graph", [], [], initializer=[inside])
    return helper.make_model(graph)


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("location", ["../outside.bin", "/dev/zero", "weights.bin"])
def test_weights_in_other_files_are_refused(tmp_path: Path, where: str, location: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make_graph(where, "").SerializeToString())
    check_onnx(path)
    path.write_bytes(make_graph(where, location).SerializeToString())
    with pytest.raises(RunError, match="has weights in other files"):
        check_onnx(path)


@given(st.data())
def test_damaged_files_are_named_or_pass(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(make_graph("branch", "").SerializeToString())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        check_onnx(path)
    except RunError as error:
        assert str(path) in error.message  # noqa: PT017 - most examples pass


def test_devices_are_not_read() -> None:
    with pytest.raises(RunError, match="cannot read /dev/zero"):
        check_onnx(Path("/dev/zero"))
