"""Bundles: a trained model with the file that describes how to use it.

A bundle consists of `classifier.json` (labels in order, input spec, temperature, checksum) and the
model that it names: `model.keras`, or a model exported to another format.
"""

import hashlib
import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnclf import __version__
from cnnclf.bounded import describe_fault, is_inside, name_kind
from cnnclf.errors import CnnclfError, ConfigError, RunError
from cnnclf.files import (
    atomic_path,
    check_version,
    find_whole_directory,
    hash_file,
    read_json,
    write_json_atomic,
)
from cnnclf.images.input_spec import KINDS, InputSpec
from cnnclf.inference.engines.engine import ModelFile
from cnnclf.inference.promise import read_promise
from cnnclf.runs.run_directory import is_number
from cnnclf.runs.run_names import CLASSIFIER_FILE, MODEL_FILE

if TYPE_CHECKING:
    import keras

BUNDLE_VERSION = 1

COPY_AGAIN = "copy the whole bundle again from where it was trained, or train again"
_EXPORT_AGAIN = "copy the whole directory again from where it was exported, or export it again"
_OPTIONAL_FIELDS = {
    "format": str, "precision": str, "dataset": dict, "versions": dict, "extra": dict,
    "calibration": dict,
}  # fmt: skip
_OUTPUTS = ("logits", "probabilities")


