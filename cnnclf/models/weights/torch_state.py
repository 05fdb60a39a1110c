"""Reads PyTorch's old (pre-1.6, not zipped) state-dict files without PyTorch.

Such a file is five pickles followed by raw numbers: a magic number, a protocol version, facts about
the machine, the state dict (which names storages instead of holding them) and the order of the
storages; then for each storage its length and its bytes. `tensor_pickle.py` interprets the
pickles without unpickling them. No array is made before the sizes in the file are known to fit it.
"""

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.models.weights.tensor_pickle import StateError, Storage, Tensor, read_object

MAX_FILE_BYTES = 2 * 1024**3


def read_torch_state(path: Path, *, sha256: str | None) -> dict[str, npt.NDArray[Any]]:
    """Read the tensors of an old-format state dict; executes nothing.

    Args:
        path: The file, at most `MAX_FILE_BYTES` long.
        sha256: What the file's bytes must hash to (64 hex digits), checked before anything is
            parsed; None to accept any file of this format.

    Returns:
        Name to read-only array, in the order of the file; arrays share the file's memory.

    Raises:
        RunError: If the file cannot be read, has another hash, or holds anything but dense
            tensors.
    """
    data = _read_bytes(path)
    received = hashlib.sha256(data).hexdigest()
    if sha256 is not None and received != sha256.lower():
        raise RunError(
            f"expected a file with sha256 {sha256.lower()}, received {received}: {path}",
            "the file is damaged, tampered with or another version; install or copy it again",
        )
    try:
        return _parse(data)
    except StateError as error:
        raise _refusal(path, str(error)) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise _refusal(path, f"damaged data ({type(error).__name__})") from None


_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def _refusal(path: Path, reason: str) -> RunError:
    return RunError(
        f"expected an old-format PyTorch state dict of tensors, received {reason}: {path}",
        "save the weights again as a plain state dict, or use a Keras weight file",
    )


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise RunError(
                f"expected a weight file of at most {MAX_FILE_BYTES} bytes, received {size}: {path}"
            )
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"expected a readable weight file, received {error.strerror}: {path}") from (
            error
        )


def _parse(data: bytes) -> dict[str, npt.NDArray[Any]]:
    stream = io.BytesIO(data)
    if read_object(stream) != _MAGIC:
        raise StateError("a file that does not start with PyTorch's magic number")
    if read_object(stream) != _PROTOCOL:
        raise StateError("another protocol version")
    machine = read_object(stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise StateError("numbers that are not little-endian")
    tensors = read_object(stream)
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise StateError("something other than a dict of tensors")
    arrays = _read_storages(stream, data, _collect_storages(tensors))
    return {name: _take(arrays[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _collect_storages(tensors: dict[str, Tensor]) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for tensor in tensors.values():
        known = storages.setdefault(tensor.storage.key, tensor.storage)
        if known != tensor.storage:
            raise StateError("two descriptions of one storage")
    return storages


def _read_storages(
    stream: io.BytesIO, data: bytes, storages: dict[str, Storage]
) -> dict[str, npt.NDArray[Any]]:
    keys = read_object(stream)
    if not isinstance(keys, list) or len(keys) != len(storages) or set(keys) != set(storages):
        raise StateError("a list of storages that does not match the tensors")
    position = stream.tell()
    arrays = {}
    for key in keys:
        storage = storages[key]
        start = position + 8
        length = int.from_bytes(data[position:start], "little")
        position = start + length * storage.dtype.itemsize
        if length != storage.length or position > len(data):
            raise StateError(f"a storage of {length} numbers where {storage.length} must fit")
        arrays[key] = np.frombuffer(data, storage.dtype, count=length, offset=start)
    if position != len(data):
        raise StateError(f"{len(data) - position} bytes too many at its end")
    return arrays


def _take(storage: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[Any]:
    count = math.prod(tensor.shape)
    if tensor.offset + count > len(storage):
        raise StateError("a tensor larger than its storage")
    box = storage[tensor.offset : tensor.offset + count]
    as_stored = box.reshape([tensor.shape[axis] for axis in tensor.order])
    return as_stored.transpose(np.argsort(tensor.order))
