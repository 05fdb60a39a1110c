"""What makes two calls the same job: only then may one go on where the other was interrupted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnclf import __version__
from cnnclf.errors import UsageError
from cnnclf.files import check_version, read_json, write_json_atomic
from cnnclf.prediction.rows import Columns
from cnnclf.prediction.sharding import Shard

_VERSION = 1
_AGAIN = "give the same as before to go on, or --overwrite to start anew"


@dataclass(frozen=True)
class Job:
    """What a file of rows is the answer to.

    Engine, batch size and number of threads may differ from one time to the next.

    Args:
        model: SHA-256 of the model.
        inputs: What was asked for, as it was spelled.
        folder: The working directory, if the inputs are relative to it; else empty.
        top_k: How many classes are named.
        columns: Names of the columns.
        threshold: As of `PredictOptions`.
        shard: Which part of the inputs; None for all.
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
        columns: Columns,
        threshold: float | None,
        shard: Shard | None,
    ) -> "Job":
        """Describe a job in the working directory; see the class."""
        # What stands in a list may be relative, too.
        is_relative = not all(Path(item).is_absolute() for item in inputs)
        folder = str(Path.cwd()) if is_relative else ""
        names = tuple(columns.names())
        return cls(model, tuple(inputs), folder, columns.top_k, names, threshold, shard)

    def to_record(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {**asdict(self), "shard": self.shard and str(self.shard)}


def write_job(path: Path, job: Job, *, may_replace: bool) -> None:
    """Write down whose rows are being written.

    Args:
        path: The file beside the rows.
        job: The job.
        may_replace: The finished rows may take the place of a file that exists.
    """
    write_json_atomic(
        path,
        {
            "version": _VERSION,
            "cnnclf": __version__,
            "may_replace": may_replace,
            "job": job.to_record(),
        },
    )


def check_job(path: Path, job: Job, rows: Path) -> bool:
    """Refuse to go on with the rows of another job.

    Args:
        path: What `write_job` wrote.
        job: The job that would go on.
        rows: The rows, for the message.

    Returns:
        Whether the finished rows may take the place of a file that exists.

    Raises:
        UsageError: It is another job, or nothing says which one it is.
        RunError: The file is damaged or from a newer version.
    """
    if not path.exists():
        raise UsageError(
            f"expected {path.name} beside {rows}, which says whose rows these are; it is missing",
            "start anew with --overwrite, or give another --out",
        )
    record = read_json(path, hint=_AGAIN)
    check_version(record, _VERSION, path)
    before = record.get("job")
    now = job.to_record()
    for name, words in _WORDS.items():
        then = before.get(name) if isinstance(before, dict) else None
        value = list(now[name]) if isinstance(now[name], tuple) else now[name]
        if then != value:
            raise UsageError(
                f"{rows} belongs to another job: expected {words} {_shown(then, name)}, "
                f"received {_shown(value, name)}",
                _AGAIN,
            )
    return record.get("may_replace") is True


_WORDS = {
    "model": "the model",
    "top_k": "--top-k",
    "threshold": "--threshold",
    "columns": "the columns",
    "shard": "--shard",
    "inputs": "IMAGES",
    "folder": "the working directory",
}


def _shown(value: object, name: str) -> str:
    if value is None:
        return "none"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    most = 12 if name == "model" else 200
    return text if len(text) <= most else f"{text[:most]}..."
