"""The reader of PyTorch's old files, on files built here opcode by opcode, honest and crafted."""

import hashlib
import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnclf.errors import RunError
from cnnclf.models.weights.torch_state import read_torch_state

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


class Storage:
    """Pickled as PyTorch's persistent identification of a storage."""

    def __init__(self, key: str, values: np.ndarray, *, length: int | None = None) -> None:
        self.key, self.values = key, values
        self.length = values.size if length is None else length


class Tensor:
    """Pickled as a call that rebuilds a tensor on a storage."""

    def __init__(self, storage: Storage, shape: Any, strides: Any, *, offset: int = 0) -> None:
        self.arguments: tuple[Any, ...] = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> Any:
        return rebuild, self.arguments


def rebuild(*_: Any) -> None:
    """Stands for torch._utils._rebuild_tensor_v2."""


PythonPickler: Any = pickle._Pickler


class Writer(PythonPickler):  # type: ignore[misc]
    """Pickles names of PyTorch without having it."""

    dispatch: ClassVar[dict[Any, Any]] = dict(PythonPickler.dispatch)

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            kind = {"<f4": float_storage, "<i8": long_storage}[obj.values.dtype.str]
            return ("storage", kind, obj.key, "cpu", obj.length, None)
        return None

    def save_global(self, obj: Any, name: Any = None) -> None:
        names = {
            rebuild: "torch._utils\n_rebuild_tensor_v2",
            float_storage: "torch\nFloatStorage",
            long_storage: "torch\nLongStorage",
        }
        if obj not in names:
            super().save_global(obj, name)
            return
        self.write(b"c" + names[obj].encode() + b"\n")
        self.memoize(obj)

    dispatch[type(rebuild)] = save_global


def float_storage() -> None:
    """Stands for torch.FloatStorage."""


def long_storage() -> None:
    """Stands for torch.LongStorage."""


def dump(obj: Any) -> bytes:
    stream = io.BytesIO()
    Writer(stream, protocol=2).dump(obj)
    return stream.getvalue()


def write_state(
    path: Path,
    state: Any,
    storages: list[Storage],
    *,
    magic: int = MAGIC,
    version: int = 1001,
    machine: Any = MACHINE,
    keys: Any = None,
    tail: bytes = b"",
) -> Path:
    body = b"".join(map(dump, (magic, version, machine, state)))
    body += dump([storage.key for storage in storages] if keys is None else keys)
    for storage in storages:
        body += struct.pack("<q", storage.values.size) + storage.values.tobytes()
    path.write_bytes(body + tail)
    return path


def make_parts() -> tuple[Any, list[Storage]]:
    kernel = Storage("11", np.arange(24, dtype="<f4"))
    count = Storage("12", np.array([7], "<i8"))
    state = OrderedDict(
        kernel=Tensor(kernel, (2, 3, 4), (12, 4, 1)),
        half=Tensor(kernel, (3, 4), (4, 1), offset=12),
        turned=Tensor(kernel, (4, 2, 3), (1, 12, 4)),
        single=Tensor(kernel, (1, 24, 1), (5, 1, 9)),
        count=Tensor(count, (), ()),
    )
    return state, [kernel, count]


def test_tensors_come_back_whole_shared_and_turned(tmp_path: Path) -> None:
    state = read_torch_state(write_state(tmp_path / "state.pth", *make_parts()), sha256=None)
    whole = np.arange(24, dtype="f4").reshape(2, 3, 4)
    assert list(state) == ["kernel", "half", "turned", "single", "count"]
    np.testing.assert_array_equal(state["kernel"], whole)
    np.testing.assert_array_equal(state["half"], whole[1])
    np.testing.assert_array_equal(state["turned"], whole.transpose(2, 0, 1))
    assert state["single"].shape == (1, 24, 1)
    assert state["count"].shape == ()
    assert state["count"] == 7
    assert not state["kernel"].flags.writeable


def test_attributes_that_pytorch_hangs_on_the_dict_are_passed_over(tmp_path: Path) -> None:
    state, storages = make_parts()
    state._metadata = OrderedDict({"": {"version": 2}})
    path = write_state(tmp_path / "state.pth", state, storages)
    assert b"b" in path.read_bytes()
    assert len(read_torch_state(path, sha256=None)) == 5


def test_hash_is_checked_before_anything_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    path.write_bytes(b"no state at all")
    digest = hashlib.sha256(b"no state at all").hexdigest()
    with pytest.raises(RunError, match="expected a file with sha256 0000") as error:
        read_torch_state(path, sha256="0" * 64)
    assert digest in error.value.message
    with pytest.raises(RunError, match="old-format"):
        read_torch_state(path, sha256=digest.upper())


