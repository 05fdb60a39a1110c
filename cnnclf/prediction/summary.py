"""The summary of a job, and the rows that an interrupted job already wrote."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnclf.errors import ExitCode
from cnnclf.prediction.path_set import PathSet
from cnnclf.prediction.rows import Cell, Prediction
from cnnclf.prediction.stage_times import Limit

_EXAMPLES = 5


@dataclass
class PredictSummary:
    """Counts over all rows of a job.

    Args:
        files: Rows written, including those of the interrupted job.
        earlier: Rows of the interrupted job.
        failed: Rows with an error.
        placed: Files copied, linked or moved, or in a dry run those that would be.
        counts: Label (or `unknown`) to number of files.
        examples: (path, error) of the first failures.
        seconds: Time from the first path to the last row of this process.
        limit: The slowest stage; None if the job was too short to measure.
        unsure_below: The best probability below which a file is `unsure`; 0 to count none.
        unsure: Files that resemble none of the classes much.
        unfamiliar: Files that are unlike anything learned, and have a label all the same.
        unlike: Files that are both.
    """

    files: int = 0
    earlier: int = 0
    failed: int = 0
    placed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    limit: Limit | None = None
    unsure_below: float = 0.0
    unsure: int = 0
    unfamiliar: int = 0
    unlike: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """`SOME_FAILED` if a file failed."""
        return ExitCode.SOME_FAILED if self.failed else ExitCode.OK

    @property
    def images_per_s(self) -> float:
        """Files per second in this process; 0 if there was no time to measure."""
        return (self.files - self.earlier) / self.seconds if self.seconds else 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one row."""
        ranking = prediction.ranking
        is_unsure = bool(ranking) and ranking[0][1] < self.unsure_below
        is_unfamiliar = prediction.is_unfamiliar and not prediction.is_unknown
        self.unsure += is_unsure
        self.unfamiliar += is_unfamiliar
        self.unlike += is_unsure and is_unfamiliar
        self._add(prediction.path, prediction.label, prediction.placed, prediction.error)

    def add_earlier(self, cells: Mapping[str, Cell]) -> None:
        """Count a row of the interrupted job."""
        path, label, placed, error = (
            str(cells.get(name) or "") for name in ("path", "label", "placed", "error")
        )
        self._add(path, label, placed, error)
        self.earlier += 1

    def include(self, other: "PredictSummary") -> None:
        """Add the counts of another summary; times are unchanged."""
        self.files += other.files
        self.earlier += other.earlier
        self.failed += other.failed
        self.placed += other.placed
        self.unsure += other.unsure
        self.unfamiliar += other.unfamiliar
        self.unlike += other.unlike
        self.counts.update(other.counts)
        self.examples += other.examples[: _EXAMPLES - len(self.examples)]

    def _add(self, path: str, label: str, placed: str, error: str) -> None:
        self.files += 1
        self.placed += bool(placed)
        if label:
            self.counts[label] += 1
        if error:
            self.failed += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append((path, error))


@dataclass
class SoFar:
    """What an interrupted job has done; empty for a new job.

    Args:
        summary: Counts its rows; new rows are added.
        done: The paths that have a row; each is removed when it is skipped.
    """

    summary: PredictSummary = field(default_factory=PredictSummary)
    done: PathSet = field(default_factory=PathSet, repr=False)

    def add(self, cells: Mapping[str, Cell]) -> None:
        """Count a row of the interrupted job."""
        self.done.add(str(cells.get("path") or ""))
        self.summary.add_earlier(cells)
