"""Where a bundle is: from a path that the user typed to the directory with classifier.json."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cnnclf.errors import RunError, UsageError
from cnnclf.files import find_whole_directory
from cnnclf.inference.bundles import COPY_AGAIN
from cnnclf.inference.engines.saved_model_check import GRAPH_FILE
from cnnclf.runs.run_names import CLASSIFIER_FILE, MODEL_FILE, RECORD_FILE, SAVED_MODEL
from cnnclf.runs.run_opening import open_run, suggest_run

_MODEL_SUFFIXES = {".keras", ".onnx", ".tflite", ".xml"}
_ARTIFACTS = {"model.onnx", "model.tflite", "model.xml", SAVED_MODEL}


def find_bundle(path: Path) -> Path:
    """Find the bundle at a path.

    Args:
        path: A run directory (its best checkpoint), a checkpoint, a bundle, or a file of a bundle.

    Returns:
        A directory that contains classifier.json.

    Raises:
        RunError: There is no bundle.
    """
    if _is_part(path) and (path.parent / CLASSIFIER_FILE).is_file():
        path = path.parent
    if (path / RECORD_FILE).exists():
        return open_run(path).find_checkpoint("best")
    directory = find_whole_directory(path)
    _refuse_other_tool(path)
    if _is_artifact(directory or path):
        raise RunError(
            f"{CLASSIFIER_FILE} is missing next to the model {path}",
            "copy the whole directory that cnnclf export wrote; if another program saved the "
            f"model: {_adopt_command(path)}",
        )
    if directory is None:
        reason = "it is a file" if path.exists() else "it does not exist"
        raise RunError(
            f"{path} is not a run directory or a bundle: {reason}",
            suggest_run(path),
        )
    if (directory / CLASSIFIER_FILE).exists():
        return directory
    if (directory / MODEL_FILE).exists():
        raise RunError(f"the bundle {path} is damaged: {CLASSIFIER_FILE} is missing", COPY_AGAIN)
    return open_run(path).find_checkpoint("best")


def _refuse_other_tool(path: Path) -> None:
    """Name a Keras model that another program saved, or the folder of one."""
    folder = path if path.is_dir() else path.parent
    if (folder / CLASSIFIER_FILE).exists() or path.name == MODEL_FILE:
        return
    files = [path] if path.is_file() else sorted(folder.glob("*.*")) if path.is_dir() else []
    models = [file for file in files if file.suffix in {".keras", ".h5", ".hdf5"}]
    if models and not (folder / MODEL_FILE).exists():
        raise RunError(
            f"{models[0]} is a model of another program: it does not record its labels and scaling",
            f"{_adopt_command(models[0])} makes a bundle of it",
        )


def _adopt_command(model: Path) -> str:
    return f"cnnclf adopt {shlex.quote(str(model))} --labels FILE --scale 0:1 --out BUNDLE"


def check_order(model: Path, others: Sequence[object], *, command: str) -> None:
    """Recognize that a model was typed after what it is to be used on.

    Args:
        model: What was given for the model.
        others: What was given after it.
        command: The command, such as `predict`.

    Raises:
        UsageError: Something after it is a model, and it is none.
    """
    if _is_model(model):
        return
    found = next((str(each) for each in others if each and _is_model(Path(str(each)))), None)
    if found is not None:
        raise UsageError(
            f"{model} is not a run or bundle, but {found} is: the arguments are swapped",
            f"give the run first: {shlex.join(['cnnclf', command, found, str(model)])}",
        )


def _is_model(path: Path) -> bool:
    try:
        return any((path / name).exists() for name in (RECORD_FILE, CLASSIFIER_FILE))
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _is_part(path: Path) -> bool:
    """Return whether a path may be part of a bundle: a file, or a model that is a directory."""
    return path.is_file() or path.name == SAVED_MODEL


def _is_artifact(path: Path) -> bool:
    """Return whether a path is an exported model without classifier.json, or its directory."""
    if path.is_file():
        return path.suffix in _MODEL_SUFFIXES or path.name == GRAPH_FILE
    if (path / CLASSIFIER_FILE).exists() or not path.is_dir():
        return False
    if path.name == SAVED_MODEL or any(
        (path / name).exists() for name in (*_ARTIFACTS, GRAPH_FILE)
    ):
        return True
    return any(path.glob("*.onnx"))
