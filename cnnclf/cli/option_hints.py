"""What a user probably meant by an option that the command does not have, and what is missing."""

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from cnnclf.errors import RunError, UsageError
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import RECORD_FILE

# Names that other tools use, and the options that do the same here: those the command has apply.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "amp": ("precision",),
    "arch": ("backbone", "preset"),
    "architecture": ("backbone", "preset"),
    "batch": ("batch-size",),
    "bs": ("batch-size",),
    "cam": ("show",),
    "cos-lr": ("schedule", "head-schedule", "tail-schedule"),
    "data-augmentation": ("augment",),
    "decay": ("weight-decay", "head-weight-decay", "tail-weight-decay"),
    "early-stop": ("patience",),
    "early-stopping": ("patience",),
    "epochs": ("head-epochs", "tail-epochs"),
    "fp16": ("precision", "quantize"),
    "gpu": ("device",),
    "gradcam": ("show",),
    "half": ("precision", "quantize"),
    "img-size": ("image-size",),
    "imgsz": ("image-size",),
    "input-size": ("image-size",),
    "int8": ("quantize",),
    "kernel": ("filter", "kernel-size"),
    "learning-rate": ("head-learning-rate", "tail-learning-rate"),
    "lr": ("learning-rate", "head-learning-rate", "tail-learning-rate"),
    "lr-scheduler": ("schedule", "head-schedule", "tail-schedule"),
    "max-time": ("minutes",),
    "method": ("show",),
    "methods": ("show",),
    "mixed-precision": ("precision",),
    "model": ("backbone", "preset"),
    "name": ("out",),
    "num-workers": ("threads",),
    "opt": ("optimizer",),
    "output": ("out",),
    "out": ("diagram",),
    "output-dir": ("out",),
    "preset": ("augment",),
    "pretrained": ("weights",),
    "project": ("out",),
    "resize": ("image-size",),
    "resolution": ("image-size",),
    "run-name": ("out",),
    "save-dir": ("out",),
    "sched": ("schedule", "head-schedule", "tail-schedule"),
    "scheduler": ("schedule", "head-schedule", "tail-schedule"),
    "size": ("image-size",),
    "format": ("json", "out"),
    "time": ("minutes",),
    "time-limit": ("minutes",),
    "tta": ("views",),
    "view": ("show", "views"),
    "wd": ("weight-decay", "head-weight-decay", "tail-weight-decay"),
    "weight-decay": ("head-weight-decay", "tail-weight-decay"),
    "workers": ("threads",),
}

# Options of `cnnclf finetune` that are looked for in `cnnclf train`.
_OF_FINETUNE = ("backbone", "pretrained", "weights", "freeze", "unfreeze")

# Options of `cnnclf import` that are looked for in `cnnclf check`, which changes nothing.
_OF_IMPORT = ("apply", "drop", "relabel", "fix", "fix-splits", "undo")

# Options of other tools for what `cnnclf import` does, before training.
_OF_SPLITS = ("split", "test-split", "val-fraction", "val-split", "validation-split")

# Options of other tools for folders of splits.
_OF_FOLDERS = ("test", "test-dir", "train", "train-dir", "val", "val-dir", "valid", "validation")

# Commands that read one dataset, or folder of images.
_OF_ONE_SOURCE = ("cnnclf import", "cnnclf check", "cnnclf train", "cnnclf finetune", "cnnclf tune")

# Options of other tools for what is an argument here, without a name before it.
_ARGUMENTS = ("data", "dataset", "images", "img", "input", "model", "path", "run", "source", "src")

# Options of other tools for what a command needs no option for, by command.
_NOT_NEEDED: dict[str, dict[tuple[str, ...], str]] = {
    "cnnclf calibrate": {
        ("method", "temperature"): "'train' and 'finetune' have fitted the temperature already;",
        ("recall", "sensitivity"): "its promises are about all classes together: --precision, "
        "--coverage or --error-rate;",
    },
    "cnnclf export": {
        ("batch", "batch-size", "dynamic", "dynamic-axes"): "exports take batches of any size;",
        ("image-size", "img-size", "imgsz", "input-size"): "the input size is that of the model;",
        ("opset",): "the opset is the one that the converter chooses;",
    },
}

