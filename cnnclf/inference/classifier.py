"""The only door to a trained model: writes and opens bundles, gives logits and probabilities.

A bundle is two files: `model.keras`, a graph from pixels 0..255 to logits, and `classifier.json`,
which says all that is needed to use it: labels in order, input spec, temperature, checksum.
"""

import hashlib
import json
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf import __version__
from cnnclf.data.images import decode_image
from cnnclf.data.input_spec import InputSpec
from cnnclf.errors import ConfigError, RunError
from cnnclf.files import (
    atomic_path,
    check_version,
    find_whole_directory,
    read_json,
    write_json_atomic,
)
from cnnclf.runs import CLASSIFIER_FILE, MODEL_FILE, RECORD_FILE, open_run

if TYPE_CHECKING:
    import keras

BUNDLE_VERSION = 1

# Batch sizes for which a graph may be kept; more would cost memory for each size ever asked for.
_MOST_SIZES = 8
_COPY_AGAIN = "copy the whole bundle again from where it was trained, or train again"


def save_bundle(
    directory: Path,
    model: "keras.Model",
    *,
    labels: Sequence[str],
    input_spec: InputSpec,
    dataset: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    threshold: float | None = None,
) -> None:
    """Write model.keras, then classifier.json, each whole or not at all.

    To replace a checkpoint that somebody may read meanwhile, call it inside
    `files.atomic_directory`. Optimizer, loss and metrics of a compiled model are left out.

    Args:
        directory: Made if it does not exist; other files in it stay.
        model: float32 pixels 0..255 [N, H, W, C] to logits [N, K], of plain Keras layers.
        labels: K labels in the order of the logits.
        input_spec: What the model wants to see.
        dataset: `name` and `fingerprint` of the dataset it was trained on.
        extra: More JSON values to keep with it, such as the epoch.
        temperature: What logits are divided by before the softmax, above 0.
        threshold: Probability below which a label counts as unknown, 0..1; None for none.

    Raises:
        ValueError: Labels, input spec and model do not fit together.
        RunError, DeviceError: The files cannot be written.
    """
    import keras

    _check_labels(labels)
    problem = _find_mismatch(model, labels, input_spec)
    if problem:
        raise ValueError(problem)
    with atomic_path(directory / MODEL_FILE) as temporary:
        _without_training(model).save(temporary)
        checksum = _hash_file(temporary)
    backend = keras.backend.backend()
    content = {
        "schema_version": BUNDLE_VERSION,
        "labels": list(labels),
        "input_spec": input_spec.to_dict(),
        "output": "logits",
        "temperature": temperature,
        "threshold": threshold,
        "model": MODEL_FILE,
        "sha256": checksum,
        "parameters": int(model.count_params()),
        "dataset": dict(dataset),
        "versions": {
            "cnnclf": __version__,
            "keras": keras.__version__,
            backend: metadata.version(backend),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "extra": dict(extra or {}),
    }
    write_json_atomic(directory / CLASSIFIER_FILE, content)


@dataclass(eq=False)
class Classifier:
    """A trained model with its labels and its input spec.

    Args:
        model: Compiled for prediction: pixels 0..255 [N, H, W, C] to logits [N, K].
        labels: K labels in the order of the logits.
        input_spec: What `logits` wants to see; `decode` makes it of a picture.
        bundle: The content of classifier.json.
        directory: Where the bundle lies.
    """

    model: "keras.Model"
    labels: tuple[str, ...]
    input_spec: InputSpec
    bundle: dict[str, Any]
    directory: Path
    _sizes: set[int] = field(default_factory=set, repr=False)
    _asked: set[int] = field(default_factory=set, repr=False)

    @classmethod
    def load(cls, path: Path, *, jit_compile: bool = False) -> "Classifier":
        """Open a run directory (its best checkpoint), a checkpoint or a bundle.

        Args:
            path: The directory, or one of the two files of a bundle.
            jit_compile: Let XLA compile the graph; on a CPU this is slower.

        Raises:
            RunError: There is no bundle, it is changed or damaged, it is from a newer version, its
                parts do not fit together, or it holds code (a Lambda or a custom layer).
        """
        directory = find_bundle(path)
        bundle, directory = _read_bundle(directory)
        labels, input_spec = _parse_bundle(bundle, directory)
        model = _load_model(directory / MODEL_FILE)
        problem = _find_mismatch(model, labels, input_spec)
        if problem:
            raise RunError(f"the bundle {directory} is damaged: {problem}", _COPY_AGAIN)
        # Left uncompiled, Keras would hand the graph to XLA, at half the speed on a CPU.
        model.compile(jit_compile=jit_compile)
        return cls(model, labels, input_spec, bundle, directory)

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return float(self.bundle["temperature"])

    @property
    def threshold(self) -> float | None:
        """Probability below which a label counts as unknown; None for none."""
        threshold = self.bundle.get("threshold")
        return None if threshold is None else float(threshold)

    def decode(self, source: Path | bytes) -> np.ndarray:
        """Decode a picture to uint8 [H, W, C] of the input spec.

        Raises:
            ImageError: It is no picture that can be read.
        """
        return decode_image(source, self.input_spec)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the logits of decoded pictures.

        Args:
            pixels: uint8 [n, H, W, C] of the input spec, n >= 0.

        Returns:
            float32 [n, K].

        Raises:
            ValueError: Another shape or dtype.
        """
        expected = self.input_spec.shape
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(
                f"expected uint8 pixels of shape (n, {', '.join(map(str, expected))}), "
                f"received {pixels.dtype} of shape {pixels.shape}"
            )
        count = len(pixels)
        if count == 0:
            return np.zeros((0, len(self.labels)), np.float32)
        size = self._choose_size(count)
        if size > count:
            padded = np.zeros((size, *expected), np.uint8)
            padded[:count] = pixels
            pixels = padded
        return np.asarray(self.model.predict_on_batch(pixels)[:count], np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits into probabilities: softmax(logits / temperature).

        Dividing by one number learnt on held-out data is temperature scaling (Guo et al., 2017).

        Args:
            logits: [n, K].

        Returns:
            float64 [n, K]; rows add up to 1.
        """
        scaled = np.asarray(logits, np.float64) / self.temperature
        scaled -= scaled.max(axis=-1, keepdims=True)
        exponentials = np.exp(scaled)
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))

    def _choose_size(self, count: int) -> int:
        """Choose the batch size to run `count` pictures at; the rest is padding.

        Each new size costs a new graph (seconds for a large model). A size asked for once, as the
        last batch of a folder is, rides in a larger known one; asked for again, it gets its own.
        """
        larger = [size for size in self._sizes if size >= count]
        is_new = count not in self._asked
        self._asked.add(count)
        if larger and (is_new or len(self._sizes) >= _MOST_SIZES):
            return min(larger)
        self._sizes.add(count)
        return count


