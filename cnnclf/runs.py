"""Run directories: every file name in them, their status, and writing that leaves no half file.

A run directory holds::

    plan.json run.json history.csv log.txt curves.png
    checkpoints/best/  checkpoints/last/     model.keras + classifier.json (a bundle);
                                             last also optimizer.npz + state.json, for --resume
    evaluation/SPLIT/                        metrics.json and its figures and tables

The atomic writers at the end serve every room that writes files.
"""

import contextlib
import errno
import json
import math
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnclf import __version__
from cnnclf.errors import CnnclfError, DeviceError, RunError

RUN_VERSION = 1

PLAN_FILE = "plan.json"
RECORD_FILE = "run.json"
HISTORY_FILE = "history.csv"
LOG_FILE = "log.txt"
CURVES_FILE = "curves.png"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"
MODEL_FILE = "model.keras"
CLASSIFIER_FILE = "classifier.json"
OPTIMIZER_FILE = "optimizer.npz"
STATE_FILE = "state.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
CONFUSION_TABLE_FILE = "confusion.csv"
CONFUSION_FIGURE_FILE = "confusion.png"
WORST_FIGURE_FILE = "worst.png"

STATUSES = ("running", "finished", "interrupted", "failed")

_OWNED = (
    PLAN_FILE,
    RECORD_FILE,
    HISTORY_FILE,
    LOG_FILE,
    CURVES_FILE,
    CHECKPOINTS,
    EVALUATION,
)