# Commands of other tools, and the ones that do the same here.
_OTHER_COMMANDS = {
    "classify": "predict",
    "compare": "runs compare",
    "convert": "export",
    "delete": "runs remove",
    "eval": "evaluate",
    "fit": "train",
    "infer": "predict",
    "inference": "predict",
    "info": "runs show",
    "interpret": "explain",
    "list": "runs list",
    "ls": "runs list",
    "plot": "report",
    "prepare": "import",
    "resume": "train",
    "rm": "runs remove",
    "score": "evaluate",
    "search": "tune",
    "show": "runs show",
    "split": "import",
    "summary": "describe",
    "sweep": "tune",
    "test": "evaluate",
    "val": "evaluate",
    "validate": "evaluate",
    "visualize": "explain",
}

# Formats by other names, and the formats that programs which read others convert from.
_OTHER_FORMATS = {
    "coreml": "onnx",
    "engine": "onnx",
    "h5": "keras",
    "hdf5": "keras",
    "ncnn": "onnx",
    "pb": "savedmodel",
    "pt": "onnx",
    "pytorch": "onnx",
    "tensorrt": "onnx",
    "tf": "savedmodel",
    "tflite": "litert",
    "torch": "onnx",
    "torchscript": "onnx",
}

_ASSIGNMENT = re.compile(r"([a-z][a-z0-9_-]*)=(.+)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9.]+")


def missing_error(
    path: str, *names: str, options: Sequence[str] = (), hint: str = ""
) -> UsageError:
    """Return the error for a command that was called without what it needs, all of it at once.

    Args:
        path: The command, such as `cnnclf train`.
        *names: The arguments and options that are missing.
        options: The missing options with their values, such as `--format onnx|keras`.
        hint: What to do; by default, the values of the options and where the help is.
    """
    more = "".join(f"{option}; " for option in options)
    return UsageError(
        f"{path}: missing {', '.join(names)}", hint or f"{more}{path} --help shows what it needs"
    )


def valueless_error(path: str, option: str, *, following: str) -> UsageError:
    """Return the error for an option whose value is missing.

    Args:
        path: The command, such as `cnnclf train`.
        option: The option, such as `--out`.
        following: What follows it, such as `--json`.
    """
    return UsageError(
        f"{path}: {option} needs a value, but {following} follows",
        f"{path} --help describes {option}; for this very value: {option}={following}",
    )


def suggest_row(name: str, rows: Sequence[str]) -> str:
    """Return the row of a table that was probably meant, or nothing."""
    other = _OTHER_FORMATS.get(name.casefold(), "")
    near = get_close_matches(name.casefold(), rows, n=1, cutoff=0.4)
    return other if other in rows else next(iter(near), "")


def suggest_command(name: str, names: Collection[str]) -> str:
    """Return the command that was probably meant, or nothing."""
    other = _OTHER_COMMANDS.get(name.lower(), "")
    near = get_close_matches(name, names, n=1)
    first, _, second = other.partition(" ")
    return other if first in names else second if second in names else next(iter(near), "")


def suggest_option(
    name: str, options: Collection[str], *, path: str, arguments: Sequence[str] = ()
) -> str:
    """Say which option was probably meant.

    Args:
        name: The option that was given, such as `--lr`.
        options: Long options of the command, such as `--learning-rate`.
        path: The command, such as `cnnclf train`.
        arguments: Of the command, such as `DATASET`.

    Returns:
        The start of a hint, or nothing if no option is close.
    """
    bare = name.lstrip("-").replace("_", "-").lower()
    if answer := _find_elsewhere(bare, options, path=path):
        return answer
    found = [f"--{each}" for each in _OTHER_NAMES.get(bare, ()) if f"--{each}" in options]
    if not found and path == "cnnclf tune" and (key := _find_setting(bare)):
        return f"--fix {key}=VALUE sets it in all trials;"
    if not found and bare in _ARGUMENTS and arguments:
        return f"give it without an option: {path} {' '.join(arguments)};"
    if not found:  # without the dashes, which would make short names alike
        near = get_close_matches(bare, [each.lstrip("-") for each in options], n=1)
        found = [f"--{each}" for each in near]
    return f"did you mean {' or '.join(found)}?" if found else ""


