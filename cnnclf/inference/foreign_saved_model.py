"""SavedModels of other programs: scaling becomes part of the graph."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.inference.engines.converting import converting
from cnnclf.inference.engines.saved_model_check import (
    check_saved_model,
    find_last_operation,
    read_signatures,
)
from cnnclf.inference.foreign_model import Scaling, draw_probes, multi_label_error

_ENDPOINTS: Final = ("serving_default", "serve")
_AGAIN: Final = (
    "save it with one input of floats [N, height, width, channels] and one output [N, classes]"
)


def read_shape(path: Path) -> tuple[int | None, int | None, int]:
    """Read height, width and channels of the images that a SavedModel takes; None for any.

    Raises:
        RunError: It cannot be read, does more than compute, or takes no images.
    """
    check_saved_model(path, again="save it without them, with TensorFlow 2")
    [found] = _find_signature(path)[1].inputs.values()
    dims = [None if each.size < 0 else int(each.size) for each in found.tensor_shape.dim]
    kinds = found.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
    kind = kinds[found.dtype].name.removeprefix("DT_").lower()
    if kind != "float":
        exported = "; an export of cnnclf is used as it is, with the classifier.json beside it: "
        exported += "cnnclf predict EXPORT IMAGES..."
        raise RunError(
            f"{path} takes {kind}, not floats, {dims}", _AGAIN + exported * (kind == "uint8")
        )
    if len(dims) != 4 or dims[3] is None:
        raise RunError(f"{path} is no classifier of images: it takes {dims}", _AGAIN)
    return dims[1], dims[2], dims[3]


def scale_saved_model(
    path: Path, target: Path, *, shape: tuple[int, int, int], scaling: Scaling
) -> npt.NDArray[np.float32]:
    """Write a SavedModel of uint8 images [N, H, W, C] that scales them for another one.

    Args:
        path: The directory of the other one.
        target: The directory to write.
        shape: Height, width and channels.
        scaling: What the model expects.

    Returns:
        Its outputs [N, K] for `draw_probes`.

    Raises:
        EngineRefusedError: It cannot be loaded or written.
        RunError: It is multi-label, or returns something else than one row per image.
    """
    import keras

    name, signature = _find_signature(path)
    [output] = signature.outputs.values()
    if find_last_operation(path, output.name) == "Sigmoid":
        raise multi_label_error(path, "sigmoid")
    factors, offsets = (np.array(each, np.float32) for each in (scaling.factors, scaling.offsets))
    with converting("SavedModel"):
        pixels = keras.Input(shape, dtype="uint8", name="pixels")
        scaled = keras.ops.cast(pixels, "float32") * factors + offsets
        [outputs] = keras.layers.TFSMLayer(path, call_endpoint=name)(scaled).values()
        model = keras.Model(pixels, outputs)
        found = np.asarray(model(draw_probes(shape)), np.float32)
    if found.ndim != 2:
        raise RunError(f"{path} is no classifier: it returns {list(found.shape)}", _AGAIN)
    with converting("SavedModel"):
        model.export(str(target), format="tf_saved_model", verbose=False)
    check_saved_model(target)
    return found


def _find_signature(path: Path) -> tuple[str, Any]:
    signatures = read_signatures(path)
    name = next((each for each in _ENDPOINTS if each in signatures), None)
    if name is None:
        raise RunError(f"{path} has none of the signatures {', '.join(_ENDPOINTS)}", _AGAIN)
    found = signatures[name]
    if len(found.inputs) != 1 or len(found.outputs) != 1:
        raise RunError(
            f"{path} has {len(found.inputs)} inputs and {len(found.outputs)} outputs", _AGAIN
        )
    return name, found
