"""The runs of a directory, as a list, and how one is removed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnclf.errors import RunError
from cnnclf.full_disks import write_error
from cnnclf.names import natural_key
from cnnclf.runs.run_directory import RunDirectory, list_entries

REMOVE_HINT = "check the owner and mode of what is there"


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


def list_runs(root: Path) -> list[RunRow]:
    """Describe the run directories right below `root` in natural order.

    Damaged ones have a row, too, and directories that cannot be entered: they may be runs.

    Raises:
        RunError: `root` cannot be read.
    """
    if not root.is_dir():
        return []
    rows = []
    for entry in sorted(list_entries(root), key=lambda entry: natural_key(entry.name)):
        run = RunDirectory(entry)
        try:
            if not run.record.exists():
                continue
        except OSError:
            pass  # it may be one
        rows.append(describe_run(run))
    return rows


def describe_run(run: RunDirectory) -> RunRow:
    """Describe a run that may be damaged."""
    try:
        run.record.stat()  # an error of its own for a folder that may not be entered
        return RunRow(run, run.status(), run.read_record())
    except RunError as error:
        return RunRow(run, "damaged", {}, error.message)
    except OSError as error:
        return RunRow(run, "unreadable", {}, f"cannot be read: {error.strerror}")


def remove_run(run: RunDirectory) -> list[str]:
    """Remove the files of a run, and its directory, unless it holds more or is the current one.

    Returns:
        The names of what is not of the run, which stays.

    Raises:
        RunError: It is still training, or cannot be removed.
    """
    try:
        run.clear()
        left = sorted(entry.name for entry in run.path.iterdir())
        place = run.path.resolve()
        if not left and place != Path.cwd():  # where a shell would be left in a deleted directory
            place.rmdir()
            if run.path.is_symlink():
                run.path.unlink()
    except OSError as error:
        raise write_error(run.path, error, hint=REMOVE_HINT) from error
    return left