def find_bundle(path: Path) -> Path:
    """Find the bundle that a user means by a path.

    Args:
        path: A run directory (its best checkpoint), a checkpoint, a bundle, or a file of a bundle.

    Returns:
        A directory that holds classifier.json.

    Raises:
        RunError: There is none.
    """
    if path.name in {MODEL_FILE, CLASSIFIER_FILE} and path.is_file():
        path = path.parent
    if (path / RECORD_FILE).exists():
        return open_run(path).find_checkpoint("best")
    directory = find_whole_directory(path)
    if directory is None:
        what = "a file" if path.exists() else "nothing"
        raise RunError(
            f"expected a run directory or a bundle, found {what} at {path}",
            "see the runs there are: cnnclf runs list",
        )
    if (directory / CLASSIFIER_FILE).exists():
        return directory
    if (directory / MODEL_FILE).exists():
        raise RunError(f"the bundle {path} is damaged: {CLASSIFIER_FILE} is missing", _COPY_AGAIN)
    return open_run(path).find_checkpoint("best")


def _check_labels(labels: Sequence[str]) -> None:
    if len(set(labels)) != len(labels) or not all(
        isinstance(label, str) and label for label in labels
    ):
        raise ValueError(f"expected labels that are texts, each once, received {list(labels)!r}")


