"""What a search found, and the files that say so."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cnnclf.drawing.lettering import drawable
from cnnclf.files import atomic_path, write_json_atomic, write_text_atomic
from cnnclf.runs import RunDirectory
from cnnclf.training.fitting.state import Score
from cnnclf.tuning.confirmation import Confirmation
from cnnclf.tuning.recipes import AnyPlan
from cnnclf.tuning.space import Point, Settings, describe_settings

LEADERBOARD_FILE = "leaderboard.csv"
BEST_FILE = "best.toml"
RESULT_FILE = "result.json"
FIGURE_FILE = "accuracy.png"


@dataclass(frozen=True)
class TrialRow:
    """A row of the leaderboard; its settings are those that differ from the default."""

    trial: int
    epochs: int
    val_accuracy: float | None
    seconds: float
    settings: Settings
    problem: str = ""


class Mark(NamedTuple):
    """Seconds of all trainings so far, and the val accuracy of the trial that was trained last."""

    seconds: float
    accuracy: float
    trial: int


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
        seconds: That all trials took.
        rungs: The epochs at which trials were compared.
        marks: What was known after each job.
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
    points: list[Point]
    scores: list[Score]
    test: str | None = None

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if not self.confirmations:
            return (
                "the default: there was no time for others"
                if not self.rows[1:]
                else ("the default: no other configuration was trained to the end")
            )
        best = self.confirmations[0]
        low, high = (100 * each for each in best.interval)
        figures = f"difference {100 * best.difference:.1f} points, interval {low:.1f} to {high:.1f}"
        if best.is_better:
            return f"trial {best.trial} is better than the default ({figures})"
        if best.seeds == 1:
            return f"the default: trial {best.trial} was not confirmed with other seeds ({figures})"
        return f"no better than the default ({figures})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "directory": str(self.directory),
            "winner": self.winner,
            "verdict": self.verdict,
            "test": self.test,
            "run": str(self.run.path),
            "seconds": self.seconds,
            "rungs": self.rungs,
            "leaderboard": [asdict(row) for row in self.rows],
            "confirmations": [each.to_dict() for each in self.confirmations],
        }


def write_result(result: SearchResult) -> None:
    """Write leaderboard.csv, best.toml, accuracy.png and result.json into the tuning directory.

    Raises:
        RunError: A file cannot be written.
        DeviceError: The disk is full.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*asdict(result.rows[0]), "in words"])
    for row in result.rows:
        writer.writerow([*asdict(row).values(), describe_settings(row.settings)])
    write_text_atomic(result.directory / LEADERBOARD_FILE, text.getvalue())
    about = f"# Trial {result.winner} of {result.directory.name}"
    about += ": the default configuration, which nothing beat.\n" if not result.winner else ".\n"
    settings = result.plan.to_toml() or ""
    write_text_atomic(result.directory / BEST_FILE, about + settings)
    draw_accuracy(result, result.directory / FIGURE_FILE)
    write_json_atomic(result.directory / RESULT_FILE, result.to_dict())


def draw_accuracy(result: SearchResult, path: Path) -> None:
    """Draw val accuracy against the time of the search: every job, and the best so far."""
    from matplotlib.figure import Figure

    times = [mark.seconds / 60 for mark in result.marks]
    accuracies = [mark.accuracy for mark in result.marks]
    best = [max(accuracies[: number + 1]) for number in range(len(accuracies))]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(times, accuracies, "o", color="#999999", markersize=4, label="a trial at a rung")
    axes.step(times, best, where="post", color="#1f5fa8", label="the best so far")
    own = next(mark.accuracy for mark in result.marks if mark.trial == 0)
    axes.axhline(own, color="#d9730d", linestyle="--", linewidth=1, label="the default")
    low = sorted(accuracies)[len(accuracies) // 4]  # the worst quarter would hide the others
    axes.set_ylim(low - 0.05 * (1 - low) - 0.01, min(1.0, max(accuracies)) + 0.1 * (1.01 - low))
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("val accuracy")
    axes.set_title(drawable(result.directory.name), fontsize=10, parse_math=False)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=144, format="png")
