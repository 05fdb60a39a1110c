"""The Keras engine: the model as it was saved, on the device that the runtime was set up for."""

import threading
import zipfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.bounded import MAX_DOCUMENT_BYTES, parse_json
from cnnclf.errors import RunError
from cnnclf.inference.engines.converting import first_line
from cnnclf.inference.engines.engine import EngineOptions, Logits, ModelFile, Pixels, Tag
from cnnclf.runtime import POLICIES

if TYPE_CHECKING:
    import keras

# Number of batch sizes for which graphs are kept; each takes memory.
_MAX_SIZES = 8

# Layers that are built in float32 whatever the others compute in: means, normalization, logits.
_EXACT = "float32"
_EXACT_LAYERS = {"GlobalAveragePooling2D", "GlobalMaxPooling2D"}
_EXACT_NAMES = {
    "normalize",
    "pool_both",
    "logits",
    "familiarity_flatten",
    "familiarity_scale",
    "familiarity_join",
}


class KerasEngine:
    """Computes with a Keras model.

    Args:
        model: Pixels 0..255 [N, H, W, C] to logits [N, K].
        jit_compile: Compile the graph with XLA.
    """

    name = "keras"

    def __init__(self, model: "keras.Model", *, jit_compile: bool = False) -> None:
        # Without compile(), Keras would use XLA, at half the speed on a CPU.
        model.compile(jit_compile=jit_compile)
        self.model = model
        self._no_logits = np.zeros((0, int(model.output_shape[-1])), np.float32)
        self._sizes: set[int] = set()
        self._asked: set[int] = set()
        self._lock = threading.Lock()

    @property
    def precision(self) -> str:
        """The compute dtype of the layers, as saved."""
        return _find_precision(self.model)

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch."""
        count = len(pixels)
        size = self._choose_size(count)
        if size > count:
            padded = np.zeros((size, *pixels.shape[1:]), np.uint8)
            padded[:count] = pixels
            pixels = padded
        return np.asarray(self.model.predict_on_batch(pixels)[:count], np.float32)

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches one after the other."""
        for tag, pixels in batches:
            yield tag, self.logits(pixels) if len(pixels) else self._no_logits

    def _choose_size(self, count: int) -> int:
        """Choose the batch size for `count` images; the rest is padding.

        Each new size costs a new graph (seconds for a large model). A size that occurs once, like
        the last batch of a folder, is padded to a larger known size; if it occurs again, it gets a
        graph of its own.
        """
        with self._lock:
            larger = [size for size in self._sizes if size >= count]
            is_new = count not in self._asked
            self._asked.add(count)
            if larger and (is_new or len(self._sizes) >= _MAX_SIZES):
                return min(larger)
            self._sizes.add(count)
            return count


def open_keras(_model: ModelFile, options: EngineOptions) -> KerasEngine:
    """Open the Keras model of a bundle."""
    model = options.keras.load()
    if options.precision is not None:
        model = set_precision(model, options.precision)
    return KerasEngine(model, jit_compile=options.keras.jit_compile)


def load_keras_model(path: Path) -> "keras.Model":
    """Load a graph of built-in Keras layers; code in the file is never run.

    Raises:
        RunError: The file is damaged, from another version, or contains code.
    """
    import keras

    with _reporting_damage(path):
        _read_config(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)


def load_other_model(path: Path) -> "keras.Model":
    """Load a model that another program saved: .keras, or the .h5 of earlier versions of Keras.

    Raises:
        RunError: The file is damaged, from another version, or contains code.
    """
    import h5py  # type: ignore[import-untyped]
    import keras

    if not h5py.is_hdf5(path):
        return load_keras_model(path)
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
        if text is None:
            raise RunError(
                f"{path} holds weights only, no layers", "save the whole model: model.save(...)"
            )
        code = next(_find_code(parse_json(text)), None)
        if code is not None:
            raise RunError(f"{path} contains custom code ({code}); it is not loaded")
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"Keras {keras.__version__} cannot load {path}, which an earlier version of Keras "
            f"saved: {first_line(error)}",
            "load it with that version (python -m pip install 'tensorflow<2.16') and save it as "
            ".keras",
        ) from error


def read_keras_graph(path: Path) -> "keras.Model":
    """Build the graph of a file with new weights; the weights in the file are not read.

    Raises:
        RunError: The file is damaged, from another version, or contains code.
    """
    import keras

    with _reporting_damage(path):
        config = {**_read_config(path), "compile_config": None}
        return keras.saving.deserialize_keras_object(config, safe_mode=True)


