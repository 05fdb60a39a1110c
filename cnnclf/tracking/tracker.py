"""The interface of a tracker, and what all of them show of a run."""

from pathlib import Path
from typing import Protocol

from cnnclf.files import read_json
from cnnclf.runs.run_directory import RunDirectory, flatten, is_number
from cnnclf.runs.run_names import CONFUSION_FIGURE_FILE, METRICS_FILE, WORST_FIGURE_FILE
from cnnclf.training.epochs import EpochRow


class Tracker(Protocol):
    """Shows one run in another program; one that fails raises one of its `errors`."""

    errors: tuple[type[Exception], ...]

    def start(self, run: RunDirectory, *, time_s: float) -> None:
        """Open the run, whose plan is written.

        Args:
            run: The run.
            time_s: When it began, as of `time.time`.
        """

    def log(self, figures: dict[str, float], *, epoch: int, time_s: float) -> None:
        """Add the numbers of an epoch that ended at `time_s`, by name."""

    def end(self, run: RunDirectory, *, time_s: float) -> None:
        """Add figures and files of the run as it is now, and close it."""


def read_settings(run: RunDirectory) -> dict[str, str]:
    """Return the settings of a run, its data and its environment, by dotted key."""
    plan, record = read_json(run.plan), run.read_record()
    dataset = plan.get("dataset", {})
    settings = {key: str(each) for key, each in flatten(plan.get("config", {})).items()}
    settings |= {f"dataset.{key}": str(dataset.get(key)) for key in ("name", "fingerprint")}
    settings["labels"] = ", ".join(map(str, plan.get("labels", [])))
    settings |= {f"version.{name}": str(each) for name, each in record.get("versions", {}).items()}
    return settings | {"device": str(record.get("device", "")), "run": str(run.path.resolve())}


def read_figures(run: RunDirectory) -> dict[str, float]:
    """Return the metrics of the evaluations of a run, with the interval of the accuracy."""
    figures: dict[str, float] = {}
    for path in sorted(run.path.glob(f"evaluation/*/{METRICS_FILE}")):
        content, split = read_json(path), path.parent.name
        interval = content.get("accuracy_interval", {})
        found = dict(content.get("metrics", {}))
        found |= {f"accuracy_{end}": interval.get(end) for end in ("low", "high")}
        figures |= {f"{split}_{name}": each for name, each in found.items() if is_number(each)}
    return figures


def list_images(run: RunDirectory) -> dict[str, Path]:
    """Return the figures of a run by name: curves, confusion matrices and worst images."""
    names = (CONFUSION_FIGURE_FILE, WORST_FIGURE_FILE)
    found = {
        f"{path.parent.name}_{path.stem}": path
        for name in names
        for path in sorted(run.path.glob(f"evaluation/*/{name}"))
    }
    return {"curves": run.curves, **found} if run.curves.exists() else found


def epoch_figures(row: EpochRow, *, images: int) -> dict[str, float]:
    """Return the numbers of an epoch of so many training images by name."""
    figures = {key: each for key, each in row.to_dict().items() if is_number(each)}
    del figures["epoch"]
    return figures | ({"images_per_s": images / row.seconds} if row.seconds else {})
