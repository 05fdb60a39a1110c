"""Reads a PyTorch state dict of known checksum, in the old (pre-1.6, not zipped) format.

PyTorch is not needed. Such a file is five pickles followed by raw numbers: a magic number, a
protocol version, facts about the machine, the state dict (which names storages instead of holding
them) and the order of the storages; then, for each storage, its length and its bytes.

Unpickling a file can run code, so there are two locks. Nothing is unpickled before the bytes match
their checksum, and the unpickler resolves a fixed list of names, none of which does anything.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import check_regular
from cnnclf.errors import RunError

MAX_FILE_BYTES = 2 * 1024**3

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# NumPy's names of PyTorch's number types: text, which a crafted pickle can neither call nor change.
_NUMBER_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
}
# What unpickling and NumPy raise on anything but a state dict.
_NOT_A_STATE_DICT = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
)


def read_torch_state(path: Path, *, sha256: str) -> dict[str, npt.NDArray[Any]]:
    """Read the tensors of an old-format state dict; nothing in the file is executed.

    Args:
        path: The file, at most `MAX_FILE_BYTES` long.
        sha256: Checksum of the file (64 hexadecimal digits).

    Returns:
        Name to read-only array, in the order of the file; arrays share the file's memory.

    Raises:
        RunError: The file cannot be read, does not match its checksum, or is not a state dict.
    """
    data = _read_bytes(path)
    received = hashlib.sha256(data).hexdigest()
    if received != sha256.lower():
        raise RunError(
            f"contents do not match the checksum (sha256 {received} instead of {sha256.lower()}):"
            f" {path}",
            "the file is damaged, was modified or is another version; install or copy it again",
        )
    try:
        return _read_state(data)
    except _NOT_A_STATE_DICT as error:
        raise RunError(
            f"not a PyTorch state dict in the old format ({error}): {path}",
            "save the weights as a plain state dict, or use a Keras weights file",
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        size = check_regular(path).st_size
        if size > MAX_FILE_BYTES:
            raise RunError(
                f"weights file is too large ({size} bytes, limit {MAX_FILE_BYTES}): {path}"
            )
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read weights file ({error.strerror}): {path}") from error


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    """A tensor whose numbers are not read yet; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StateUnpickler(pickle.Unpickler):
    """Knows what a state dict is made of, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name from the allow-list; nothing is imported or looked up."""
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self._describe_tensor
            case "torch", _ if name in _NUMBER_TYPES:
                return _NUMBER_TYPES[name]
        raise pickle.UnpicklingError(f"the name {f'{module}.{name}'[:80]!r} is not allowed")

    def persistent_load(self, pid: Any) -> _Storage:
        """Describe a storage; its numbers follow after the pickles."""
        _, dtype, key, _, length, _ = pid
        return _Storage(key, dtype, length)

    def _describe_tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
    ) -> _Tensor:
        return _Tensor(storage, offset, shape, strides)


def _read_state(data: bytes) -> dict[str, npt.NDArray[Any]]:
    stream = io.BytesIO(data)
    magic, protocol, machine, tensors, keys = (_StateUnpickler(stream).load() for _ in range(5))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError(f"magic number {magic!r}, protocol version {protocol!r}")
    if machine["little_endian"] is not True:
        raise ValueError("its numbers are not little-endian")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers = {key: _read_numbers(stream, storages[key]) for key in keys}
    if stream.read(1):
        raise ValueError("unexpected bytes after the last storage")
    return {name: _view(numbers[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _read_numbers(stream: IO[bytes], storage: _Storage) -> npt.NDArray[Any]:
    length, dtype = int.from_bytes(stream.read(8), "little"), np.dtype(storage.dtype)
    if length != storage.length:
        raise ValueError(f"a storage of {length} numbers instead of {storage.length}")
    # From a file that is too short, read gives what there is, and NumPy refuses that.
    return np.frombuffer(stream.read(length * dtype.itemsize), dtype, count=length)


def _view(numbers: npt.NDArray[Any], tensor: _Tensor) -> npt.NDArray[Any]:
    """View a storage as a tensor; NumPy refuses one that reaches beyond the storage."""
    if math.prod(tensor.shape) > numbers.size:  # strides of 0 could make it of any size
        raise ValueError("a tensor larger than its storage")
    step = numbers.itemsize
    strides = [stride * step for stride in tensor.strides]
    return np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * step, strides)