def _read_config(path: Path) -> dict[str, Any]:
    """Read how the layers are connected, and refuse code."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > MAX_DOCUMENT_BYTES:
            raise ValueError("its config.json is too large")
        config: dict[str, Any] = parse_json(archive.read("config.json"))
    code = next(_find_code(config), None)
    if code is not None:
        raise RunError(
            f"{path} contains custom code ({code}); only built-in layers of Keras are loaded",
            "train a model with cnnclf, or remove the custom layers",
        )
    return config


@contextmanager
def _reporting_damage(path: Path) -> Iterator[None]:
    import keras

    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"Keras {keras.__version__} cannot load {path}: {first_line(error)}",
            "use the version of Keras named in its classifier.json, or train again",
        ) from error


def load_saved_model(path: Path, shape: tuple[int, int, int]) -> "keras.Model":
    """Load a TensorFlow SavedModel whose endpoint `serve` takes uint8 images.

    Args:
        path: The directory.
        shape: (height, width, channels) of an image.

    Raises:
        RunError: It is damaged, or not a SavedModel.
    """
    import keras

    from cnnclf.inference.engines.saved_model_check import check_saved_model

    check_saved_model(path)
    try:
        layer = keras.layers.TFSMLayer(path, call_endpoint="serve")
        pixels = keras.Input(shape, dtype="uint8", name="pixels")
        return keras.Model(pixels, layer(pixels))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"Keras {keras.__version__} cannot load {path}: {first_line(error)}",
            "export the run again",
        ) from error


def set_precision(model: "keras.Model", precision: str) -> "keras.Model":
    """Return a model whose layers compute in the given precision.

    Args:
        model: Not changed.
        precision: float32, bfloat16 or float16 for computing; weights and logits remain float32.

    Returns:
        The same model if it has this precision already, else a copy with the same weights.
    """
    import keras

    if _find_precision(model) == precision:
        return model
    config = model.get_config()
    last = config["layers"][-1]
    _set_policies(config, POLICIES[precision])
    _set_policies(last, _EXACT)
    with keras.device("cpu"):
        changed = model.__class__.from_config(config)
    changed.set_weights(model.get_weights())
    return changed


def _find_precision(model: "keras.Model") -> str:
    """Return what a model computes in; a few layers of one in reduced precision stay exact."""
    kinds = {str(layer.compute_dtype) for layer in model.layers}
    return next((each for each in ("bfloat16", "float16") if each in kinds), _EXACT)


def _set_policies(config: Any, name: str) -> None:
    """Replace all dtype policies in the config of a model or layer."""
    if isinstance(config, dict):
        if config.get("class_name") in _EXACT_LAYERS or config.get("name") in _EXACT_NAMES:
            name = _EXACT
        if config.get("class_name") == "DTypePolicy":
            config["config"] = {"name": name}
        for value in config.values():
            _set_policies(value, name)
    elif isinstance(config, (list, tuple)):
        for value in config:
            _set_policies(value, name)


def accept_uint8(model: "keras.Model") -> "keras.Model":
    """Add the conversion from uint8 to the graph, so that engines accept decoded images.

    Args:
        model: From float32 pixels 0..255; not changed, its weights are shared.

    Returns:
        A model from uint8 [N, H, W, C] to the same outputs.
    """
    import keras

    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    whole = keras.Model(pixels, model(keras.ops.cast(pixels, "float32")), name=model.name)
    # The export to ONNX requires a model that was called.
    whole(np.zeros((1, *model.input_shape[1:]), np.uint8))
    return whole


def _find_code(config: Any) -> Iterator[str]:
    """Find names that Keras would have to import or unpickle from elsewhere."""
    if isinstance(config, Mapping):
        name = config.get("class_name")
        module = config.get("module")
        is_foreign = isinstance(module, str) and module.split(".")[0] != "keras"
        if isinstance(name, str) and (name in {"Lambda", "__lambda__"} or is_foreign):
            yield name if module is None else f"{module}.{name}"
        elif isinstance(name, str) and module is None and config.get("registered_name"):
            yield str(config["registered_name"])
        for value in config.values():
            yield from _find_code(value)
    elif isinstance(config, list):
        for value in config:
            yield from _find_code(value)