@dataclass(frozen=True)
class RunDirectory:
    """The names in one run directory, and its record run.json.

    Args:
        path: The run directory; need not exist yet.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """Every resolved setting, written before the first epoch."""
        return self.path / PLAN_FILE

    @property
    def record(self) -> Path:
        """Status, command, versions, device, times: run.json."""
        return self.path / RECORD_FILE

    @property
    def history(self) -> Path:
        """One row per epoch."""
        return self.path / HISTORY_FILE

    @property
    def log(self) -> Path:
        """What was said on the terminal."""
        return self.path / LOG_FILE

    @property
    def curves(self) -> Path:
        """The learning curves."""
        return self.path / CURVES_FILE

    @property
    def checkpoints(self) -> Path:
        """The parent of `best` and `last`."""
        return self.path / CHECKPOINTS

    @property
    def best(self) -> Path:
        """Where the best checkpoint is written; read it through `find_checkpoint`."""
        return self.checkpoints / "best"

    @property
    def last(self) -> Path:
        """Where the newest checkpoint is written; read it through `find_checkpoint`."""
        return self.checkpoints / "last"

    def evaluation(self, split: str) -> Path:
        """The directory of the evaluation of one split."""
        return self.path / EVALUATION / split

    def read_record(self) -> dict[str, Any]:
        """Read run.json.

        Raises:
            RunError: It is missing, damaged or written by a newer format version.
        """
        record = read_json(self.record, hint=f"train again into another --out than {self.path}")
        check_version(record, RUN_VERSION, self.record)
        if record.get("status") not in STATUSES:
            raise RunError(
                f"expected a status of {', '.join(STATUSES)} in {self.record}, "
                f"received {record.get('status')!r}",
                f"train again into another --out than {self.path}",
            )
        return record

    def update_run(self, **fields: Any) -> dict[str, Any]:
        """Change fields of run.json, keep the others, and write it at once.

        Args:
            **fields: JSON values; `status` must be one of `STATUSES`.

        Returns:
            The whole record as written.
        """
        if fields.get("status", "running") not in STATUSES:
            raise ValueError(f"expected a status of {STATUSES}, received {fields['status']!r}")
        now = _now()
        record = self.read_record() | fields | {"updated": now}
        if fields.get("status") == "running":
            record |= {"pid": os.getpid(), "host": platform.node()}
        elif "status" in fields:
            record["ended"] = now
        write_json_atomic(self.record, record)
        return record

    def status(self) -> str:
        """The status in run.json; `interrupted` for a run whose process is gone."""
        record = self.read_record()
        if record["status"] == "running" and not _is_alive(record):
            return "interrupted"
        return str(record["status"])

    def find_checkpoint(self, name: str) -> Path:
        """The whole checkpoint `best` or `last`, also after a kill in the middle of a swap.

        Raises:
            RunError: There is none yet (unfinished run), or none any more (damaged run).
        """
        found = find_whole_directory(self.checkpoints / name)
        if found is not None:
            return found
        status = self.status()
        if status == "finished":
            raise RunError(
                f"the run {self.path} is damaged: it is finished but has no {CHECKPOINTS}/{name}",
                "copy the whole run directory again, or train again",
            )
        raise RunError(
            f"the run {self.path} is unfinished ({status}) and has no {CHECKPOINTS}/{name} yet",
            f"wait for its first epoch, or go on with: cnnclf train --resume {self.path}",
        )


@dataclass(frozen=True)
class RunRow:
    """One row of a list of runs.

    Args:
        directory: The run.
        status: One of `STATUSES`, or `damaged`.
        record: The fields of run.json; empty if it cannot be read.
        problem: Why it cannot be read; empty if it can.
    """

    directory: RunDirectory
    status: str
    record: Mapping[str, Any]
    problem: str = ""


def next_run_path(dataset_name: str, root: Path = Path("runs")) -> Path:
    """Name the next run of a dataset: `runs/<dataset>-<NNN>`, the first number above all used.

    Args:
        dataset_name: Any text; what a file name cannot hold becomes `-`.
        root: The directory of runs; need not exist.
    """
    stem = safe_name(dataset_name, fallback="run")
    used = [0]
    if root.is_dir():
        pattern = re.compile(re.escape(stem) + r"-(\d{1,9})")
        matches = (pattern.fullmatch(entry.name) for entry in root.iterdir())
        used += [int(match[1]) for match in matches if match]
    return root / f"{stem}-{max(used) + 1:03d}"


def create_run(path: Path, *, force: bool = False, **fields: Any) -> RunDirectory:
    """Make a new run directory with a run.json of status `running`.

    Args:
        path: The run directory; parents are made.
        force: Start over in a directory that holds a run; only files of the run are removed.
        **fields: More fields of run.json, such as `command`.

    Raises:
        RunError: The directory is not empty and `force` is not given, its run is being trained
            at this moment, or it cannot be made.
    """
    run = RunDirectory(path)
    try:
        entries = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
        if entries and not force:
            raise RunError(
                f"expected a new or empty run directory, received {path}, which holds {entries[0]}",
                f"go on with it: cnnclf train --resume {path}; or give another --out",
            )
        if RECORD_FILE in entries:
            _clear_run(run)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    record = {
        "version": RUN_VERSION,
        "status": "running",
        "created": _now(),
        "cnnclf": __version__,
        "pid": os.getpid(),
        "host": platform.node(),
    }
    write_json_atomic(run.record, record | fields)
    return run


def open_run(path: Path) -> RunDirectory:
    """Open a run directory that exists, finished or not.

    Ask `.status()` and `.find_checkpoint(...)` for more: these tell unfinished from damaged.

    Raises:
        RunError: It does not exist, is no run, is damaged, or is from a newer format version.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing"
        raise RunError(
            f"expected a run directory, found {what} at {path}",
            "see the runs there are: cnnclf runs list",
        )
    if not run.record.exists():
        if run.plan.exists() or run.checkpoints.exists():
            raise RunError(
                f"the run {path} is damaged: {RECORD_FILE} is missing",
                "copy the whole run directory again, or train again",
            )
        raise RunError(
            f"expected a run directory, {path} has no {RECORD_FILE}",
            "see the runs there are: cnnclf runs list",
        )
    run.read_record()
    return run


def list_runs(root: Path) -> list[RunRow]:
    """Describe the run directories right below `root` in natural order, damaged ones too."""
    if not root.is_dir():
        return []
    rows = []
    for entry in sorted(root.iterdir(), key=lambda entry: _natural_key(entry.name)):
        run = RunDirectory(entry)
        if not run.record.exists():
            continue
        try:
            rows.append(RunRow(run, run.status(), run.read_record()))
        except RunError as error:
            rows.append(RunRow(run, "damaged", {}, error.message))
    return rows


def _natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `2` comes before `10`."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), part) if i % 2 else (1, 0, part) for i, part in enumerate(parts))


