"""How far the two phases of a fine-tuning are, told from the directories of the run.

The head and the tail are fitted one after the other into the same `best` and `last`; while the
second phase runs, `earlier` keeps the best checkpoint of the first, so that the two can be
compared. Killed at any moment, a run is in one of these stages:

| stage     | phase in last/state.json | earlier/ | what it was doing                              |
|-----------|--------------------------|----------|------------------------------------------------|
| `NEW`     | no last/                 | -        | before its first checkpoint                    |
| `HEAD`    | head                     | no       | fitting or judging the head                    |
| `BETWEEN` | head                     | yes      | before the tail's first last/; best/ may be    |
|           |                          |          | the tail's already                             |
| `TAIL`    | tail                     | yes      | fitting the tail, or comparing the phases      |
| `CHOSEN`  | tail                     | no       | after the comparison: best/ is the better one  |

`STEPS` says what is left to do at each stage.
"""

import shutil
from enum import Enum, auto

from cnnclf.errors import RunError
from cnnclf.files import (
    atomic_directory,
    find_whole_directory,
    read_json,
    replace_directory_atomic,
)
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import STATE_FILE

HEAD, TAIL = "head", "tail"


class RunStage(Enum):
    """How far a run is."""

    NEW = auto()
    HEAD = auto()
    BETWEEN = auto()
    TAIL = auto()
    CHOSEN = auto()


class Step(Enum):
    """What is done to a run; without a second phase, the steps after `JUDGE_HEAD` are skipped."""

    RESTORE_HEAD = auto()
    """Make `earlier` the best checkpoint again; the tail starts over."""
    FIT_HEAD = auto()
    RESUME_HEAD = auto()
    """Continue with the head from the last checkpoint; if its epochs are done, load its state."""
    JUDGE_HEAD = auto()
    """Load the best of the head and measure it through the whole network."""
    KEEP_HEAD = auto()
    """Copy the best checkpoint to `earlier`."""
    FIT_TAIL = auto()
    """Start the tail from the best of the head."""
    RESUME_TAIL = auto()
    """Continue with the tail from the last checkpoint; if its epochs are done, load its state."""
    CHOOSE = auto()
    """Keep the best checkpoint of the better phase, and remove `earlier`."""
    SETTLE = auto()
    """Take the epoch of the best checkpoint as the best epoch, which the choice may change."""


_AFTER_HEAD = (Step.JUDGE_HEAD, Step.KEEP_HEAD, Step.FIT_TAIL, Step.CHOOSE, Step.SETTLE)

STEPS: dict[RunStage, tuple[Step, ...]] = {
    RunStage.NEW: (Step.FIT_HEAD, *_AFTER_HEAD),
    RunStage.HEAD: (Step.RESUME_HEAD, *_AFTER_HEAD),
    RunStage.BETWEEN: (Step.RESTORE_HEAD, Step.RESUME_HEAD, *_AFTER_HEAD),
    RunStage.TAIL: (Step.RESUME_TAIL, Step.CHOOSE, Step.SETTLE),
    RunStage.CHOSEN: (Step.RESUME_TAIL, Step.SETTLE),
}


def find_stage(run: RunDirectory, *, resume: bool) -> RunStage:
    """Tell how far a run is.

    Args:
        run: The run.
        resume: Whether to continue from its last checkpoint.

    Raises:
        RunError: Its last checkpoint is missing or damaged.
    """
    if not resume:
        return RunStage.NEW
    path = run.find_checkpoint("last") / STATE_FILE
    phase = read_json(path, hint="train again into another --out").get("phase")
    has_earlier = find_whole_directory(run.earlier) is not None
    match phase:
        case "head":
            return RunStage.BETWEEN if has_earlier else RunStage.HEAD
        case "tail":
            return RunStage.TAIL if has_earlier else RunStage.CHOSEN
    fault = f"expected the phase head or tail, received {phase!r}"
    if phase is None:
        fault = "its phase is missing"
    raise RunError(
        f"{path} is damaged: {fault}",
        "train again into another --out",
    )


def keep_head(run: RunDirectory) -> None:
    """Copy the best checkpoint of the head to `earlier`, whole or not at all."""
    with atomic_directory(run.earlier) as directory:
        shutil.copytree(run.find_checkpoint("best"), directory, dirs_exist_ok=True)


def restore_head(run: RunDirectory) -> None:
    """Move `earlier` to its place as the best checkpoint."""
    earlier = find_whole_directory(run.earlier)
    if earlier is not None:
        replace_directory_atomic(earlier, run.best)


def drop_earlier(run: RunDirectory) -> None:
    """Remove `earlier`: the phases have been compared."""
    shutil.rmtree(run.earlier, ignore_errors=True)
