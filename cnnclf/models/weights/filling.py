"""Loads trained weights into a built backbone; nothing in a file is executed.

There are four kinds of file: PyTorch's old state dict of EfficientNet-Lite0, which an installed
package ships; HDF5 files as Keras publishes them; Keras's newer `.weights.h5`; and `.keras`
archives, of which the weights are read and the graph is not. `models/weights/sources.py` finds the
file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import RunError
from cnnclf.files import read_json
from cnnclf.models.backbones import Backbone
from cnnclf.models.normalize import complete_inside_normalization
from cnnclf.models.weights.layer_matching import Pair, list_wanted, match_layers
from cnnclf.models.weights.lite_weights import load_lite_weights
from cnnclf.models.weights.published import hash_weights
from cnnclf.models.weights.sources import WeightSource, fetch_weights, suggest_backbone
from cnnclf.models.weights.stored_layers import Shape, StoredModel, open_stored, reading
from cnnclf.names import name_some
from cnnclf.progress import Progress
from cnnclf.runs.run_names import CLASSIFIER_FILE

# A layer whose weights `complete_inside_normalization` sets, whatever a file contains.
_STATISTICS = "normalization"
_SHOWN = 3


@dataclass(frozen=True)
class LoadedWeights:
    """Which weights a backbone has.

    Args:
        source: `imagenet`, `file`, `run` or `none`.
        name: File name, or the run as given; empty for `none`.
        sha256: Checksum of the file that was read; empty for `none`.
        skipped: Layers of the file that are not part of the backbone, such as its head.
    """

    source: str
    name: str = ""
    sha256: str = ""
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, str]:
        """Return what belongs in run.json."""
        return {"source": self.source, "name": self.name, "sha256": self.sha256}


def load_weights(model: Any, source: WeightSource, *, progress: Progress) -> LoadedWeights:
    """Load the weights of a source into a backbone, downloading them if need be.

    Raises:
        RunError: The weights are unavailable, damaged or do not fit; the model is unchanged.
        MissingPackageError: The package that ships them is not installed.
        DeviceError: The disk is full.
    """
    path = fetch_weights(source, progress=progress)
    if path is None:
        return LoadedWeights(source.kind)
    sha256 = hash_weights(path)
    if source.kind == "run":
        _check_bundle(path, sha256)
    skipped = _load_path(model, source.backbone, path=path, is_published=source.kind == "imagenet")
    if skipped and source.kind == "file":
        progress.note(f"layers of {path.name} that were skipped: {name_some(skipped, _SHOWN)}")
    return LoadedWeights(source.kind, source.name, sha256, skipped)


def load_weights_file(
    model: Any, backbone: Backbone, *, path: Path, is_published: bool = False
) -> tuple[str, ...]:
    """Load a Keras weights file into a backbone; all is checked before anything is changed.

    Layers of the file before and after the backbone are skipped: a head, or a whole model around
    it.

    Args:
        model: The result of `build_backbone` for the row.
        backbone: The row.
        path: A `.h5`, `.weights.h5` or `.keras` file.
        is_published: The layers are in Keras's own order; their names may have changed since.

    Returns:
        Names of the layers in the file that were skipped.

    Raises:
        RunError: The file cannot be read or is of another architecture; the message names the
            first layers that do not fit.
        DeviceError: The disk for temporary files is full.
    """
    wanted = [layer for layer in list_wanted(model) if layer.kind != _STATISTICS]
    with open_stored(path) as stored:
        pairs, misfits = match_layers(wanted, stored, check_names=not is_published)
        if misfits:
            raise _misfit_error(backbone, path, pairs, misfits)
        for pair, arrays in _read_arrays(pairs, path):
            if not all(np.isfinite(array).all() for array in arrays):
                raise RunError(
                    f"weights of layer {pair.wanted.name} are NaN or infinite: {path}",
                    "the training that wrote them diverged; use other weights",
                )
        for pair, arrays in _read_arrays(pairs, path):
            for weight, array in zip(pair.wanted.weights, arrays, strict=True):
                weight.assign(array)
        skipped = _list_skipped(stored, pairs)
    complete_inside_normalization(model)
    return skipped


def _load_path(
    model: Any, backbone: Backbone, *, path: Path, is_published: bool
) -> tuple[str, ...]:
    if backbone.imagenet.package and path.suffix == Path(backbone.imagenet.name).suffix:
        load_lite_weights(model, backbone.name, path=path)
        return ()
    return load_weights_file(model, backbone, path=path, is_published=is_published)


def _check_bundle(path: Path, sha256: str) -> None:
    if read_json(path.parent / CLASSIFIER_FILE).get("sha256") != sha256:
        raise RunError(
            f"contents of {path.name} do not match the checksum in {CLASSIFIER_FILE}:"
            f" {path.parent}",
            "copy the whole run again from where it was trained, or train again",
        )


def _read_arrays(pairs: Sequence[Pair], path: Path) -> Iterator[tuple[Pair, list[Any]]]:
    for pair in pairs:
        if pair.stored is None:
            continue
        with reading(path):
            arrays = [np.asarray(array) for array in pair.stored.arrays]
        yield pair, arrays


def _list_skipped(stored: StoredModel, pairs: Sequence[Pair]) -> tuple[str, ...]:
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
    described = "; ".join(_describe(pair) for pair in misfits[:_SHOWN])
    more = len(misfits) - _SHOWN
    rest = f"; and {more} more" if more > 0 else ""
    return RunError(
        f"weights in {path} do not fit {backbone.name}: {len(misfits)} of {len(pairs)} layers"
        f" differ: {described}{rest}",
        suggest_backbone(path, backbone),
    )


def _describe(pair: Pair) -> str:
    wanted = f"{pair.wanted.name} needs {_describe_shapes(pair.wanted.shapes)}"
    if pair.stored is None:
        return f"{wanted}, the file has no such layer"
    if pair.fits:
        return f"the file has {pair.stored.name} in place of {pair.wanted.name}"
    return f"{wanted}, the file has {_describe_shapes(pair.stored.shapes)} ({pair.stored.name})"


def _describe_shapes(shapes: tuple[Shape, ...]) -> str:
    return " + ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) or "nothing"