@dataclass(frozen=True)
class Bundle:
    """The content of classifier.json, checked against the model.

    Args:
        directory: The directory of the bundle.
        content: All fields of classifier.json.
        labels: K labels in the order of the model's outputs.
        input_spec: The input that the model expects.
    """

    directory: Path
    content: dict[str, Any]
    labels: tuple[str, ...]
    input_spec: InputSpec

    @property
    def model(self) -> ModelFile:
        """The model file; its format is keras if the bundle names none."""
        return ModelFile(
            self.directory / self.content.get("model", MODEL_FILE),
            self.content.get("format", "keras"),
            self.content["sha256"],
            self.input_spec.shape,
            len(self.labels),
            self.content.get("precision", "float32"),
        )

    def damaged(self, problem: str) -> RunError:
        """Return the error for a bundle whose parts do not match."""
        return RunError(f"the bundle {self.directory} is damaged: {problem}", COPY_AGAIN)


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle and verify the checksum of its model.

    Raises:
        RunError: It was changed, is damaged, or is from a newer version.
    """
    content, directory = _read_checked(directory)
    return Bundle(directory, content, *_parse(content, directory))


def read_kind(directory: Path) -> str:
    """Return what a bundle takes, as in `InputSpec`, without opening its model.

    A description that cannot be read counts as one of images: opening the model reports it.
    """
    try:
        content = read_json(directory / CLASSIFIER_FILE)
    except CnnclfError:
        return "image"
    spec = content.get("input_spec") if isinstance(content, dict) else None
    kind = spec.get("kind") if isinstance(spec, dict) else None
    return kind if kind in KINDS else "image"


def hash_files(directory: Path, names: Sequence[str]) -> str:
    """Return the checksum of a model: of one file, several files, or a directory.

    For a single file it is its sha256; else the sha256 of the list of all names and sha256 values,
    sorted by name.
    """
    paths = [directory / name for name in names]
    if len(paths) == 1 and not paths[0].is_dir():
        return hash_file(paths[0])
    files = [
        file
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if not file.is_dir()
    ]
    lines = sorted(f"{file.relative_to(directory).as_posix()} {hash_file(file)}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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
    """Write model.keras, then classifier.json, each atomically.

    To replace a checkpoint that other processes may be reading, call it inside
    `files.atomic_directory`. Optimizer, loss and metrics of a compiled model are not saved.

    Args:
        directory: Created if it does not exist; other files in it are kept.
        model: float32 pixels 0..255 [N, H, W, C] to logits [N, K], of built-in Keras layers.
        labels: K labels in the order of the logits.
        input_spec: The input that the model expects.
        dataset: `name` and `fingerprint` of the training dataset.
        extra: More JSON values to store, such as the epoch.
        temperature: Divides the logits before the softmax, above 0.
        threshold: Probability below which the label is unknown, 0..1; None for no threshold.

    Raises:
        ValueError: Labels, input spec and model do not match.
        RunError, DeviceError: The files cannot be written.
    """
    import keras

    _check_labels(labels)
    problem = find_mismatch(model, labels, input_spec=input_spec)
    if problem:
        raise ValueError(problem)
    with atomic_path(directory / MODEL_FILE) as temporary:
        without_training(model).save(temporary)
        checksum = hash_file(temporary)
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


def _check_labels(labels: Sequence[str]) -> None:
    if not all(isinstance(label, str) for label in labels):
        raise ValueError(f"expected labels that are text, received {list(labels)!r}")
    if len(set(labels)) != len(labels) or "" in labels:
        raise ValueError(f"expected unique, non-empty labels, received {list(labels)!r}")


def find_mismatch(
    model: "keras.Model", labels: Sequence[str], *, input_spec: InputSpec
) -> str | None:
    """Compare the shapes of a Keras model with its labels and input spec.

    Returns:
        The first mismatch in words; None if they match.
    """
    expected = (None, *input_spec.shape)
    if tuple(model.input_shape) != expected:
        return (
            f"the input of the model has the shape {model.input_shape}, the input spec {expected}"
        )
    if tuple(model.output_shape) != (None, len(labels)):
        return (
            f"the output of the model has the shape {model.output_shape}, but there are "
            f"{len(labels)} labels"
        )
    return None


def without_training(model: "keras.Model") -> "keras.Model":
    """Return the model without optimizer, loss and metrics, which would triple the file size.

    Building the copy takes seconds for a deep model, so it is cached between epochs.
    """
    if not model.compiled:
        return model
    import keras

    config = model.get_config()
    key = json.dumps(config, sort_keys=True, default=str)  # from_config modifies the config
    known_key, bare = _BARE_MODELS.get(model, ("", None))
    if key != known_key:
        with keras.device("cpu"):
            bare = model.__class__.from_config(config)
        _BARE_MODELS[model] = (key, bare)
    bare.set_weights(model.get_weights())
    return bare


_BARE_MODELS: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def _read_checked(directory: Path) -> tuple[dict[str, Any], Path]:
    """Read classifier.json and verify the checksum; retry once if training replaced it."""
    for is_last in (False, True):
        content = read_json(directory / CLASSIFIER_FILE, hint=COPY_AGAIN)
        check_version(
            {"version": content.get("schema_version")},
            BUNDLE_VERSION,
            path=directory / CLASSIFIER_FILE,
        )
        files = _list_files(content, directory)
        model = files[0]
        try:
            checksum = hash_files(directory, files)
        except OSError as error:
            checksum = ""
            if is_last:
                name = Path(str(error.filename)).name
                raise RunError(
                    f"the bundle {directory} is damaged: {name}: {error.strerror}",
                    _EXPORT_AGAIN if "format" in content else COPY_AGAIN,
                ) from error
        if checksum == content.get("sha256"):
            return content, directory
        directory = find_whole_directory(directory) or directory
    raise RunError(
        f"the bundle {directory} was changed or is damaged: the contents of {model} do not match "
        "the checksum",
        _EXPORT_AGAIN if "format" in content else COPY_AGAIN,
    )


def _list_files(content: dict[str, Any], directory: Path) -> list[str]:
    """Return the names of the model and its files, which must lie in the bundle."""
    others = content.get("files", [])
    files = [content.get("model", MODEL_FILE), *(others if isinstance(others, list) else [others])]
    wrong = [name for name in files if not is_inside(name)]
    if wrong:
        raise RunError(
            f"the file {directory / CLASSIFIER_FILE} is damaged: expected the name of a file in "
            f"the bundle, received {wrong[0]!r}",
            COPY_AGAIN,
        )
    return files


def _parse(content: dict[str, Any], directory: Path) -> tuple[tuple[str, ...], InputSpec]:
    """Check the fields of classifier.json."""
    try:
        if not isinstance(content["labels"], list):
            raise ConfigError(f"expected a list of labels, received {content['labels']!r}")
        labels = tuple(content["labels"])
        _check_labels(labels)
        input_spec = InputSpec.from_dict(content["input_spec"])
        outputs = _OUTPUTS if "format" in content else _OUTPUTS[:1]  # only an export names it
        if content["output"] not in outputs:
            raise ValueError(
                f"expected the output {' or '.join(outputs)}, received {content['output']!r}"
            )
        temperature, threshold = content["temperature"], content.get("threshold")
        if not is_number(temperature) or not temperature > 0:
            raise ValueError(f"expected a temperature above 0, received {temperature!r}")
        if threshold is not None and not (is_number(threshold) and 0 <= threshold <= 1):
            raise ValueError(f"expected a threshold of 0 to 1 or null, received {threshold!r}")
        read_promise(content)
        for name, kind in _OPTIONAL_FIELDS.items():
            if not isinstance(content.get(name, kind()), kind):
                raise ConfigError(
                    f"expected {name} to be {name_kind(kind())}, received {content[name]!r}"
                )
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise RunError(
            f"the file {directory / CLASSIFIER_FILE} is damaged: {describe_fault(error)}",
            COPY_AGAIN,
        ) from error
    return labels, input_spec
