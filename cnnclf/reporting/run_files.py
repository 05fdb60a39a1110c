"""Reads what a run directory holds, however much of it there is yet."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnclf.config import format_setting, option_name
from cnnclf.evaluation.learning_diagnosis import read_rows
from cnnclf.files import read_json
from cnnclf.names import count_of
from cnnclf.runs.run_directory import RunDirectory, RunStatus, section
from cnnclf.runs.run_names import EVALUATION, METRICS_FILE
from cnnclf.runs.run_opening import open_run

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The report of one split.

    Args:
        name: Of its directory: test, or test-NAME for other data.
        directory: The directory.
        metrics: The content of metrics.json.
    """

    name: str
    directory: Path
    metrics: Figures


@dataclass(frozen=True)
class RunFiles:
    """The content of the files of a run.

    Args:
        directory: The run.
        status: running, finished, interrupted, failed or pruned.
        record: run.json.
        plan: plan.json; empty if the run stopped before it was written.
        history: One row per epoch; a figure that is missing is None.
        trace: One row per epoch and layer; none without `train --trace`.
        evaluations: The one of the test split first.
    """

    directory: RunDirectory
    status: str
    record: Figures
    plan: Figures
    history: list[dict[str, Any]]
    trace: list[dict[str, Any]]
    evaluations: list[Evaluation]

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.directory.path.resolve().name

    @property
    def lost_epochs(self) -> str:
        """How many epochs of a finished run its history does not have, in words; "" for none."""
        epochs = self.record.get("epochs") if self.status == RunStatus.FINISHED else None
        lost, path = int(epochs or 0) - len(self.history), self.directory.history
        return f"{path} lacks {count_of(lost, 'epoch')} of the run" if lost > 0 else ""


@dataclass(frozen=True)
class SettingChoice:
    """The value of a setting, and where it comes from.

    Args:
        key: Dotted.
        value: As it is typed.
        why: The reason of the plan, or who gave it.
    """

    key: str
    value: str
    why: str

    @property
    def option(self) -> str:
        """Its option."""
        return option_name(self.key)

    @property
    def is_default(self) -> bool:
        """Whether nobody and nothing chose it."""
        return self.why == "default"


def read_run(path: Path) -> RunFiles:
    """Read a run directory, finished or not.

    Raises:
        RunError: It is no run, or a file in it is damaged.
    """
    run = open_run(path)
    return RunFiles(
        run,
        str(run.status()),
        run.read_record(),
        run.read_plan(),
        read_rows(run.history),
        read_rows(run.trace),
        _read_evaluations(run),
    )


def list_choices(plan: Figures) -> list[SettingChoice]:
    """Return all settings of a plan that have a value."""
    reasons, given = section(plan, "reasons"), section(plan, "given")
    return [
        SettingChoice(
            f"{name}.{key}",
            format_setting(f"{name}.{key}", value),
            _explain(f"{name}.{key}", reasons, given),
        )
        for name, values in section(plan, "config").items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if value is not None
    ]


def _explain(key: str, reasons: Figures, given: Figures) -> str:
    if key in reasons:
        return str(reasons[key])
    source = str(given.get(key, "default"))
    return source if source == "default" or source.startswith("preset") else f"given: {source}"


def _read_evaluations(run: RunDirectory) -> list[Evaluation]:
    files = sorted((run.path / EVALUATION).glob(f"*/{METRICS_FILE}"))
    hint = run.evaluate_hint()
    found = [
        Evaluation(file.parent.name, file.parent, read_json(file, hint=hint)) for file in files
    ]
    ranks = {name: rank for rank, name in enumerate(("test", "val", "train"))}
    return sorted(found, key=lambda each: ranks.get(each.name, len(ranks)))


def list_commands(files: RunFiles) -> list[str]:
    """Return the commands that make the run, its figures and its report again."""
    path = str(files.directory.path)
    commands = [str(files.record["command"])] if files.record.get("command") else []
    for each in files.evaluations:
        split = str(each.metrics.get("split", each.name))
        data = str(section(each.metrics, "dataset").get("directory", "DATASET"))
        words = ["cnnclf", "evaluate", path, *([] if each.name == split else [data])]
        commands.append(shlex.join([*words, "--split", split]))
    return [*commands, shlex.join(["cnnclf", "report", path])]
