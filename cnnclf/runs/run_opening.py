"""Making and opening run directories, and what a path that is none may have meant."""

import os
import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnclf import __version__
from cnnclf.errors import RunError, UsageError
from cnnclf.files import create_json, list_target, safe_name
from cnnclf.full_disks import check_writable, write_error
from cnnclf.runs.run_directory import (
    COPY_HINT,
    RunDirectory,
    RunStatus,
    list_entries,
    still_training,
    utc_now,
)
from cnnclf.runs.run_names import PLAN_FILE, RECORD_FILE, RUN_VERSION, SETTINGS_FILE


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
        matches = (pattern.fullmatch(entry.name) for entry in list_entries(root))
        used += [int(match[1]) for match in matches if match]
    return root / f"{stem}-{max(used) + 1:03d}"


def claim_next_path(dataset_name: str, root: Path = Path("runs")) -> Path:
    """Make an empty directory for the next run; processes that start together get different ones.

    Args:
        dataset_name: See `next_run_path`.
        root: The directory of runs; need not exist.

    Raises:
        DeviceError: The disk is full.
        RunError: It cannot be made.
    """
    while True:
        path = next_run_path(dataset_name, root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if not root.is_dir():
                raise write_error(root, error) from error
        except OSError as error:
            raise write_error(path, error) from error
        else:
            return path


def check_new_run(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a directory for a new run that is not empty.

    Args:
        path: The run directory; need not exist.
        overwrite: Whether an earlier run in it is to be replaced.

    Raises:
        UsageError: It is not empty; with `overwrite`, it holds no run.
        RunError: It is a file, cannot be read or made, or its run is still training.
    """
    entries = list_target(path)
    check_writable(path)
    run, is_run = RunDirectory(path), RECORD_FILE in entries
    if is_run and overwrite:
        run.check_ended()
    elif is_run:
        if run.status() is RunStatus.RUNNING:  # it could be neither continued nor replaced
            raise still_training(run, "choose another --out, or wait for it to finish")
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
        RunError: Its run is still training, another process was faster, or it cannot be made.
    """
    check_new_run(path, overwrite=overwrite)
    run = RunDirectory(path)
    try:
        if overwrite and run.record.exists():
            run.clear()
    except OSError as error:
        raise write_error(path, error) from error
    record = {
        "version": RUN_VERSION,
        "status": RunStatus.RUNNING,
        "created": utc_now(),
        "cnnclf": __version__,
        "pid": os.getpid(),
        "host": platform.node(),
    }
    create_json(run.record, record | fields, hint="choose another --out")
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
                COPY_HINT,
            )
        raise RunError(
            f"{path} is not a run directory: it has no {RECORD_FILE}",
            "list the runs with: cnnclf runs list",
        )
    run.read_record()
    return run


def check_distinct(paths: Sequence[Path]) -> None:
    """Refuse a run that is given twice.

    Raises:
        UsageError: One is.
    """
    places = [path.resolve() for path in paths]
    if twice := [
        path for path, place in zip(paths, places, strict=True) if places.count(place) > 1
    ]:
        raise UsageError(f"{twice[-1]} is given twice", "name different runs")


def suggest_run(path: Path) -> str:
    """Return the hint for a run that does not exist; `cnnclf runs list` shows names in `runs`."""
    named = Path("runs") / path
    if (named / RECORD_FILE).is_file():
        return f"did you mean {named}?"
    return "list the runs with: cnnclf runs list"


def find_settings(path: Path, *, command: str) -> Path:
    """Find the file of settings that `--config` names: a file, or that of a run.

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