def safe_name(text: str, *, fallback: str) -> str:
    """Turn any text into one file name that is legal on the common systems.

    Args:
        text: Any text.
        fallback: Used when nothing of the text is left.
    """
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "-", text).strip(" .-")
    while len(os.fsencode(name)) > 120:
        name = name[:-1]
    return name.rstrip(" .-") or fallback


def read_json(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: It is missing, unreadable, not JSON or not an object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", hint) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error})", hint) from error
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: expected an object, not {type(value).__name__}", hint)
    return value


def check_version(record: Mapping[str, Any], newest: int, path: Path) -> None:
    """Refuse a file of a newer format version, or of none.

    Args:
        record: An object with the field `version`.
        newest: The newest version that this program reads.
        path: Where it comes from, for the message.
    """
    version = record.get("version")
    if not isinstance(version, int) or version < 1:
        raise RunError(
            f"{path} is damaged: expected a format version of 1 to {newest}, received {version!r}",
            "copy it again from where it was made",
        )
    if version > newest:
        raise RunError(
            f"{path} was written by a newer cnnclf: its format version is {version}, "
            f"this one reads up to {newest}",
            "upgrade with: pip install --upgrade cnnclf",
        )


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all; undecodable file names keep their bytes."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def write_json_atomic(path: Path, value: Any) -> None:
    """Write strict JSON whole or not at all: NaN and infinity become null."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(json_bytes(value, indent=2) + b"\n")


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Encode strict UTF-8 JSON; paths, NumPy scalars and arrays are allowed, NaN becomes null."""
    text = json.dumps(_to_json(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (an undecodable byte of a file name) becomes its own JSON escape.
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name with the same suffix; it replaces `path` when the block succeeds.

    The parent directory is made. A device or pipe such as /dev/stdout is written directly.

    Raises:
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    temporary = target.with_name(f".{target.stem[:80]}.{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        os.replace(temporary, target)  # noqa: PTH105 (says what it does)
    except OSError as error:
        if _is_full(error) or error.filename == str(temporary):
            raise write_error(path, error) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # the error that matters is the one above
            temporary.unlink()


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Give an empty directory `target.new`; it replaces `target` when the block succeeds.

    Raises:
        DeviceError: The disk is full.
        RunError: The directory cannot be written.
    """
    temporary = target.with_name(target.name + ".new")
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        replace_directory_atomic(temporary, target)
    except OSError as error:
        if _is_full(error) or str(error.filename).startswith(str(temporary)):
            raise write_error(target, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory_atomic(temporary: Path, target: Path) -> None:
    """Put a finished directory in the place of another one.

    At every moment `target` or `target.old` is whole; readers use `find_whole_directory`.

    Args:
        temporary: The finished directory, on the same file system; it is moved.
        target: Where it shall be; may exist.
    """
    old = target.with_name(target.name + ".old")
    if target.exists():
        # Only with a whole target at hand may a left-over of an earlier kill go.
        if old.exists():
            shutil.rmtree(old)
        target.rename(old)
    temporary.rename(target)
    if old.exists():
        shutil.rmtree(old)


def find_whole_directory(target: Path) -> Path | None:
    """The directory that `replace_directory_atomic` left at `target`, or None.

    Returns:
        `target`; its predecessor `target.old` if a kill came between the two renames.
    """
    old = target.with_name(target.name + ".old")
    return next((path for path in (target, old, target) if path.is_dir()), None)


def write_error(path: Path, error: OSError) -> CnnclfError:
    """Say in one line why a file cannot be written."""
    if _is_full(error):
        return DeviceError(
            f"the disk is full: cannot write {path}", "free some space and try again"
        )
    return RunError(
        f"cannot write {path}: {error.strerror or error}",
        "give a place where you may write with --out",
    )


def _is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def _clear_run(run: RunDirectory) -> None:
    if run.status() == "running":
        raise RunError(f"the run {run.path} is being trained at this moment", "give another --out")
    for name in _OWNED:
        path = run.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_alive(record: Mapping[str, Any]) -> bool:
    """Tell whether the process that wrote the record may still be running."""
    pid = record.get("pid")
    # On Windows os.kill(pid, 0) would be a Ctrl-C; from another machine nothing can be known.
    if os.name != "posix" or record.get("host") != platform.node() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing NumPy
        return _to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
