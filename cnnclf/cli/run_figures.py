"""What the files of a run hold, as it is shown."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnclf.cli.words import format_ms, format_rate, format_seconds
from cnnclf.config import format_setting
from cnnclf.errors import RunError
from cnnclf.files import read_json
from cnnclf.runs.run_directory import RunDirectory, is_number, section
from cnnclf.runs.run_names import METRICS_FILE, PARITY_FILE

SPLITS = ("test", "val", "train")
# The metrics of an evaluation that are shown, in this order; metrics.json has all.
METRICS = {
    "accuracy": "accuracy",
    "accuracy_low": "accuracy, 95 % CI from",
    "accuracy_high": "accuracy, 95 % CI to",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
}
RECORD_FIGURES = {
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "best_val_accuracy": "best val accuracy",
    "parameters": "parameters",
    "fit_s": "training time",
    "images_per_s": "images per second",
    "data_wait_share": "waiting for images",
}


def read_evaluations(directory: RunDirectory) -> dict[str, dict[str, Any]]:
    """Read the metrics of each split that was evaluated, as one flat mapping each."""
    found = {}
    for split in SPLITS:
        path = directory.evaluation(split) / METRICS_FILE
        if path.exists():
            found[split] = _flat_metrics(read_json(path))
    return found


def read_export(artifact: Path) -> dict[str, Any]:
    """Read the figures of an export; a damaged one must not hide the run."""
    try:
        content = read_json(artifact / PARITY_FILE)
    except RunError as error:
        content = {"verdict": f"damaged: {error.message}"}
    parity = section(content, "parity")
    return {
        "name": artifact.name,
        "directory": artifact,
        "verdict": content.get("verdict"),
        "accuracy": section(parity, "after").get("accuracy"),
        "lost": parity.get("drop_points"),
        "same_label": parity.get("agreement"),
        "images": parity.get("images"),
        "image_ms": section(parity, "after").get("image_ms"),
    }


def list_items(value: object) -> list[Any]:
    """Return the items of a list; of anything else, none."""
    return value if isinstance(value, list) else []


def _flat_metrics(content: Mapping[str, Any]) -> dict[str, Any]:
    interval = section(content, "accuracy_interval")
    metrics = {
        **section(content, "metrics"),
        "n": content.get("n"),
        "accuracy_low": interval.get("low"),
        "accuracy_high": interval.get("high"),
    }
    return {key: value for key, value in metrics.items() if is_number(value)}


def list_shown(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that any of the evaluations has, in the order they are shown."""
    known = {key for each in metrics for key, value in each.items() if value is not None}
    return [key for key in METRICS if key in known]


def format_figure(key: str, value: object) -> object:
    """Format a figure of a run, with its unit where no heading has it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.endswith("_s") and key != "images_per_s":
            return format_seconds(value)
        if key.endswith("_share"):
            return f"{100 * value:.1f} %"
        if key == "images_per_s":
            return format_rate(value)
        if key.endswith("_ms"):
            return format_ms(value)
    return f"{value:,}" if isinstance(value, int) else value


def format_typed(key: str, value: object) -> str:
    """Format a setting as it would be typed; fingerprints are shortened, and none is a dash."""
    text = "-" if value is None else format_setting(key, value)
    return text[:12] if key.endswith("fingerprint") else text
