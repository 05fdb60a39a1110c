"""Fills a built backbone with trained weights, from files only; nothing in a file is executed.

Four kinds of file: PyTorch's old state dict of EfficientNet-Lite0, which an installed package
brings; HDF5 files as Keras publishes them; Keras's newer `.weights.h5`; and `.keras` archives, of
which the numbers are read and the graph is not. `models/weights/sources.py` finds the file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import RunError
from cnnclf.files import read_json
from cnnclf.models.backbones import BACKBONES, Backbone
from cnnclf.models.normalize import complete_inside_normalization
from cnnclf.models.weights.layer_matching import Pair, list_wanted, match_layers
from cnnclf.models.weights.lite0_weights import load_lite0_weights
from cnnclf.models.weights.published import check_published, find_published_path, hash_file
from cnnclf.models.weights.sources import WeightSource, fetch_weights
from cnnclf.models.weights.stored_layers import Shape, StoredModel, open_stored, reading
from cnnclf.progress import Progress
from cnnclf.runs import CLASSIFIER_FILE

# A layer whose numbers `complete_inside_normalization` sets, whatever a file says.
_STATISTICS = "normalization"
_SHOWN = 3


@dataclass(frozen=True)
class LoadedWeights:
    """Which weights a backbone got.

    Args:
        source: `imagenet`, `file`, `run` or `none`.
        name: File name, or the run as it was given; empty for `none`.
        sha256: Hash of the file that was read; empty for `none`.
        left_out: Layers of the file that are no part of the backbone, such as its head.
    """

    source: str
    name: str = ""
    sha256: str = ""
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, str]:
        """Return what belongs in run.json."""
        return {"source": self.source, "name": self.name, "sha256": self.sha256}


def load_weights(model: Any, source: WeightSource, *, progress: Progress) -> LoadedWeights:
    """Fill a backbone from wherever its weights come, downloading them if need be.

    Args:
        model: What `build_backbone` gave for the source's row.
        source: What `find_weights` gave.
        progress: Told about a download, and which layers of a file are left out.

    Returns:
        What to keep on record.

    Raises:
        RunError: The weights cannot be had, are damaged or do not fit; the model is unchanged.
        MissingPackageError: The package that brings them is not installed.
        DeviceError: The disk is full.
    """
    path = fetch_weights(source, progress=progress)
    if path is None:
        return LoadedWeights(source.kind)
    sha256 = hash_file(path)
    if source.kind == "run":
        _check_bundle(path, sha256)
    left_out = _load_path(model, source.backbone, path, is_published=source.kind == "imagenet")
    if left_out and source.kind == "file":
        progress.note(f"left out of {path.name}: {_name_some(left_out)}")
    return LoadedWeights(source.kind, source.name, sha256, left_out)


def load_imagenet_weights(model: Any, backbone: Backbone) -> Path:
    """Fill a backbone with its published ImageNet weights, if they are on this machine.

    Args:
        model: What `build_backbone` gave for the row.
        backbone: The row.

    Returns:
        The file that was read.

    Raises:
        MissingPackageError: If the package that brings the file is not installed.
        RunError: If the file is missing or not the published one.
    """
    path = find_published_path(backbone)
    if not backbone.imagenet.package:
        check_published(path, backbone)
    _load_path(model, backbone, path, is_published=True)
    return path


def load_weights_file(
    model: Any, backbone: Backbone, path: Path, *, is_published: bool = False
) -> tuple[str, ...]:
    """Fill a backbone from a weight file of Keras; all is checked before anything is changed.

    What lies before and behind the backbone in the file is passed over: a head, a whole model
    around it.

    Args:
        model: What `build_backbone` gave for the row.
        backbone: The row.
        path: A `.h5`, `.weights.h5` or `.keras` file.
        is_published: The order of the layers is Keras's own; their names may have changed since.

    Returns:
        Names of the layers in the file that were passed over.

    Raises:
        RunError: If the file cannot be read or is of another architecture; the message names the
            first layers that do not fit.
        DeviceError: If the disk for temporary files is full.
    """
    wanted = [layer for layer in list_wanted(model) if layer.kind != _STATISTICS]
    with open_stored(path) as stored:
        pairs, misfits = match_layers(wanted, stored, check_names=not is_published)
        if misfits:
            raise _misfit_error(backbone, path, pairs, misfits)
        for pair, arrays in _read_arrays(pairs, path):
            if not all(np.isfinite(array).all() for array in arrays):
                raise RunError(
                    f"expected numbers in all layers, received NaN or infinity in"
                    f" {pair.wanted.name}: {path}",
                    "use weights of a training that went well",
                )
        for pair, arrays in _read_arrays(pairs, path):
            for weight, array in zip(pair.wanted.weights, arrays, strict=True):
                weight.assign(array)
        left_out = _list_left_out(stored, pairs)
    complete_inside_normalization(model)
    return left_out


def _load_path(
    model: Any, backbone: Backbone, path: Path, *, is_published: bool
) -> tuple[str, ...]:
    if backbone.imagenet.package and path.suffix == Path(backbone.imagenet.name).suffix:
        load_lite0_weights(model, path)
        return ()
    return load_weights_file(model, backbone, path, is_published=is_published)


def _check_bundle(path: Path, sha256: str) -> None:
    if read_json(path.parent / CLASSIFIER_FILE).get("sha256") != sha256:
        raise RunError(
            f"the bundle {path.parent} is changed or damaged: the checksum of {path.name} does not"
            " fit",
            "copy the whole run again from where it was trained, or train again",
        )


def _read_arrays(pairs: Sequence[Pair], path: Path) -> Iterator[tuple[Pair, list[Any]]]:
    for pair in pairs:
        if pair.stored is None:
            continue
        with reading(path):
            arrays = [np.asarray(array) for array in pair.stored.arrays]
        yield pair, arrays


def _list_left_out(stored: StoredModel, pairs: Sequence[Pair]) -> tuple[str, ...]:
    used = {array.name for pair in pairs if pair.stored for array in pair.stored.arrays}
    layers = (
        [leaf for container in stored.containers[:1] for leaf in container.leaves()]
        if stored.containers
        else stored.lists[-1]
    )
    return tuple(
        layer.name
        for layer in layers
        if layer.arrays
        and not layer.name.startswith(_STATISTICS)
        and used.isdisjoint(array.name for array in layer.arrays)
    )


def _misfit_error(
    backbone: Backbone, path: Path, pairs: Sequence[Pair], misfits: Sequence[Pair]
) -> RunError:
    told = "; ".join(_tell(pair) for pair in misfits[:_SHOWN])
    more = len(misfits) - _SHOWN
    rest = f"; and {more} more" if more > 0 else ""
    known = next(
        (row.name for row in BACKBONES if _bare(row.imagenet.name) == _bare(path.name)), ""
    )
    return RunError(
        f"expected weights of {backbone.name}, received others in {path}: {len(misfits)} of"
        f" {len(pairs)} layers do not fit: {told}{rest}",
        f"--backbone {known} is what the file is for"
        if known and known != backbone.name
        else "name the backbone that the file was saved from with --backbone",
    )


def _bare(name: str) -> str:
    """Take out of the name of a published file what tells whether it has its top."""
    return re.sub(r"[_-]no_?top(_v2)?", "", name)


def _tell(pair: Pair) -> str:
    wanted = f"{pair.wanted.name} takes {_tell_shapes(pair.wanted.shapes)}"
    if pair.stored is None:
        return f"{wanted}, the file has no such layer"
    if pair.fits:
        return f"{pair.wanted.name} stands where the file has {pair.stored.name}"
    return f"{wanted}, the file has {_tell_shapes(pair.stored.shapes)} ({pair.stored.name})"


def _tell_shapes(shapes: tuple[Shape, ...]) -> str:
    return " + ".join("x".join(map(str, shape)) or "one number" for shape in shapes) or "nothing"


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
