"""The reader of PyTorch's old files, on files built here opcode by opcode, honest and crafted.

Crafted files are read with their own checksum: with that of another file they are refused unread.
"""

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
from cnnclf.models.weights import torch_state
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


def read(path: Path) -> dict[str, Any]:
    """Read a file as if it were the one whose checksum is known."""
    return read_torch_state(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_tensors_come_back_whole_shared_and_turned(tmp_path: Path) -> None:
    state = read(write_state(tmp_path / "state.pth", *make_parts()))
    whole = np.arange(24, dtype="f4").reshape(2, 3, 4)
    assert list(state) == ["kernel", "half", "turned", "single", "count"]
    np.testing.assert_array_equal(state["kernel"], whole)
    np.testing.assert_array_equal(state["half"], whole[1])
    np.testing.assert_array_equal(state["turned"], whole.transpose(2, 0, 1))
    assert state["single"].shape == (1, 24, 1)
    assert state["count"].shape == ()
    assert state["count"] == 7
    assert not state["kernel"].flags.writeable


def test_attributes_that_pytorch_adds_to_the_dict_are_ignored(tmp_path: Path) -> None:
    state, storages = make_parts()
    state._metadata = OrderedDict({"": {"version": 2}})
    path = write_state(tmp_path / "state.pth", state, storages)
    assert b"b" in path.read_bytes()
    assert len(read(path)) == 5


def test_the_checksum_is_compared_before_anything_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pth"
    path.write_bytes(b"no state at all")
    digest = hashlib.sha256(b"no state at all").hexdigest()
    with pytest.raises(RunError, match="not a PyTorch state dict"):
        read_torch_state(path, sha256=digest.upper())
    monkeypatch.delattr(torch_state, "_read_state")
    with pytest.raises(RunError, match="contents do not match the checksum") as error:
        read_torch_state(path, sha256="0" * 64)
    assert f"(sha256 {digest} instead of 0000" in error.value.message


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
    with pytest.raises(RunError, match=r"the name '(posix|nt)\.system' is not allowed"):
        read(path)
    assert not proof.exists()
    if place == "state":
        pickle.loads(dump(command))
        assert proof.exists(), "the command must be one that a careless reader would run"


def state_of(*tensor: Any, **options: Any) -> Callable[[Path], Path]:
    storage = Storage("1", np.zeros(12, "<f4"), length=options.pop("length", None))
    state = OrderedDict(x=Tensor(storage, *tensor, offset=options.pop("offset", 0)))
    return lambda path: write_state(path, state, [storage], **options)


def cut(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def write_cut(path: Path) -> Path:
        path.write_bytes(write(path).read_bytes()[:-1])
        return path

    return write_cut


CRAFTED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "wrong magic": (state_of((12,), (1,), magic=1), "magic number 1"),
    "wrong version": (state_of((12,), (1,), version=1002), "protocol version 1002"),
    "big-endian": (state_of((12,), (1,), machine={"little_endian": False}), "little-endian"),
    "huge shape": (state_of((2**40, 2**20), (2**20, 1)), "larger than its storage"),
    "huge by overlap": (state_of((2**40, 12), (0, 1)), "larger than its storage"),
    "overlapping": (state_of((3, 12), (1, 1)), "larger than its storage"),
    "gaps beyond the end": (state_of((7,), (2,)), "strides is incompatible"),
    "beyond the end": (state_of((12,), (1,), offset=1), "strides is incompatible"),
    "negative size": (state_of((-12,), (1,)), "strides is incompatible"),
    "fractional size": (state_of((12.0,), (1,)), "float"),
    "more axes than NumPy has": (state_of((1,) * 65, (1,) * 65), "dimension"),
    "negative offset": (state_of((12,), (1,), offset=-1), "strides is incompatible|offset"),
    "storage too long": (state_of((12,), (1,), length=2**40), "a storage of 12 numbers"),
    "storage cut off": (cut(state_of((12,), (1,))), "buffer is smaller"),
    "unknown storage": (state_of((12,), (1,), keys=["2"]), "'2'"),
    "storage twice": (state_of((12,), (1,), keys=["1", "1"]), "a storage of 0 numbers"),
    "unexpected bytes": (state_of((12,), (1,), tail=b"xx"), "after the last storage"),
    "no tensors": (lambda path: write_state(path, {"x": 1}, []), "no attribute 'storage'"),
    "a list": (lambda path: write_state(path, ["x"], []), "no attribute 'values'"),
    "keys that are not text": (lambda path: write_state(path, {1: 2}, []), "'storage'"),
    "a type of storage as a tensor": (
        lambda path: write_state(path, {"x": float_storage}, []),
        "no attribute 'storage'",
    ),
}


@pytest.mark.parametrize("what", list(CRAFTED))
def test_crafted_files_are_refused(tmp_path: Path, what: str) -> None:
    write, reason = CRAFTED[what]
    with pytest.raises(RunError, match=reason):
        read(write(tmp_path / "state.pth"))


def test_a_false_length_allocates_nothing(tmp_path: Path) -> None:
    """The length before the numbers says 2**61; the pickle says the same."""
    path = state_of((12,), (1,), length=2**61)(tmp_path / "state.pth")
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<q", 12), struct.pack("<q", 2**61)))
    with pytest.raises(RunError, match="not a PyTorch state dict"):
        read(path)


def test_strided_tensors_are_read_as_pytorch_reads_them(tmp_path: Path) -> None:
    storage = Storage("1", np.arange(12, dtype="<f4"))
    path = write_state(tmp_path / "s.pth", {"x": Tensor(storage, (3, 2), (4, 2))}, [storage])
    np.testing.assert_array_equal(read(path)["x"], np.arange(12).reshape(3, 4)[:, ::2])


def test_a_pickle_can_change_nothing_of_ours(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever lies on the stack, such as the names it may mention."""
    for name in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"):
        path = tmp_path / "state.pth"
        # state (None, {"__defaults__": ()}): what pickle sets by setattr
        path.write_bytes(b"\x80\x02" + name + b"N}X\x0c\x00\x00\x00__defaults__)s\x86b.")
        with pytest.raises(RunError, match="no attribute '__defaults__'"):
            read(path)


def test_missing_and_unreadable_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read weights file \(No such file"):
        read_torch_state(tmp_path / "none.pth", sha256="0" * 64)
    with pytest.raises(RunError, match="cannot read weights file"):
        read_torch_state(tmp_path, sha256="0" * 64)


def test_files_beyond_the_limit_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pth"
    path.write_bytes(bytes(1001))
    monkeypatch.setattr(torch_state, "MAX_FILE_BYTES", 1000)
    with pytest.raises(RunError, match=r"too large \(1001 bytes, limit 1000\)"):
        read(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 2_000), flip=st.integers(1, 255), cut_off=st.booleans())
def test_any_damage_is_noticed(tmp_path: Path, position: int, flip: int, cut_off: bool) -> None:
    path = write_state(tmp_path / "state.pth", *make_parts())
    data = bytearray(path.read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    position %= len(data)
    if cut_off:
        del data[position:]
    else:
        data[position] ^= flip
    path.write_bytes(data)
    with pytest.raises(RunError, match="contents do not match the checksum"):
        read_torch_state(path, sha256=digest)