def _find_elsewhere(bare: str, options: Collection[str], *, path: str) -> str:
    """Say what does without an option, or in another command, what an option was meant to do."""
    if path == "cnnclf train" and bare in _OF_FINETUNE:
        return "cnnclf finetune trains pretrained backbones;"
    if path == "cnnclf finetune" and bare == "extend":
        return "only runs of train are extended; --config RUN --tail-epochs N starts again;"
    if path in {"cnnclf train", "cnnclf finetune"} and bare in _OF_SPLITS:
        return "cnnclf import DATASET --split TRAIN,VAL,TEST makes splits;"
    if path in _OF_ONE_SOURCE and bare in _OF_FOLDERS and f"--{bare}" not in options:
        return "folders or tables named train, val and test are read from the folder above them;"
    if path == "cnnclf check" and bare in _OF_IMPORT:
        option = "fix-splits" if bare == "fix" else bare
        return f"cnnclf import DATASET --{option} changes a dataset;"
    for names, answer in _NOT_NEEDED.get(path, {}).items():
        if bare in names:
            return answer
    return ""


def _find_setting(bare: str) -> str:
    """Return the setting of trainings that an option without its dashes names, or nothing.

    Options that have the same name in both commands, such as --image-size, are those of train.
    """
    from cnnclf.config import FinetuneConfig, TrainConfig, list_fields, option_name

    names = {
        option_name(key): key for kind in (FinetuneConfig, TrainConfig) for key in list_fields(kind)
    }
    others = (f"--{each}" for each in (bare, *_OTHER_NAMES.get(bare, ())))
    return next((names[each] for each in others if each in names), "")


def find_run(typed: Iterable[str | None]) -> str | None:
    """Return the first of some arguments that is a run."""
    return next((each for each in typed if each and (Path(each) / RECORD_FILE).is_file()), None)


def suggest_use(run: str) -> str:
    """Say how a run is used by the command that made it."""
    found = RunDirectory(Path(run))
    try:
        command = found.read_command()
        ways = [
            f"with its settings: cnnclf {command} DATASET --config {shlex.quote(run)}",
            f"to continue it: {found.resume_command()}",
            found.more_epochs_hint(),
        ]
    except RunError as error:  # its plan is damaged
        return error.message
    return "; ".join(ways)


def suggest_for_extra(
    extra: Sequence[str], options: Collection[str], *, path: str, given: Sequence[str] = ()
) -> str:
    """Guess what was meant by arguments that a command does not take.

    Args:
        extra: The arguments after the last one that the command takes.
        options: Long options of the command.
        path: The command, such as `cnnclf import`.
        given: The arguments that it takes.

    Returns:
        A clause that ends with "; ", or nothing.
    """
    if extra and (found := _ASSIGNMENT.fullmatch(extra[0])):
        name = found[1].replace("_", "-")
        return f"options are typed with dashes: --{name} {shlex.quote(found[2])}; "
    if extra and _NUMBER.fullmatch(extra[0]):
        return "the values of one option are joined by commas, such as --filters 32,64; "
    if len(extra) == 1 and "--out" in options and not Path(extra[0]).exists():
        return f"to write there, --out {shlex.quote(extra[0])}; "
    paths = [Path(each) for each in (*given, *extra)]
    if path not in _OF_ONE_SOURCE or not all(each.exists() for each in paths):
        return ""
    if len(folders := {each.parent for each in paths}) > 1:
        return "one source is read: put all into one folder; "
    return (
        "one source is read, such as the folder that holds them: "
        f"{path} {shlex.quote(str(folders.pop()))}; "
    )
