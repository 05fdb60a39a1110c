"""Reads layers from Keras files of both formats; nothing is executed and no link is followed.

An older file (`.h5`) lists the layers of a model in order. A newer one (`.weights.h5`, also the one
inside a `.keras` archive) has a group for each layer, named after its class and numbered within it;
a model inside a model is a container in a container. Why Keras does not read them:
`docs/decisions/0009-weights.md`.
"""

import errno
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Union

from cnnclf.errors import RunError
from cnnclf.full_disks import write_error

KERAS_MEMBER = "model.weights.h5"
HDF5_START = b"\x89HDF\r\n\x1a\n"
ZIP_START = b"PK\x03\x04"

Shape = tuple[int, ...]

# What h5py and zipfile raise on truncated, crafted or foreign files.
_DAMAGE = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
)

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

# More than any network has; a crafted file may contain a group that contains itself.
_MAX_GROUPS = 100_000
_MAX_DEPTH = 24
# Weights hardly compress; an archive that expands more than this does not hold weights.
_MAX_EXPANSION = 20


class _OddFileError(ValueError):
    """What is wrong with the file, in words."""


@dataclass(frozen=True)
class StoredLayer:
    """A layer in a file; of its arrays, trainable ones come first."""

    name: str
    arrays: tuple[Any, ...]

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the datasets, in order."""
        return tuple(tuple(array.shape) for array in self.arrays)


@dataclass(frozen=True)
class Container:
    """The layers of a model in a newer file, by class and in the order of the model."""

    kinds: dict[str, list[Union[StoredLayer, "Container"]]]

    def leaves(self) -> Iterator[StoredLayer]:
        """Iterate over all layers that are not models themselves."""
        for layers in self.kinds.values():
            for layer in layers:
                if isinstance(layer, Container):
                    yield from layer.leaves()
                else:
                    yield layer


@dataclass(frozen=True)
class StoredModel:
    """What a file contains; one of the two is empty.

    Args:
        lists: The layers of an older file in order, as they are and with inner models flattened.
        containers: The models in a newer file, the outermost first.
    """

    lists: tuple[tuple[StoredLayer, ...], ...]
    containers: tuple[Container, ...]

    def count(self) -> int:
        """Return how many weights the file has, each of them counted once."""
        several = list(self.lists)
        several += [tuple(container.leaves()) for container in self.containers]
        return max(
            (sum(prod(shape) for layer in layers for shape in layer.shapes) for layers in several),
            default=0,
        )


@contextmanager
def open_stored(path: Path) -> Iterator[StoredModel]:
    """Open a weights file; its arrays can be read inside the with statement, within `reading`.

    Args:
        path: A `.h5`, `.weights.h5` or `.keras` file, recognized by its content.

    Raises:
        RunError, DeviceError: See `reading`.
    """
    import h5py  # type: ignore[import-untyped]

    with ExitStack() as stack:
        with reading(path):
            inner = stack.enter_context(_unpack(path))
            stored = _read(stack.enter_context(h5py.File(inner, "r")))
        yield stored


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what h5py and zipfile raise on a damaged file into one of our errors.

    Only reading belongs in the with statement: a bug elsewhere is not a damaged file.

    Args:
        path: The file, for the message.

    Raises:
        RunError: It is another kind of file, truncated, damaged, or refers to other files.
        DeviceError: The disk for temporary files, where archives are unpacked, is full.
    """
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise write_error(Path(tempfile.gettempdir()), error) from error
        reason = str(error) if isinstance(error, _OddFileError) else "another format or damaged"
        raise RunError(
            f"not a complete .h5, .weights.h5 or .keras weights file ({reason}): {path}",
            "copy or download the file again",
        ) from error


@contextmanager
def _unpack(path: Path) -> Iterator[Path]:
    """Give the HDF5 file itself, or the one in a `.keras` archive, extracted and CRC-checked."""
    with path.open("rb") as stream:
        is_archive = stream.read(len(ZIP_START)) == ZIP_START
    if not is_archive:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder, KERAS_MEMBER)
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(KERAS_MEMBER).file_size
            if size > _MAX_EXPANSION * path.stat().st_size:
                raise _OddFileError(f"archive expands to {size:,} bytes")
            with archive.open(KERAS_MEMBER) as source, inner.open("wb") as target:
                shutil.copyfileobj(source, target)
        yield inner


def _read(file: Any) -> StoredModel:
    group = file.get("model_weights", file)
    if "layer_names" in group.attrs or "layer_names0" in group.attrs:
        return StoredModel(_read_lists(group), ())
    containers = tuple(_find_containers(file, _Budget()))
    if not any(each.kinds for each in containers):
        raise _OddFileError("it has no layers")
    return StoredModel((), containers)


