"""Which trial runs next: successive halving without waiting for a full rung.

Asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning",
2020): whenever three more trials have reached a rung, the best of them that waits is promoted.
Pure: the order depends on the scores alone, so a search that is repeated on the same scores makes
the same choices.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from cnnclf.training.fitting.state import Score

ETA = 3
FAILED: Score = (float("-inf"), float("-inf"))


def choose_rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared: thirds of thirds, at least 2 epochs."""
    rungs = [epochs]
    while rungs[0] // ETA >= 2 and len(rungs) < 3:
        rungs.insert(0, round(rungs[0] / ETA))
    return tuple(rungs)


class Job(NamedTuple):
    """A trial and the rung that it is to reach.

    Args:
        trial: Its number; 0 is the default configuration.
        rung: Index of the rung.
        seed: Added to that of the search.
    """

    trial: int
    rung: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of its run directory."""
        return f"{self.trial:03d}" + (f"-seed{self.seed}" if self.seed else "")


@dataclass
class Halving:
    """The scores of all trials at all rungs, and the next job.

    Args:
        rungs: Epochs of each rung; the last is the whole training.
        scores: Of each trial, at each rung that it reached; the larger is better.
        running: Trials that are being trained.
        is_closed: Whether there is no time for another job.
    """

    rungs: tuple[int, ...]
    scores: list[list[Score]] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    is_closed: bool = False

    def choose_job(self, *, may_start: bool) -> Job | None:
        """Choose the next job.

        Args:
            may_start: Whether another trial may start; if not, the best trial of each rung is
                promoted even if fewer than three have reached it.

        Returns:
            The job; None if nothing is left to do, or it depends on those that are running.
        """
        top = len(self.rungs) - 1
        if self.is_closed or 0 in self.running:
            return None  # what others cost is known by the default
        if self.scores and len(self.scores[0]) <= top and self.scores[0][-1] != FAILED:
            return Job(0, top)  # the default is always trained to the end
        for rung in range(top - 1, -1, -1):
            reached = [trial for trial in self.rank(rung) if trial]
            count = len(reached) // ETA
            for trial in reached[: count if may_start or self.running else max(1, count)]:
                scores = self.scores[trial]
                if trial in self.running:
                    continue
                if len(scores) == rung + 1 and scores[rung] != FAILED:
                    return Job(trial, rung + 1)
        if not may_start:
            return None
        started = len(self.scores) + sum(trial >= len(self.scores) for trial in self.running)
        return Job(started, 0 if started else top)

    def rank(self, rung: int) -> list[int]:
        """Return the trials that reached a rung, the best first; earlier ones win ties."""
        reached = [trial for trial, scores in enumerate(self.scores) if len(scores) > rung]
        return sorted(reached, key=lambda trial: self.scores[trial][rung], reverse=True)

    def best(self) -> list[int]:
        """Return all trials: those of the highest rung first, in it the best first."""
        order: list[int] = []
        for rung in range(len(self.rungs) - 1, -1, -1):
            order += [trial for trial in self.rank(rung) if trial not in order]
        return order

    def record(self, trial: int, scores: list[Score]) -> None:
        """Keep the scores of a trial at all rungs that it reached; it no longer runs."""
        self.running.discard(trial)
        if trial == len(self.scores):
            self.scores.append(scores)
        else:
            self.scores[trial] = scores
