"""Interprets the pickles inside PyTorch's state dicts; executes nothing.

Unpickling a file means running it. Here the handful of opcodes that a state dict needs are
interpreted one by one into dicts, tuples, text, numbers and our own descriptions of tensors; any
other opcode and any other name is refused, and no name is ever looked up.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np


class StateError(Exception):
    """What is wrong with the file, in words."""


@dataclass(frozen=True)
class _Global:
    """A name that the file mentions; never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A row of numbers in the file, by its key there."""

    key: str
    dtype: np.dtype[Any]
    length: int


@dataclass(frozen=True)
class Tensor:
    """A dense box of a storage; `order` names its axes from outermost to inmost in memory."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]


def read_object(stream: IO[bytes]) -> Any:
    """Interpret one pickle up to its end and leave the stream behind it.

    Args:
        stream: Open at the first opcode.

    Returns:
        Dicts with text as keys, lists of text, tuples, text, numbers, None, `Storage`, `Tensor`.

    Raises:
        StateError: If the pickle holds anything that no state dict needs.
        ValueError, LookupError, TypeError, AttributeError, OverflowError: If it is damaged.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise StateError("an object without end")


_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_DTYPES: dict[str, np.dtype[Any]] = {
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
}
_NAMES = frozenset((_DICT, _TENSOR, *_DTYPES))
_MARK = object()


class _Machine:
    """The part of pickle's stack machine that a state dict needs; calls nothing from the file."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do what one opcode says."""
        if name in _MAKERS:
            self._stack.append(_MAKERS[name]())
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _FIXED_TUPLES:
            count = _FIXED_TUPLES[name]
            self._stack.append(tuple([self.pop() for _ in range(count)][::-1]))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise StateError(f"the opcode {name}, which no state dict needs")

    def pop(self) -> Any:
        """Take the topmost value."""
        return self._stack.pop()

    def mark(self, _: Any) -> None:
        """Remember this height of the stack."""
        self._stack.append(_MARK)

    def make_tuple(self, _: Any) -> None:
        """Gather what lies above the mark."""
        self._stack.append(tuple(self._pop_to_mark()))

    def set_item(self, _: Any) -> None:
        """Put one key and value into the dict below them."""
        value = self.pop()
        self._fill([self.pop(), value])

    def set_items(self, _: Any) -> None:
        """Put the keys and values above the mark into the dict below it."""
        self._fill(self._pop_to_mark())

    def append(self, _: Any) -> None:
        """Append one value to the list below it."""
        self._extend([self.pop()])

    def append_all(self, _: Any) -> None:
        """Append the values above the mark to the list below it."""
        self._extend(self._pop_to_mark())

    def name(self, argument: str) -> None:
        """Note a name, if it is one that a state dict needs."""
        if argument not in _NAMES:
            raise StateError(f"the name {argument[:80]!r}, which no state dict needs")
        self._stack.append(_Global(argument))

    def reduce(self, _: Any) -> None:
        """Make what pickle would make by a call: an empty dict or a tensor's description."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise StateError("a call of something that is no name")
        if function.name == _DICT and not arguments:
            self._stack.append({})
        elif function.name == _TENSOR:
            self._stack.append(_describe_tensor(arguments))
        else:
            raise StateError("a call that no state dict needs")

    def drop_state(self, _: Any) -> None:
        """Pass over what PyTorch hangs on the dict (versions of modules)."""
        self.pop()
        if not isinstance(self._stack[-1], dict):
            raise StateError("a state for something that is no dict")

    def storage(self, _: Any) -> None:
        """Replace a storage's identification by its description."""
        self._stack.append(_describe_storage(self.pop()))

    def _pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _fill(self, flat: list[Any]) -> None:
        target = self._stack[-1]
        keys = flat[::2]
        # Only text is hashed: hashing a crafted nest of tuples may take forever.
        if not isinstance(target, dict) or len(flat) % 2 or not all(type(k) is str for k in keys):
            raise StateError("a dict whose keys are not all text")
        target.update(zip(keys, flat[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list) or not all(type(value) is str for value in values):
            raise StateError("a list of something other than text")
        target.extend(values)


def _describe_storage(identification: Any) -> Storage:
    if not isinstance(identification, tuple) or len(identification) != 6:
        raise StateError("a storage without its six facts")
    word, kind, key, _, length, view = identification
    if word != "storage" or type(key) is not str or view is not None:
        raise StateError("a storage that is a view or no storage")
    if not isinstance(kind, _Global) or kind.name not in _DTYPES:
        raise StateError("a storage of no known number type")
    if not _is_count(length):
        raise StateError("a storage of no possible length")
    return Storage(key, _DTYPES[kind.name], length)


def _describe_tensor(arguments: tuple[Any, ...]) -> Tensor:
    if len(arguments) not in (6, 7):
        raise StateError("a tensor without its six facts")
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Storage) or not _is_count(offset):
        raise StateError("a tensor without storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) > 8:
        raise StateError("a tensor of no possible shape")
    if len(shape) != len(strides) or not all(map(_is_count, (*shape, *strides))):
        raise StateError("a tensor of no possible shape")
    return Tensor(storage, offset, shape, _find_order(shape, strides))


def _find_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Order the axes as they lie in memory, and refuse gaps and overlaps.

    Transposed tensors are common (kernels that came from elsewhere); overlapping ones could ask for
    far more memory than the file has.
    """
    order = sorted(range(len(shape)), key=lambda axis: (shape[axis] != 1, -strides[axis]))
    expected = math.prod(shape)
    for axis in order:
        expected //= max(shape[axis], 1)
        if shape[axis] > 1 and strides[axis] != expected:
            raise StateError("a tensor with gaps or overlaps")
    return tuple(order)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


_MAKERS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_LITERALS = frozenset(("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"))
_FIXED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _machine, _argument: None,
    "MARK": _Machine.mark,
    "TUPLE": _Machine.make_tuple,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_all,
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.drop_state,
    "BINPERSID": _Machine.storage,
}