def _find_mismatch(
    model: "keras.Model", labels: Sequence[str], input_spec: InputSpec
) -> str | None:
    expected = (None, *input_spec.shape)
    if tuple(model.input_shape) != expected:
        return f"its model takes {model.input_shape}, its input spec says {expected}"
    if tuple(model.output_shape) != (None, len(labels)):
        return f"its model gives {model.output_shape}, it has {len(labels)} labels"
    return None


def _without_training(model: "keras.Model") -> "keras.Model":
    """Give the model without optimizer, loss and metrics, which would triple the file.

    Building the second model takes seconds for a deep one, so it is kept from epoch to epoch.
    """
    if not model.compiled:
        return model
    import keras

    config = model.get_config()
    key = json.dumps(config, sort_keys=True, default=str)  # from_config takes the config apart
    known_key, bare = _BARE_MODELS.get(model, ("", None))
    if key != known_key:
        with keras.device("cpu"):
            bare = model.__class__.from_config(config)
        _BARE_MODELS[model] = (key, bare)
    bare.set_weights(model.get_weights())
    return bare


_BARE_MODELS: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_bundle(directory: Path) -> tuple[dict[str, Any], Path]:
    """Read classifier.json and compare the checksum; once more if a training swapped the files."""
    for is_last in (False, True):
        bundle = read_json(directory / CLASSIFIER_FILE, hint=_COPY_AGAIN)
        check_version(
            {"version": bundle.get("schema_version")}, BUNDLE_VERSION, directory / CLASSIFIER_FILE
        )
        try:
            checksum = _hash_file(directory / MODEL_FILE)
        except OSError as error:
            checksum = ""
            if is_last:
                raise RunError(
                    f"the bundle {directory} is damaged: {MODEL_FILE}: {error.strerror}",
                    _COPY_AGAIN,
                ) from error
        if checksum == bundle.get("sha256"):
            return bundle, directory
        directory = find_whole_directory(directory) or directory
    raise RunError(
        f"the bundle {directory} is changed or damaged: the checksum of {MODEL_FILE} does not fit",
        _COPY_AGAIN,
    )


def _parse_bundle(bundle: dict[str, Any], directory: Path) -> tuple[tuple[str, ...], InputSpec]:
    """Check the fields of classifier.json that this program relies on."""
    try:
        labels = tuple(bundle["labels"])
        _check_labels(labels)
        input_spec = InputSpec.from_dict(bundle["input_spec"])
        if bundle["output"] != "logits":
            raise ValueError(f"expected the output logits, received {bundle['output']!r}")
        if not float(bundle["temperature"]) > 0:
            raise ValueError(f"expected a temperature above 0, received {bundle['temperature']!r}")
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise RunError(
            f"the file {directory / CLASSIFIER_FILE} is damaged: {reason}", _COPY_AGAIN
        ) from error
    return labels, input_spec


def _load_model(path: Path) -> "keras.Model":
    """Load a graph of plain Keras layers; nothing that a stranger wrote is run."""
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        code = next(_find_code(config), None)
        if code is not None:
            raise RunError(
                f"{path} holds code of its own ({code}); only layers of Keras itself are loaded",
                "train a model with cnnclf, or take the custom layers out",
            )
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"Keras {keras.__version__} cannot load {path}: {reason}",
            "use the version of Keras named in its classifier.json, or train again",
        ) from error


def _find_code(config: Any) -> Iterator[str]:
    """Find what Keras would have to import or unpickle from elsewhere."""
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
