"""Run directories: the name of every file in them, and their status.

A run directory holds::

    plan.json settings.toml run.json history.csv log.txt curves.png
    trace.csv margins.csv descent.npz        if they were asked for, as is report.html
    checkpoints/best/  checkpoints/last/     model.keras + classifier.json (a bundle), reference.npz
                                             (images to try engines on), engine-cache/;
                                             last also optimizer.npz + state.json, for --resume;
                                             earlier/ only until the phases are compared
    evaluation/SPLIT/                        metrics.json and its figures and tables
    exports/FORMAT[-QUANTIZATION]/           an artifact: a model in another format, parity.json and
                                             classifier.json; NAME.rejected lost too much
"""

import math
import os
import platform
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cnnclf import __version__
from cnnclf.errors import RunError, UsageError
from cnnclf.files import (
    check_version,
    find_whole_directory,
    read_json,
    safe_name,
    write_error,
    write_json_atomic,
)
from cnnclf.names import natural_key
from cnnclf.run_lock import LOCK_FILE, describe_holder, is_held, remove_lock

RUN_VERSION = 1

PLAN_FILE = "plan.json"
SEARCH_FILE = "tuning.json"  # of a tuning directory, whose trials are runs
SETTINGS_FILE = "settings.toml"
RECORD_FILE = "run.json"
HISTORY_FILE = "history.csv"
TRACE_FILE = "trace.csv"
MARGINS_FILE = "margins.csv"
DESCENT_FILE = "descent.npz"
LOG_FILE = "log.txt"
CURVES_FILE = "curves.png"
REPORT_FILE = "report.html"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"
EXPORTS = "exports"
MODEL_FILE = "model.keras"
CLASSIFIER_FILE = "classifier.json"
SAVED_MODEL = "saved_model"
PARITY_FILE = "parity.json"
REFERENCE_FILE = "reference.npz"
ENGINE_CACHE = "engine-cache"
TENSORBOARD = "tensorboard"
OPTIMIZER_FILE = "optimizer.npz"
STATE_FILE = "state.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
CONFUSION_TABLE_FILE = "confusion.csv"
CONFUSION_FIGURE_FILE = "confusion.png"
WORST_FIGURE_FILE = "worst.png"
ROBUSTNESS_FIGURE_FILE = "robustness.png"

# Numbers in run.json; it may have others.
_FIGURES = (
    "epochs", "best_epoch", "best_val_accuracy", "parameters", "fit_s", "wall_s", "images_per_s",
    "data_wait_share",
)  # fmt: skip
_MAX_PID = 2**31 - 1

_OWNED = (
    PLAN_FILE,
    SETTINGS_FILE,
    RECORD_FILE,
    HISTORY_FILE,
    TRACE_FILE,
    DESCENT_FILE,
    MARGINS_FILE,
    LOG_FILE,
    CURVES_FILE,
    REPORT_FILE,
    CHECKPOINTS,
    EVALUATION,
    EXPORTS,
    TENSORBOARD,
    LOCK_FILE,
)


# Names that `files.atomic_path` gives to the files above while it writes them.
_UNFINISHED = re.compile(
    r"\.({})\.[0-9a-f]{{8}}\.({})".format(
        *(
            "|".join({name.split(".")[part] for name in _OWNED if "." in name[1:]})
            for part in (0, 1)
        )
    )
)


class RunStatus(StrEnum):
    """The status of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    PRUNED = "pruned"


class _Below:
    """A path in the run directory of each instance."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, run: "RunDirectory", _kind: type) -> Path:
        return run.path.joinpath(*self._parts)