class Command:
    """Runs a shell command wherever it is unpickled."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> Any:
        return os.system, (self.line,)


@pytest.mark.parametrize("place", ["magic", "machine", "state", "inside", "keys"])
def test_a_command_in_the_file_never_runs(tmp_path: Path, place: str) -> None:
    proof = tmp_path / "ran"
    command = Command(f"touch {proof}")
    state, storages = make_parts()
    if place == "inside":
        state["kernel"].arguments = (*state["kernel"].arguments[:5], command)
    changed: dict[str, Any] = {} if place in ("state", "inside") else {place: command}
    path = write_state(
        tmp_path / "state.pth", command if place == "state" else state, storages, **changed
    )
    with pytest.raises(RunError, match=r"the name '(posix|nt) system'"):
        read_torch_state(path, sha256=None)
    assert not proof.exists()
    if place == "state":
        pickle.loads(dump(command))
        assert proof.exists(), "the command must be one that a careless reader would run"


def state_of(*tensor: Any, **options: Any) -> Callable[[Path], Path]:
    storage = Storage("1", np.zeros(12, "<f4"), length=options.pop("length", None))
    state = OrderedDict(x=Tensor(storage, *tensor, offset=options.pop("offset", 0)))
    return lambda path: write_state(path, state, [storage], **options)


CRAFTED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "wrong magic": (state_of((12,), (1,), magic=1), "magic number"),
    "wrong version": (state_of((12,), (1,), version=1002), "protocol version"),
    "big-endian": (state_of((12,), (1,), machine={"little_endian": False}), "little-endian"),
    "huge shape": (state_of((2**40, 2**20), (2**20, 1)), "larger than its storage"),
    "huge by overlap": (state_of((2**40, 12), (0, 1)), "gaps or overlaps"),
    "overlapping": (state_of((3, 12), (1, 1)), "gaps or overlaps"),
    "gaps": (state_of((6,), (2,)), "gaps or overlaps"),
    "beyond the end": (state_of((12,), (1,), offset=1), "larger than its storage"),
    "negative size": (state_of((-12,), (1,)), "no possible shape"),
    "fractional size": (state_of((12.0,), (1,)), "BINFLOAT"),
    "nine axes": (state_of((1,) * 9, (1,) * 9), "no possible shape"),
    "negative offset": (state_of((12,), (1,), offset=-1), "without storage"),
    "storage too long": (state_of((12,), (1,), length=2**40), "a storage of 12 numbers"),
    "unknown storage": (state_of((12,), (1,), keys=["2"]), "list of storages"),
    "storage twice": (state_of((12,), (1,), keys=["1", "1"]), "list of storages"),
    "something behind": (state_of((12,), (1,), tail=b"xx"), "2 bytes too many"),
    "no tensors": (lambda path: write_state(path, {"x": 1}, []), "dict of tensors"),
    "a list": (lambda path: write_state(path, ["x"], []), "dict of tensors"),
    "keys that are no text": (lambda path: write_state(path, {1: 2}, []), "not all text"),
}


@pytest.mark.parametrize("what", list(CRAFTED))
def test_crafted_files_are_refused(tmp_path: Path, what: str) -> None:
    write, reason = CRAFTED[what]
    with pytest.raises(RunError, match=reason):
        read_torch_state(write(tmp_path / "state.pth"), sha256=None)


def test_a_lying_length_allocates_nothing(tmp_path: Path) -> None:
    """The length in front of the numbers says 2**62; the pickle says the same."""
    path = state_of((12,), (1,), length=2**61)(tmp_path / "state.pth")
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<q", 12), struct.pack("<q", 2**61)))
    with pytest.raises(RunError, match="must fit"):
        read_torch_state(path, sha256=None)


def test_opcodes_that_reserve_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    with pytest.raises(RunError):
        read_torch_state(path, sha256=None)
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.")
    with pytest.raises(RunError):
        read_torch_state(path, sha256=None)


def test_missing_file_and_directory_are_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file"):
        read_torch_state(tmp_path / "none.pth", sha256=None)
    with pytest.raises(RunError, match="expected a readable weight file"):
        read_torch_state(tmp_path, sha256=None)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 2_000), byte=st.integers(0, 255), cut=st.booleans())
def test_any_damage_gives_an_error_or_arrays(
    tmp_path: Path, position: int, byte: int, cut: bool
) -> None:
    data = bytearray(write_state(tmp_path / "state.pth", *make_parts()).read_bytes())
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] = byte
    (tmp_path / "state.pth").write_bytes(data)
    try:
        state = read_torch_state(tmp_path / "state.pth", sha256=None)
    except RunError as error:
        received: object = error.message
    else:
        received = list(state.values())
    assert str(tmp_path) in str(received) or isinstance(received, list)
