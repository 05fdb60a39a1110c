"""Describes a prediction job, so that --resume continues only the job that was interrupted."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnclf import __version__
from cnnclf.data.cache import cache_dir
from cnnclf.errors import CnnclfError, UsageError
from cnnclf.files import check_version, read_json, write_json_atomic
from cnnclf.prediction.rows import RowColumns
from cnnclf.prediction.sharding import Shard

_VERSION = 1
_AGAIN = "repeat the same options to continue, or start again with --overwrite"


_ANYTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class PredictionJob:
    """What determines the rows of a job.

    Engine, batch size and number of threads are not included: they may change when a job resumes.

    Args:
        model: SHA-256 of the model.
        inputs: The arguments as they were typed.
        folder: The working directory if the inputs are relative; else empty.
        top_k: How many classes are named.
        columns: Names of the columns, and options that change what is in them.
        threshold: See `PredictOptions`.
        shard: The shard; None for all inputs.
    """

    model: str
    inputs: tuple[str, ...]
    folder: str
    top_k: int
    columns: tuple[str, ...]
    threshold: float | None = None
    shard: Shard | None = None

    @classmethod
    def describe(
        cls,
        model: str,
        inputs: Sequence[str],
        *,
        columns: RowColumns,
        threshold: float | None,
        shard: Shard | None,
    ) -> "PredictionJob":
        """Describe a job in the current working directory; see the class."""
        # The entries of a list may be relative, too.
        is_relative = not all(Path(item).is_absolute() for item in inputs)
        folder = str(Path.cwd()) if is_relative else ""
        how = ["--csv-safe"] if columns.csv_safe else []
        how += [f"--sets {columns.sets}"] if columns.sets else []
        how += [f"--unknown-by {columns.familiar}"] if columns.familiar else []
        how += [f"--views {columns.views}"] if columns.views != "none" else []
        names = (*columns.names(), *how)
        return cls(model, tuple(inputs), folder, columns.top_k, names, threshold, shard)

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "shard": self.shard and str(self.shard)}


def write_job(path: Path, job: PredictionJob, *, may_replace: bool) -> None:
    """Record which job the rows belong to."""
    write_json_atomic(
        path,
        {
            "version": _VERSION,
            "cnnclf": __version__,
            "may_replace": may_replace,
            "job": job.to_record(),
        },
    )


def check_job(path: Path, job: PredictionJob, *, rows: Path) -> bool:
    """Check that the rows belong to the job that is to be resumed.

    Returns:
        Whether the finished rows may replace an existing file.

    Raises:
        UsageError: They belong to another job, or the record is missing.
        RunError: The record is damaged or from a newer version.
    """
    if not path.exists():
        raise UsageError(
            f"cannot resume {rows}: {path.name}, which records its job, is missing",
            "start again with --overwrite, or choose another --out",
        )
    record = read_json(path, hint=_AGAIN)
    check_version(record, _VERSION, path=path)
    before = record.get("job")
    now = job.to_record()
    for name, words in _WORDS.items():
        then = before.get(name) if isinstance(before, dict) else None
        value = list(now[name]) if isinstance(now[name], tuple) else now[name]
        if then != value:
            raise UsageError(
                f"{rows} belongs to another job: {words} was {_shown(then, name)}, "
                f"now it is {_shown(value, name)}",
                _AGAIN,
            )
    return record.get("may_replace") is True


def remember_finished(path: Path, job: PredictionJob) -> None:
    """Note in the cache whose rows a finished file has, until the file changes.

    After a kill at the very end, nothing else tells a finished job from a file of something else.
    """
    with contextlib.suppress(OSError, CnnclfError):  # the rows are complete without it
        found = path.stat()
        state = {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
        write_json_atomic(
            _note_of(path),
            {"version": _VERSION, "source": str(path.absolute()), "job": job.to_record()} | state,
        )


def is_finished(
    path: Path, inputs: Sequence[str], *, model: str, asked: Mapping[str, Any] = _ANYTHING
) -> bool:
    """Return whether a file has the rows of a job that is finished.

    Args:
        path: The rows.
        inputs: The arguments as they were typed.
        model: SHA-256 of the model.
        asked: What else is asked for now, such as `threshold`, by field of `PredictionJob`.
    """
    try:
        found, note = path.stat(), read_json(_note_of(path))
    except (OSError, CnnclfError):
        return False
    job = note.get("job")
    is_same = (note.get("size"), note.get("mtime_ns")) == (found.st_size, found.st_mtime_ns)
    if not is_same or not isinstance(job, dict) or not _is_job_of(job, inputs, model):
        return False
    return all(job.get(name) == value for name, value in asked.items())


def _is_job_of(job: Mapping[str, Any], inputs: Sequence[str], model: str) -> bool:
    folder = job.get("folder")
    is_here = not folder or folder == str(Path.cwd())
    return is_here and job.get("inputs") == list(inputs) and job.get("model") == model


def _note_of(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return cache_dir() / "jobs" / f"{name}.json"


_WORDS = {
    "model": "the model",
    "top_k": "--top-k",
    "threshold": "--threshold",
    "columns": "the list of columns",
    "shard": "--shard",
    "inputs": "the argument IMAGES",
    "folder": "the working directory",
}


def _shown(value: object, name: str) -> str:
    if value is None:
        return "none"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    limit = 12 if name == "model" else 200
    return text if len(text) <= limit else f"{text[:limit]}..."