# Older files


def _read_lists(group: Any) -> tuple[tuple[StoredLayer, ...], ...]:
    whole, apart = [], []
    for name in _read_names(group, "layer_names"):
        layer = _hard_group(group, name)
        names = _read_names(layer, "weight_names")
        arrays = [_plain_dataset(_hard_dataset(layer, each)) for each in names]
        if not arrays:
            continue
        whole.append(StoredLayer(name, tuple(arrays)))
        parts: dict[str, list[Any]] = {}
        for each, array in zip(names, arrays, strict=True):
            parts.setdefault(each.rpartition("/")[0] or name, []).append(array)
        for part, own in parts.items():
            part_name = part.rpartition("/")[2] if len(parts) > 1 else name
            apart.append(StoredLayer(part_name, tuple(own)))
    return (tuple(whole), tuple(apart))


def _read_names(group: Any, key: str) -> list[str]:
    """Read a list of names; Keras splits long ones into numbered attributes."""
    pieces = [key] if key in group.attrs else []
    while f"{key}{len(pieces)}" in group.attrs:
        pieces.append(f"{key}{len(pieces)}")
    return [_text(name) for piece in pieces for name in group.attrs[piece]]


# Newer files


class _Budget:
    """How many groups may still be visited."""

    def __init__(self) -> None:
        self._left = _MAX_GROUPS

    def spend(self, level: int) -> None:
        """Count one group.

        Raises:
            _OddFileError: There are more groups, or deeper ones, than any network has.
        """
        self._left -= 1
        if self._left < 0 or level > _MAX_DEPTH:
            raise _OddFileError("too many or too deeply nested groups")


def _find_containers(group: Any, budget: _Budget, level: int = 0) -> Iterator[Container]:
    """Find every group named `layers`, the outermost first."""
    budget.spend(level)
    inner = [name for name in group if _is_hard_group(group, name)]
    if "layers" in inner:
        yield _read_container(group["layers"], budget, level + 1)
    for name in inner:
        if name != "vars":
            yield from _find_containers(group[name], budget, level + 1)


def _read_container(group: Any, budget: _Budget, level: int) -> Container:
    numbered: dict[str, dict[int, StoredLayer | Container]] = {}
    for name in group:
        if not _is_hard_group(group, name):
            raise _OddFileError("a link instead of a layer")
        budget.spend(level)
        kind, number = re.fullmatch(r"(.+?)(?:_(\d{1,6}))?", name).groups()  # type: ignore[union-attr]
        numbered.setdefault(kind, {})[int(number or 0)] = _read_layer(
            group[name], name, budget, level + 1
        )
    return Container(
        {kind: [layers[number] for number in sorted(layers)] for kind, layers in numbered.items()}
    )


def _read_layer(group: Any, name: str, budget: _Budget, level: int) -> StoredLayer | Container:
    if _is_hard_group(group, "layers"):
        return _read_container(group["layers"], budget, level + 1)
    if not _is_hard_group(group, "vars"):
        return StoredLayer(name, ())
    store = group["vars"]
    arrays = [_plain_dataset(_hard_dataset(store, str(index))) for index in range(len(store))]
    return StoredLayer(_text(store.attrs.get("name", name)), tuple(arrays))


# Only what is in the file itself


def _is_hard_group(parent: Any, name: str) -> bool:
    import h5py

    is_hard = isinstance(parent.get(name, getlink=True), h5py.HardLink) if name in parent else False
    return is_hard and parent.get(name, getclass=True) is h5py.Group


def _hard_group(parent: Any, name: str) -> Any:
    for part in name.split("/"):
        if not _is_hard_group(parent, part):
            raise _OddFileError(f"group {part} is missing")
        parent = parent[part]
    return parent


def _hard_dataset(parent: Any, name: str) -> Any:
    import h5py

    folder, _, last = name.rpartition("/")
    parent = _hard_group(parent, folder) if folder else parent
    if not isinstance(parent.get(last, getlink=True), h5py.HardLink):
        raise _OddFileError(f"weights {name} are missing")
    return parent[last]


def _plain_dataset(dataset: Any) -> Any:
    """Refuse what would read other files, and what is not numeric."""
    is_empty = dataset.shape is None  # h5py caches it, so damage shows here
    if dataset.is_virtual or dataset.external or is_empty or dataset.dtype.kind not in "fiu":
        raise _OddFileError("a dataset refers to other files or is not numeric")
    return dataset


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
