"""What is in a tuning directory, and how it is made free for another search."""

import re
import shlex
from pathlib import Path

from cnnclf.errors import RunError, UsageError
from cnnclf.files import list_target, read_json
from cnnclf.full_disks import check_writable, write_error
from cnnclf.names import name_some
from cnnclf.runs.run_directory import RunDirectory, list_entries
from cnnclf.runs.run_listing import REMOVE_HINT, remove_run
from cnnclf.runs.run_lock import describe_holder, is_held, remove_lock
from cnnclf.runs.run_names import OWNED, REPORT_FILE, SEARCH_FILE, UNFINISHED
from cnnclf.tuning.leaderboard import (
    BEST_FILE,
    COORDINATES_FILE,
    FIGURE_FILE,
    LEADERBOARD_FILE,
    RESULT_FILE,
)
from cnnclf.tuning.proposals import POINTS_FILE
from cnnclf.tuning.samplers import STORAGE_FILE
from cnnclf.tuning.trial import read_outcome

TRIALS = "trials"

BUSY = "search {} is still running"
BUSY_HINT = "wait for it to finish, or choose another --out"

_TRIAL = re.compile(r"\d+(-seed\d+)?")  # as of `halving.Job`
_FILES = (
    POINTS_FILE,
    STORAGE_FILE,
    RESULT_FILE,
    LEADERBOARD_FILE,
    BEST_FILE,
    FIGURE_FILE,
    COORDINATES_FILE,
    REPORT_FILE,
    SEARCH_FILE,  # the last one: without it the directory would be no search
)


def count_seconds(directory: Path, workers: int) -> float:
    """Return the seconds that a search took before, of all workers together.

    Those of its trials, and of a finished one all, so that it does not continue when it is resumed.
    """
    trials = map(read_outcome, (directory / TRIALS).glob("*"))
    trials_s = sum(each.wall_s + each.evaluation_s for each in trials)
    try:
        whole_s = read_json(directory / RESULT_FILE).get("seconds")
    except RunError:  # missing, or damaged and written again by resuming
        return trials_s
    return max(trials_s, workers * whole_s) if isinstance(whole_s, int | float) else trials_s


def check_new_search(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a directory for a new search that is not empty.

    Args:
        path: The tuning directory; need not exist.
        overwrite: Whether an earlier search in it is to be replaced.

    Raises:
        UsageError: It is not empty; with `overwrite`, it holds no search.
        RunError: It is a file, cannot be read or made, or its search is still running.
    """
    entries = list_target(path)
    check_writable(path)
    if SEARCH_FILE not in entries:
        if entries:
            raise UsageError(
                f"{path} is not empty, and no search: it contains {entries[0]}",
                "choose another --out",
            )
    elif not overwrite:
        raise UsageError(
            f"{path} already exists: it is a search",
            f"continue it: cnnclf tune --resume {shlex.quote(str(path))}; or replace it with "
            "--overwrite, or choose another --out",
        )
    elif is_held(path):
        raise RunError(f"{BUSY.format(path)} ({describe_holder(path)})", BUSY_HINT)
    else:
        _check_trials(path)


def clear_search(path: Path) -> None:
    """Remove an earlier search; files that are not of it stay.

    Args:
        path: The tuning directory; need not exist, or hold a search.

    Raises:
        RunError: The search or one of its trials is still running, or cannot be removed.
    """
    if not (path / SEARCH_FILE).exists():
        return
    check_new_search(path, overwrite=True)
    for trial in _list_trials(path):
        remove_run(RunDirectory(trial))
    trials = path / TRIALS
    try:
        if trials.is_dir() and not any(trials.iterdir()):
            trials.rmdir()
        for name in _FILES:
            (path / name).unlink(missing_ok=True)
        remove_lock(path)
    except OSError as error:
        raise write_error(path, error, hint=REMOVE_HINT) from error


def _check_trials(path: Path) -> None:
    """Refuse trials with other files, which would stay where a new trial is to be made."""
    for trial in _list_trials(path):
        names = {entry.name for entry in list_entries(trial)} - set(OWNED)
        others = sorted(name for name in names if not UNFINISHED.fullmatch(name))
        if others:
            raise UsageError(
                f"cannot replace the search {path}: {trial} also contains {name_some(others)}",
                "move that away, or choose another --out",
            )


def _list_trials(path: Path) -> list[Path]:
    trials = path / TRIALS
    entries = list_entries(trials) if trials.is_dir() else []
    return sorted(each for each in entries if _TRIAL.fullmatch(each.name) and each.is_dir())
