"""What a search found, and the files that say so."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnclf.files import json_bytes, write_csv_atomic, write_json_atomic, write_text_atomic
from cnnclf.names import base_name, count_of
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.fitting.state import Score
from cnnclf.tuning.confirmation import Confirmation
from cnnclf.tuning.importances import find_importances
from cnnclf.tuning.recipes import AnyPlan
from cnnclf.tuning.search_figures import Mark, draw_accuracy, draw_coordinates
from cnnclf.tuning.space import Point, Settings, Space, describe_settings

LEADERBOARD_FILE = "leaderboard.csv"
BEST_FILE = "best.toml"
RESULT_FILE = "result.json"
FIGURE_FILE = "accuracy.png"
COORDINATES_FILE = "coordinates.png"


@dataclass(frozen=True)
class TrialRow:
    """A row of the leaderboard; its settings are those of its plan that differ from the default."""

    trial: int
    epochs: int
    val_accuracy: float | None
    seconds: float
    settings: Settings
    problem: str = ""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        directory: Of the search.
        rows: The leaderboard: fully trained trials first, the best first.
        confirmations: The best configurations compared with the default; none if there was no time.
        winner: The trial whose configuration is recommended.
        run: Its training with the best val accuracy.
        plan: What its configuration plans.
        seconds: That the search took, in all its processes.
        rungs: The epochs at which trials were compared.
        marks: What was known after each job.
        space: What was searched.
        points: Of all trials, by number.
        scores: Of all trials at the first rung.
        test: Accuracy of the winner on test, in words, once it was evaluated.
    """

    directory: Path
    rows: list[TrialRow]
    confirmations: list[Confirmation]
    winner: int
    run: RunDirectory
    plan: AnyPlan
    seconds: float
    rungs: tuple[int, ...]
    marks: list[Mark]
    space: Space
    points: list[Point]
    scores: list[Score]
    test: str | None = None

    def __repr__(self) -> str:
        """Say what a notebook shows; `rows` is the leaderboard."""
        tried = count_of(len(self.rows), "configuration")
        run = str(self.run.path)
        return f"SearchResult({str(self.directory)!r}: {tried}, {self.verdict}, run {run!r})"

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if default := next((row.problem for row in self.rows if not row.trial), ""):
            return f"trial {self.winner}, the best of one seed: the default failed ({default})"
        if not self.confirmations:
            return (
                "the default: there was no time for others"
                if not self.rows[1:]
                else ("the default: no other configuration was trained to the end")
            )
        return self.confirmations[0].verdict

    @cached_property
    def importances(self) -> dict[str, float]:
        """Which settings the scores at the first rung depend on, the most important first."""
        return find_importances(self.space, self.points, scores=[score[0] for score in self.scores])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "directory": str(self.directory),
            "command": self.plan.kind.command,
            "winner": self.winner,
            "verdict": self.verdict,
            "test": self.test,
            "run": str(self.run.path),
            "seconds": self.seconds,
            "rungs": self.rungs,
            "importances": self.importances,
            "leaderboard": [asdict(row) for row in self.rows],
            "confirmations": [each.to_dict() for each in self.confirmations],
        }


def write_result(result: SearchResult) -> None:
    """Write tables, best.toml and figures into the tuning directory.

    Raises:
        RunError: A file cannot be written.
        DeviceError: The disk is full.
    """
    rows = []
    for row in result.rows:
        cells = asdict(row) | {"settings": json_bytes(row.settings).decode()}
        rows.append([*cells.values(), describe_settings(row.settings)])
    heading = [*asdict(result.rows[0]), "in words"]
    write_csv_atomic(result.directory / LEADERBOARD_FILE, [heading, *rows])
    about = f"# Trial {result.winner} of {base_name(result.directory)}"
    about += (
        ": the default configuration, which nothing was shown to beat.\n"
        if not result.winner
        else ".\n"
    )
    settings = result.plan.to_toml() or ""
    write_text_atomic(result.directory / BEST_FILE, about + settings)
    draw_accuracy(result.marks, result.directory / FIGURE_FILE)
    draw_coordinates(
        result.space,
        result.points,
        scores=[score[0] for score in result.scores],
        importances=result.importances,
        path=result.directory / COORDINATES_FILE,
    )
    write_json_atomic(result.directory / RESULT_FILE, result.to_dict())
