"""Maps the packaged ImageNet weights of EfficientNet-Lite0 to the layers of our network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.models.efficientnet_lite import LITE0_STAGES
from cnnclf.models.weights.published import LITE0_FILE, find_packaged_lite0
from cnnclf.models.weights.torch_state import read_torch_state


def load_lite0_weights(model: Any, path: Path | None = None) -> None:
    """Fill EfficientNet-Lite0, with or without its top, from the packaged file.

    Args:
        model: The network of `cnnclf.models.efficientnet_lite`, also with layers around it.
        path: The file, whose SHA-256 must be the published one; None: the packaged one.

    Raises:
        MissingPackageError: The package is not installed.
        RunError: The file is not the published one or does not fit the network.
    """
    path = find_packaged_lite0() if path is None else path
    assign_lite0_state(model, read_torch_state(path, sha256=LITE0_FILE.digest))


def assign_lite0_state(model: Any, state: dict[str, npt.NDArray[Any]]) -> None:
    """Assign the tensors of a state dict to the layers of EfficientNet-Lite0.

    Kernels are transposed from [out, in, h, w] to [h, w, in, out], depthwise ones from
    [channels, 1, h, w] to [h, w, channels, 1], and the dense kernel from [out, in] to [in, out].

    Args:
        model: The network, with or without its top.
        state: Name to array, with the names of the packaged file.

    Raises:
        RunError: A tensor is missing, unknown or of another shape.
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
                f"layer {target} of EfficientNet-Lite0 has weights of shape {expected}, the file"
                f" has {received} ({source})",
                f"use the file of the package {LITE0_FILE.package}",
            )
        layers[target].set_weights(arrays)
    if rest:
        raise RunError(
            f"weights for layers that EfficientNet-Lite0 does not have: {', '.join(rest)}",
            f"use the file of the package {LITE0_FILE.package}",
        )


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
