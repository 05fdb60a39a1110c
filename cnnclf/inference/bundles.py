"""Bundles: a trained model and the file beside it that says all that is needed to use it.

A bundle is `classifier.json` (labels in order, input spec, temperature, checksum) and the model it
names: `model.keras`, or what an export wrote in another format.
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
from cnnclf.errors import ConfigError, RunError
from cnnclf.files import (
    atomic_path,
    check_version,
    find_whole_directory,
    read_json,
    write_json_atomic,
)
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.engines.engine import ModelFile
from cnnclf.runs import CLASSIFIER_FILE, MODEL_FILE, RECORD_FILE, SAVED_MODEL, open_run

if TYPE_CHECKING:
    import keras

BUNDLE_VERSION = 1

_COPY_AGAIN = "copy the whole bundle again from where it was trained, or train again"
_EXPORT_AGAIN = "copy the whole directory again from where it was exported, or export it again"
_OUTPUTS = ("logits", "probabilities")
_MODEL_SUFFIXES = {".keras", ".onnx", ".tflite", ".xml"}
_ARTIFACTS = {"model.onnx", "model.tflite", "model.xml", SAVED_MODEL}


def find_bundle(path: Path) -> Path:
    """Find the bundle that a user means by a path.

    Args:
        path: A run directory (its best checkpoint), a checkpoint, a bundle, or a file of a bundle.

    Returns:
        A directory that holds classifier.json.

    Raises:
        RunError: There is none.
    """
    if _is_part(path) and (path.parent / CLASSIFIER_FILE).is_file():
        path = path.parent
    if (path / RECORD_FILE).exists():
        return open_run(path).find_checkpoint("best")
    directory = find_whole_directory(path)
    if _is_artifact(directory or path):
        raise RunError(
            f"expected {CLASSIFIER_FILE} beside the model {path}, there is none",
            "copy the whole directory that cnnclf export wrote, or export the run again",
        )
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


def _is_part(path: Path) -> bool:
    """Tell whether a path is what a bundle holds: a file, or a model that is a directory."""
    return path.is_file() or path.name == SAVED_MODEL


def _is_artifact(path: Path) -> bool:
    """Tell whether a path is an exported model without its description, or a directory of one."""
    if path.is_file():
        return path.suffix in _MODEL_SUFFIXES
    if (path / CLASSIFIER_FILE).exists() or not path.is_dir():
        return False
    return path.name == SAVED_MODEL or any((path / name).exists() for name in _ARTIFACTS)


@dataclass(frozen=True)
class Bundle:
    """What classifier.json says, checked against the model beside it.

    Args:
        directory: Where it lies.
        content: All fields of classifier.json.
        labels: K labels in the order of the model's outputs.
        input_spec: What the model wants to see.
    """

    directory: Path
    content: dict[str, Any]
    labels: tuple[str, ...]
    input_spec: InputSpec

    @property
    def model(self) -> ModelFile:
        """The model, in the format that the bundle names; keras if it names none."""
        return ModelFile(
            self.directory / self.content.get("model", MODEL_FILE),
            self.content.get("format", "keras"),
            self.content["sha256"],
            self.input_spec.shape,
            len(self.labels),
            self.content.get("precision", "float32"),
        )

    def damaged(self, problem: str) -> RunError:
        """Give the error for a bundle whose parts do not fit together."""
        return RunError(f"the bundle {self.directory} is damaged: {problem}", _COPY_AGAIN)


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle and check that its model is the one it was written with.

    Raises:
        RunError: It is changed or damaged, or from a newer version.
    """
    content, directory = _read_checked(directory)
    return Bundle(directory, content, *_parse(content, directory))


def hash_files(directory: Path, names: Sequence[str]) -> str:
    """Return the checksum of a model that is one or more files, or a directory of files.

    Args:
        directory: Of the bundle.
        names: Below it. For a single file it is the sha256 of that; else the sha256 of a list of
            names and sha256 of all files, sorted by name.
    """
    paths = [directory / name for name in names]
    if len(paths) == 1 and not paths[0].is_dir():
        return _hash_file(paths[0])
    files = [
        file
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if not file.is_dir()
    ]
    lines = sorted(f"{file.relative_to(directory).as_posix()} {_hash_file(file)}" for file in files)
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
    problem = find_mismatch(model, labels, input_spec)
    if problem:
        raise ValueError(problem)
    with atomic_path(directory / MODEL_FILE) as temporary:
        without_training(model).save(temporary)
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


def _check_labels(labels: Sequence[str]) -> None:
    if len(set(labels)) != len(labels) or not all(
        isinstance(label, str) and label for label in labels
    ):
        raise ValueError(f"expected labels that are texts, each once, received {list(labels)!r}")


def find_mismatch(model: "keras.Model", labels: Sequence[str], input_spec: InputSpec) -> str | None:
    """Say what of a Keras model does not fit its labels and its input spec; None if all does."""
    expected = (None, *input_spec.shape)
    if tuple(model.input_shape) != expected:
        return f"its model takes {model.input_shape}, its input spec says {expected}"
    if tuple(model.output_shape) != (None, len(labels)):
        return f"its model gives {model.output_shape}, it has {len(labels)} labels"
    return None


def without_training(model: "keras.Model") -> "keras.Model":
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


def _read_checked(directory: Path) -> tuple[dict[str, Any], Path]:
    """Read classifier.json and compare the checksum; once more if a training swapped the files."""
    for is_last in (False, True):
        content = read_json(directory / CLASSIFIER_FILE, hint=_COPY_AGAIN)
        check_version(
            {"version": content.get("schema_version")}, BUNDLE_VERSION, directory / CLASSIFIER_FILE
        )
        model = str(content.get("model", MODEL_FILE))
        files = [model, *content.get("files", ())]
        try:
            checksum = hash_files(directory, files)
        except OSError as error:
            checksum = ""
            if is_last:
                name = Path(str(error.filename)).name
                raise RunError(
                    f"the bundle {directory} is damaged: {name}: {error.strerror}",
                    _EXPORT_AGAIN if "format" in content else _COPY_AGAIN,
                ) from error
        if checksum == content.get("sha256"):
            return content, directory
        directory = find_whole_directory(directory) or directory
    raise RunError(
        f"the bundle {directory} is changed or damaged: the checksum of {model} does not fit",
        _EXPORT_AGAIN if "format" in content else _COPY_AGAIN,
    )


def _parse(content: dict[str, Any], directory: Path) -> tuple[tuple[str, ...], InputSpec]:
    """Check the fields of classifier.json that this program relies on."""
    try:
        labels = tuple(content["labels"])
        _check_labels(labels)
        input_spec = InputSpec.from_dict(content["input_spec"])
        outputs = _OUTPUTS if "format" in content else _OUTPUTS[:1]  # only an export names it
        if content["output"] not in outputs:
            raise ValueError(
                f"expected the output {' or '.join(outputs)}, received {content['output']!r}"
            )
        if not float(content["temperature"]) > 0:
            raise ValueError(f"expected a temperature above 0, received {content['temperature']!r}")
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise RunError(
            f"the file {directory / CLASSIFIER_FILE} is damaged: {reason}", _COPY_AGAIN
        ) from error
    return labels, input_spec
