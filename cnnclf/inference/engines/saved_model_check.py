"""Looks through the graph of a SavedModel before TensorFlow may run it.

A SavedModel is a program: operations of its graph read and write files, open sockets and call
Python. A network for images needs none of these, so only operations of an explicit list pass.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnclf.bounded import read_bytes
from cnnclf.errors import RunError

GRAPH_FILE = "saved_model.pb"
_MAX_GRAPH_BYTES = 2 << 30  # what a protocol buffer can hold

_STRUCTURE = """
    Const Placeholder PlaceholderWithDefault Identity IdentityN NoOp StopGradient PreventGradient
    Snapshot EnsureShape Cast Bitcast PartitionedCall StatefulPartitionedCall If StatelessIf While
    StatelessWhile VarHandleOp ReadVariableOp AssignVariableOp VarIsInitializedOp DisableCopyOnRead
"""
_SHAPES = """
    Reshape Transpose Squeeze ExpandDims ConcatV2 Concat Split SplitV StridedSlice Slice Pack Unpack
    Shape ShapeN Size Rank Fill Range LinSpace Tile GatherV2 GatherNd BroadcastTo BroadcastArgs
    ZerosLike OnesLike Pad PadV2 MirrorPad ReverseV2 SpaceToBatchND BatchToSpaceND SpaceToDepth
    DepthToSpace ResizeBilinear ResizeNearestNeighbor Where Select SelectV2 OneHot
"""
_ARITHMETIC = """
    Add AddV2 AddN Sub Mul RealDiv Div DivNoNan FloorDiv FloorMod Maximum Minimum Neg Abs Sign Floor
    Ceil Round Rint Exp Expm1 Log Log1p Pow Sqrt Rsqrt Reciprocal Square SquaredDifference Sin Cos
    Erf Erfc Mean Sum Max Min Prod All Any ArgMax ArgMin TopKV2 Equal NotEqual Less LessEqual
    Greater GreaterEqual LogicalAnd LogicalOr LogicalNot IsNan IsFinite ClipByValue L2Loss
"""
_LAYERS = """
    Conv2D DepthwiseConv2dNative Conv2DBackpropInput Conv3D BiasAdd BiasAddV1 MatMul BatchMatMul
    BatchMatMulV2 BatchMatMulV3 Einsum MaxPool MaxPoolV2 AvgPool MaxPool3D AvgPool3D FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 LRN Relu Relu6 LeakyRelu Elu Selu Softplus Softsign Sigmoid
    Tanh Softmax LogSoftmax XlaConvV2 XlaDotV2
"""
ALLOWED = frozenset((_STRUCTURE + _SHAPES + _ARITHMETIC + _LAYERS).split())

# What saves and restores variables; TensorFlow writes it into every SavedModel, nobody calls it.
_SAVER = frozenset(
    {
        "SaveV2",
        "RestoreV2",
        "MergeV2Checkpoints",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    }
)


def check_saved_model(path: Path, *, again: str = "export the run again with cnnclf") -> None:
    """Refuse a SavedModel whose graph does more than compute.

    Args:
        path: Its directory.
        again: The start of the hint: where another one comes from.

    Raises:
        RunError: It cannot be read, or holds an operation that is not on the list, which may read
            or write files, use the network or call Python.
    """
    graph = _read_graph(path)
    functions = {each.signature.name: each.node_def for each in graph.graph_def.library.function}
    entries = list(graph.object_graph_def.concrete_functions)
    if not entries:
        raise RunError(f"{path} has no functions: it was not written by TensorFlow 2", again)
    called = _find_called(entries, functions)
    nodes = {name: functions.get(name, ()) for name in called}
    rest = {name: each for name, each in functions.items() if name not in called}
    forbidden = _find_forbidden(nodes, ALLOWED) | _find_forbidden(
        rest | {"the main graph": graph.graph_def.node}, ALLOWED | _SAVER
    )
    if forbidden:
        raise RunError(
            f"{path} is not run: its graph holds operations that a network does not need and that "
            f"may read or write files, use the network or call Python ({', '.join(forbidden)})",
            f"{again}; use only models from people you trust",
        )


def read_signatures(path: Path) -> Mapping[str, Any]:
    """Return the signatures of a SavedModel by name.

    Raises:
        RunError: It cannot be read.
    """
    signatures: Mapping[str, Any] = _read_graph(path).signature_def
    return signatures


def find_last_operation(path: Path, output: str) -> str:
    """Return the operation that computes an output, such as Softmax; empty if it is not found.

    Args:
        path: The directory of a SavedModel.
        output: Name of a tensor in the main graph, as in a signature.

    Raises:
        RunError: It cannot be read.
    """
    graph = _read_graph(path).graph_def
    functions = {each.signature.name: each for each in graph.library.function}
    nodes, name = {each.name: each for each in graph.node}, output
    for _ in range(_MAX_CALLS):
        name, *_, index = f"{name}:0".split(":") if ":" not in name else name.split(":")
        node = nodes.get(name)
        if node is None or node.op not in {*_CALLS, "Identity"}:
            return node.op if node is not None else ""
        if node.op == "Identity":
            name = node.input[0]
            continue
        inner = functions[node.attr["f"].func.name]
        nodes = {each.name: each for each in inner.node_def}
        name = inner.ret[inner.signature.output_arg[int(index)].name]
    return ""


_MAX_CALLS = 100  # a graph may call in a ring
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def _read_graph(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString(read_bytes(path / GRAPH_FILE, max_bytes=_MAX_GRAPH_BYTES))
    except OSError as error:
        raise RunError(
            f"cannot read {path / GRAPH_FILE}: {error.strerror}", "export the run again"
        ) from error
    except DecodeError as error:
        raise RunError(f"{path / GRAPH_FILE} is damaged: {error}", "export again") from error
    if len(content.meta_graphs) != 1:
        raise RunError(
            f"{path} holds {len(content.meta_graphs)} graphs instead of one", "export the run again"
        )
    return content.meta_graphs[0]


def _find_called(entries: Iterable[str], functions: Mapping[str, Iterable[Any]]) -> set[str]:
    """Find the functions that entries call, directly or through others, with the entries."""
    called: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in called:
            continue
        called.add(name)
        for node in functions.get(name, ()):
            for value in node.attr.values():
                waiting += [value.func.name] if value.HasField("func") else []
                waiting += [each.name for each in value.list.func]
    return called


def _find_forbidden(nodes: Mapping[str, Iterable[Any]], allowed: frozenset[str]) -> dict[str, None]:
    """Give the operations that are not allowed, each once."""
    return {node.op: None for each in nodes.values() for node in each if node.op not in allowed}
