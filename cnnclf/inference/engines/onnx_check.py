"""Looks through an ONNX file before a runtime opens it: all weights must be inside the file.

A tensor of an ONNX graph may name another file that holds its values (`external_data`). No checksum
of a bundle covers such a file, and it depends on the version of the runtime whether a path that
leads out of the folder is refused. Our exports never have one, so none is accepted.

The file is a protocol buffer; only the few fields that lead to tensors are followed, without the
package onnx, which prediction does not need.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cnnclf.bounded import read_bytes
from cnnclf.errors import RunError

_MAX_BYTES: Final = 2 << 30  # what a protocol buffer can hold
_MAX_DEPTH: Final = 64

# For each message: its fields that lead to tensors, and the message in them (onnx.proto3).
_FIELDS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_onnx(path: Path) -> None:
    """Refuse an ONNX file with weights in other files.

    Raises:
        RunError: It has, cannot be read, or is damaged.
    """
    try:
        content = memoryview(read_bytes(path, max_bytes=_MAX_BYTES))
        is_whole = not _has_external_data(content, "model", 0)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}", "export it again") from error
    if not is_whole:
        raise RunError(
            f"{path} has weights in other files, which its checksum does not cover",
            "export it again with cnnclf export, which stores all weights in one file",
        )


def _has_external_data(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs are nested more than {_MAX_DEPTH} deep")
    for field, value in _read_fields(message):
        if kind == "tensor":
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                return True
            continue
        inner = _FIELDS[kind].get(field)
        if inner and isinstance(value, memoryview) and _has_external_data(value, inner, depth + 1):
            return True
    return False


def _read_fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the fields of a message: their number, and their bytes or integer."""
    at, end = 0, len(message)
    while at < end:
        key, at = _read_varint(message, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield field, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown kind of field {kind}")
        if at + size > end:
            raise ValueError("a field ends too late")
        yield field, message[at : at + size]
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends too early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