@dataclass(frozen=True)
class RunDirectory:
    """The names in one run directory, and its record run.json.

    Args:
        path: The run directory; need not exist yet.
    """

    path: Path

    plan = _Below(PLAN_FILE)
    """Every resolved setting, written before the first epoch."""
    settings = _Below(SETTINGS_FILE)
    """The settings that were given, and all others as comments, for `--config`."""
    record = _Below(RECORD_FILE)
    """run.json: status, command, versions, device and times."""
    history = _Below(HISTORY_FILE)
    """One row per epoch."""
    trace = _Below(TRACE_FILE)
    """One row per epoch and layer, of `train --trace`."""
    margins = _Below(MARGINS_FILE)
    """The mean margin of each training image, of `train --trace`."""
    descent = _Below(DESCENT_FILE)
    """Weights at a few epochs, of `train --trace`."""
    report = _Below(REPORT_FILE)
    """Everything about the run on one page, of `cnnclf report`."""
    log = _Below(LOG_FILE)
    """Notes, warnings and epochs."""
    curves = _Below(CURVES_FILE)
    """The learning curves."""
    checkpoints = _Below(CHECKPOINTS)
    """The parent of `best` and `last`."""
    best = _Below(CHECKPOINTS, "best")
    """Where the best checkpoint is written; read it through `find_checkpoint`."""
    last = _Below(CHECKPOINTS, "last")
    """Where the newest checkpoint is written; read it through `find_checkpoint`."""
    earlier = _Below(CHECKPOINTS, "earlier")
    """The best checkpoint of the earlier phases, until all phases are compared."""
    tensorboard = _Below(TENSORBOARD)
    """The event files of TensorBoard, if it tracks the run."""

    def evaluation(self, split: str) -> Path:
        """The directory of the evaluation of one split."""
        return self.path / EVALUATION / split

    def export(self, name: str) -> Path:
        """The directory of the artifact of one format and quantization."""
        return self.path / EXPORTS / name

    def list_exports(self) -> list[Path]:
        """The directories of all artifacts, rejected ones too."""
        return sorted(file.parent for file in (self.path / EXPORTS).glob(f"*/{PARITY_FILE}"))

    def read_record(self) -> dict[str, Any]:
        """Read run.json.

        Raises:
            RunError: It is missing, damaged or written by a newer format version.
        """
        record = read_json(self.record, hint=f"train again into another --out than {self.path}")
        check_version(record, RUN_VERSION, path=self.record)
        if record.get("status") not in list(RunStatus):
            raise RunError(
                f"expected a status of {', '.join(RunStatus)} in {self.record}, "
                f"received {record.get('status')!r}",
                f"train again into another --out than {self.path}",
            )
        # A figure that is NaN is null.
        figures = {name: record[name] for name in _FIGURES if record.get(name) is not None}
        wrong = [name for name, value in figures.items() if not is_number(value)]
        if wrong:
            raise RunError(
                f"expected a number for {wrong[0]} in {self.record}, received {record[wrong[0]]!r}",
                f"train again into another --out than {self.path}",
            )
        return record

    def update_run(self, **fields: Any) -> dict[str, Any]:
        """Change fields of run.json and keep the others.

        Args:
            **fields: JSON values; `status` must be a `RunStatus` or its value.

        Returns:
            The whole record as written.
        """
        if fields.get("status", RunStatus.RUNNING) not in list(RunStatus):
            statuses = ", ".join(RunStatus)
            raise ValueError(f"expected a status of {statuses}, received {fields['status']!r}")
        now = _now()
        record = self.read_record() | fields | {"updated": now}
        if fields.get("status") == RunStatus.RUNNING:
            record |= {"pid": os.getpid(), "host": platform.node()}
        elif "status" in fields:
            record["ended"] = now
        write_json_atomic(self.record, record)
        return record

    def status(self) -> RunStatus:
        """The status in run.json; `interrupted` for a run whose process is gone."""
        record = self.read_record()
        status = RunStatus(record["status"])
        if status is RunStatus.RUNNING:
            held = is_held(self.path)
            if not (_is_alive(record) if held is None else held):
                return RunStatus.INTERRUPTED
        return status

    def remove_unfinished(self) -> None:
        """Remove files that a killed process was writing; only for the holder of the lock."""
        for entry in _list_entries(self.path):
            if _UNFINISHED.fullmatch(entry.name):
                entry.unlink(missing_ok=True)

    def declare_interrupted(self) -> None:
        """Take the run for interrupted, whatever its lock says; the user knows better."""
        if self.read_record()["status"] == RunStatus.RUNNING:
            remove_lock(self.path)
            self.update_run(status=RunStatus.INTERRUPTED)

    def resume_command(self) -> str:
        """The command that continues this run; its plan has the command that started it.

        Raises:
            RunError: The plan is damaged.
        """
        return f"cnnclf {self.read_command()} --resume {shlex.quote(str(self.path))}"

    def read_command(self) -> str:
        """Read from the plan which command started the run.

        Raises:
            RunError: The plan is damaged.
        """
        plan = read_json(self.plan) if self.plan.exists() else {}
        return str(plan.get("command", "train"))

    def find_checkpoint(self, name: str) -> Path:
        """Find the checkpoint `best` or `last`, also after a kill in the middle of a swap.

        Raises:
            RunError: There is none yet (unfinished run), or it is gone (damaged run).
        """
        found = find_whole_directory(self.checkpoints / name)
        if found is not None:
            return found
        status = self.status()
        other = find_whole_directory(self.last if name == "best" else self.best)
        if status is RunStatus.FINISHED or other is not None:
            what = "is finished" if other is None else f"has {CHECKPOINTS}/{other.name}"
            raise RunError(
                f"the run {self.path} is damaged: it {what} but has no {CHECKPOINTS}/{name}",
                "copy the whole run directory again, or train again",
            )
        if status is RunStatus.RUNNING:
            raise RunError(
                f"the run {self.path} is unfinished ({status}) and has no {CHECKPOINTS}/{name} yet",
                "wait for its first epoch",
            )
        raise RunError(
            f"the run {self.path} is unfinished ({status}): it stopped before its first checkpoint",
            f"start it again with: {self.resume_command()}",
        )


