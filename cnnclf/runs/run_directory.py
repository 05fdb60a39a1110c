"""One run directory: its paths, its record run.json and its status."""

import math
import os
import platform
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cnnclf.errors import RunError
from cnnclf.files import check_version, find_whole_directory, read_json, write_json_atomic
from cnnclf.names import base_name
from cnnclf.runs.run_lock import describe_holder, is_held, remove_lock
from cnnclf.runs.run_names import (
    CHECKPOINTS,
    CURVES_FILE,
    DESCENT_FILE,
    EVALUATION,
    EXPORTS,
    HISTORY_FILE,
    LOG_FILE,
    MARGINS_FILE,
    OWNED,
    PARITY_FILE,
    PLAN_FILE,
    RECORD_FILE,
    REPORT_FILE,
    RUN_VERSION,
    SEARCH_FILE,
    SETTINGS_FILE,
    TENSORBOARD,
    TRACE_FILE,
    UNFINISHED,
)

# Numbers in run.json; it may have others.
_FIGURES = (
    "epochs", "best_epoch", "best_val_accuracy", "parameters", "fit_s", "wall_s", "images_per_s",
    "data_wait_share",
)  # fmt: skip
COPY_HINT = "copy the whole run directory again, or train again"

_MAX_PID = 2**31 - 1


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

    @property
    def title(self) -> str:
        """Its name; that of a trial after the name of its search, for others have such a trial."""
        name, search = base_name(self.path), self.path.absolute().parent.parent
        is_trial = (search / SEARCH_FILE).is_file()
        return f"{base_name(search)}/{name}" if is_trial else name

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
        status = record.get("status")
        if status not in list(RunStatus):
            fault = f"expected a status of {', '.join(RunStatus)}, received {status!r}"
            if status is None:
                fault = "its status is missing"
            raise RunError(
                f"{self.record} is damaged: {fault}",
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

    def is_readable(self) -> bool:
        """Return whether run.json is whole."""
        try:
            self.read_record()
        except RunError:
            return False
        return True

    def update_run(self, **fields: Any) -> dict[str, Any]:
        """Change fields of run.json and keep the others.

        Args:
            **fields: JSON values; `status` must be a `RunStatus` or its value.
        """
        if fields.get("status", RunStatus.RUNNING) not in list(RunStatus):
            statuses = ", ".join(RunStatus)
            raise ValueError(f"expected a status of {statuses}, received {fields['status']!r}")
        now = utc_now()
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
        for entry in list_entries(self.path):
            if UNFINISHED.fullmatch(entry.name):
                entry.unlink(missing_ok=True)

    def check_ended(self) -> None:
        """Refuse a run that is still training, before it is replaced or removed.

        Raises:
            RunError: It is.
        """
        if self.status() is RunStatus.RUNNING:
            raise still_training(self, "wait for it to finish, or stop that process")

    def clear(self) -> None:
        """Remove every file of the run, also of a damaged one; what else is there stays.

        Raises:
            RunError: It is still training.
            OSError: A file cannot be removed.
        """
        try:
            self.check_ended()
        except RunError:
            if self.is_readable() or is_held(self.path):
                raise
        for name in OWNED:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.remove_unfinished()

    def declare_interrupted(self) -> None:
        """Take the run for interrupted, whatever its lock says; the user knows better."""
        status = self.read_record()["status"]
        remove_lock(self.path)  # its holder may not have changed the status yet
        if status == RunStatus.RUNNING:
            self.update_run(status=RunStatus.INTERRUPTED)

    def resume_command(self) -> str:
        """The command that continues this run; its plan has the command that started it.

        Raises:
            RunError: The plan is damaged.
        """
        words = ["cnnclf", self.read_command(), "--resume", str(self.path)]
        for target in self._read_targets():
            words += ["--track", str(target)]
        return shlex.join(words)

    def _read_targets(self) -> list[Any]:
        """Read what the run is tracked with; a damaged record must not hide how to continue."""
        try:
            targets = self.read_record().get("track")
        except RunError:
            return []
        return targets if isinstance(targets, list) else []

    def evaluate_hint(self) -> str:
        """Say how figures of this run are had: by evaluating it, or first by continuing it.

        Raises:
            RunError: The plan is damaged.
        """
        if find_whole_directory(self.best) or find_whole_directory(self.last):
            return f"evaluate it: cnnclf evaluate {shlex.quote(str(self.path))}"
        return f"continue it: {self.resume_command()}"

    def read_plan(self) -> dict[str, Any]:
        """Read plan.json; empty for a run that was stopped before its plan was written.

        Raises:
            RunError: It is damaged.
        """
        return read_json(self.plan, hint=COPY_HINT) if self.plan.exists() else {}

    def read_command(self) -> str:
        """Read from the plan which command started the run.

        Raises:
            RunError: The plan is damaged.
        """
        return str(self.read_plan().get("command", "train"))

    def check_command(self, command: str) -> None:
        """Refuse a run that another command started.

        Raises:
            RunError: It did; the hint is what works instead.
        """
        started = self.read_command()
        if started == command:
            return
        hint = f"continue with: {self.resume_command()}"
        if self.status() is RunStatus.FINISHED:
            hint = self.more_epochs_hint()
        raise RunError(
            f"{self.path} is a run of cnnclf {started}, not of cnnclf {command}",
            hint,
        )

    def more_epochs_hint(self) -> str:
        """Say how a finished run gets more epochs: only those of train can be extended.

        Raises:
            RunError: The plan is damaged.
        """
        path = shlex.quote(str(self.path))
        if self.read_command() == "train":
            return f"for more epochs: cnnclf train --extend {path} --epochs N"
        dataset = section(self.read_plan(), "dataset").get("path", "DATASET")
        return (
            "for more epochs, train again with its settings: cnnclf finetune "
            f"{shlex.quote(str(dataset))} --config {path} --tail-epochs N"
        )

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
                COPY_HINT,
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


def still_training(run: RunDirectory, hint: str) -> RunError:
    """Give the error for a run that another process is training, and who that is."""
    record = run.read_record()
    signs = (run.record, run.history, run.log)
    holder = describe_holder(run.path, record=record, signs=signs)
    return RunError(f"run {run.path} is still training ({holder})", hint)


def is_number(value: object) -> bool:
    """Tell whether a value of JSON is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value)


def section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under a key of a JSON object, empty if there is none."""
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by dotted key."""
    flat: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, Mapping):
            flat |= flatten(each, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = each
    return flat


def list_entries(root: Path) -> list[Path]:
    """List a directory of runs, or one run.

    Raises:
        RunError: It cannot be read.
    """
    try:
        return list(root.iterdir())
    except OSError as error:
        raise RunError(
            f"cannot read the directory of runs {root}: {error.strerror}",
            "check its owner and mode, or give another directory",
        ) from error


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


def utc_now() -> str:
    """The time now, as run.json holds it (ISO 8601, to the second)."""
    return datetime.now(UTC).isoformat(timespec="seconds")