@dataclass(frozen=True)
class RunRow:
    """One row of a list of runs.

    Args:
        directory: The run.
        status: A `RunStatus`, `damaged` or `unreadable`.
        record: The fields of run.json; empty if it cannot be read.
        problem: Why it cannot be read; empty if it can.
    """

    directory: RunDirectory
    status: str
    record: Mapping[str, Any]
    problem: str = ""


def next_run_path(dataset_name: str, root: Path = Path("runs")) -> Path:
    """Name the next run of a dataset: `runs/<dataset>-<NNN>`, one above the highest number.

    Args:
        dataset_name: Any text; characters that file names do not allow become `-`.
        root: The directory of runs; need not exist.
    """
    stem = safe_name(dataset_name, fallback="run")
    used = [0]
    if root.is_dir():
        pattern = re.compile(re.escape(stem) + r"-(\d{1,9})")
        matches = (pattern.fullmatch(entry.name) for entry in _list_entries(root))
        used += [int(match[1]) for match in matches if match]
    return root / f"{stem}-{max(used) + 1:03d}"


def check_new_run(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a directory for a new run that is not empty.

    Args:
        path: The run directory; need not exist.
        overwrite: Whether an earlier run in it is to be replaced.

    Raises:
        UsageError: It is not empty; with `overwrite`, it holds no run.
        RunError: It is a file, cannot be read, or its run is still training.
    """
    try:
        entries = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
    except OSError as error:
        raise write_error(path, error) from error
    run, is_run = RunDirectory(path), RECORD_FILE in entries
    if is_run and overwrite:
        _check_ended(run)
    elif is_run:
        hint = "replace it with --overwrite, or choose another --out"
        if run.read_record()["status"] != RunStatus.FINISHED:
            hint = f"continue with: {run.resume_command()}; or {hint}"
        raise UsageError(f"{path} already exists: it is a run", hint)
    elif entries:
        raise UsageError(
            f"{path} is not empty, and not a run: it contains {entries[0]}", "choose another --out"
        )


def create_run(path: Path, *, overwrite: bool = False, **fields: Any) -> RunDirectory:
    """Make a new run directory with a run.json of status `running`.

    Args:
        path: The run directory; parents are made.
        overwrite: Replace the run that the directory holds; only files of that run are removed.
        **fields: More fields of run.json, such as `command`.

    Raises:
        UsageError: The directory is not empty and not a run that may be replaced.
        RunError: Its run is still training, or it cannot be made.
    """
    check_new_run(path, overwrite=overwrite)
    run = RunDirectory(path)
    try:
        if run.record.exists():
            _clear_run(run)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    record = {
        "version": RUN_VERSION,
        "status": RunStatus.RUNNING,
        "created": _now(),
        "cnnclf": __version__,
        "pid": os.getpid(),
        "host": platform.node(),
    }
    write_json_atomic(run.record, record | fields)
    return run


def open_run(path: Path) -> RunDirectory:
    """Open a run directory that exists, finished or not.

    `.status()` and `.find_checkpoint(...)` tell unfinished runs from damaged ones.

    Raises:
        RunError: It does not exist, is no run, is damaged, or is from a newer format version.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        is_file = f"{path} is a file, not a run directory"
        raise RunError(
            is_file if path.exists() else f"there is no run directory {path}",
            suggest_run(path),
        )
    if not run.record.exists():
        if run.plan.exists() or run.checkpoints.exists():
            raise RunError(
                f"the run {path} is damaged: {RECORD_FILE} is missing",
                "copy the whole run directory again, or train again",
            )
        raise RunError(
            f"{path} is not a run directory: it has no {RECORD_FILE}",
            "list the runs with: cnnclf runs list",
        )
    run.read_record()
    return run


def suggest_run(path: Path, root: Path = Path("runs")) -> str:
    """Return the hint for a run that does not exist; `cnnclf runs list` shows names in `runs`."""
    named = root / path
    if (named / RECORD_FILE).is_file():
        return f"did you mean {named}?"
    return "list the runs with: cnnclf runs list"


def find_settings(path: Path, *, command: str) -> Path:
    """Find the file of settings that `--config` names: a file, or that of a run.

    Args:
        path: A TOML file or a run directory.
        command: The command that will use the settings.

    Raises:
        RunError: It is a directory but no run, a run of another command, or of an earlier version.
    """
    if not path.is_dir():
        return path
    run = open_run(path)
    if (other := run.read_command()) != command:
        raise RunError(
            f"run {path} has the settings of cnnclf {other}, which cnnclf {command} does not have",
            f"cnnclf {other} DATASET --config {shlex.quote(str(path))}",
        )
    if not run.settings.exists():
        raise RunError(
            f"run {path} has no {SETTINGS_FILE}: an earlier version of cnnclf made it",
            f"its {PLAN_FILE} has all settings",
        )
    return run.settings


def still_training(run: RunDirectory, hint: str) -> RunError:
    """Give the error for a run that another process is training, and who that is."""
    record = run.read_record()
    holder = f"process {record.get('pid')} on {record.get('host') or 'an unknown host'}"
    return RunError(f"run {run.path} is still training ({holder}{describe_holder(run.path)})", hint)


def remove_run(run: RunDirectory) -> list[str]:
    """Remove the files of a run, and its directory if nothing else is in it.

    Args:
        run: Finished or not.

    Returns:
        The names of what is not of the run, which stays.

    Raises:
        RunError: It is still training, or cannot be removed.
    """
    try:
        _clear_run(run)
        left = sorted(entry.name for entry in run.path.iterdir())
        if not left:
            run.path.rmdir()
    except OSError as error:
        raise write_error(run.path, error) from error
    return left


def list_runs(root: Path) -> list[RunRow]:
    """Describe the run directories right below `root` in natural order.

    Damaged ones have a row, too, and directories that cannot be entered: they may be runs.

    Raises:
        RunError: `root` cannot be read.
    """
    if not root.is_dir():
        return []
    rows = []
    for entry in sorted(_list_entries(root), key=lambda entry: natural_key(entry.name)):
        run = RunDirectory(entry)
        try:
            if not run.record.exists():
                continue
            rows.append(RunRow(run, run.status(), run.read_record()))
        except RunError as error:
            rows.append(RunRow(run, "damaged", {}, error.message))
        except OSError as error:
            rows.append(RunRow(run, "unreadable", {}, f"cannot be read: {error.strerror}"))
    return rows


def is_number(value: object) -> bool:
    """Tell whether a value of JSON is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value)


def _list_entries(root: Path) -> list[Path]:
    try:
        return list(root.iterdir())
    except OSError as error:
        raise RunError(
            f"cannot read the directory of runs {root}: {error.strerror}",
            "check its owner and mode, or give another directory",
        ) from error


def _check_ended(run: RunDirectory) -> None:
    if run.status() is RunStatus.RUNNING:
        raise still_training(run, "choose another --out")


def _clear_run(run: RunDirectory) -> None:
    _check_ended(run)
    for name in _OWNED:
        path = run.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    run.remove_unfinished()


def _is_alive(record: Mapping[str, Any]) -> bool:
    """Check whether the process that wrote the record may still be running."""
    pid = record.get("pid")
    # On Windows os.kill(pid, 0) would be a Ctrl-C; from another machine nothing can be known.
    if os.name != "posix" or record.get("host") != platform.node() or not isinstance(pid, int):
        return True
    if not 0 < pid <= _MAX_PID:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
