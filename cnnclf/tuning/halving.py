"""Which trial runs next: successive halving without waiting for a full rung.

Asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning",
2020): whenever three more trials have reached a rung, the best of them that waits is promoted.
Pure: the order depends on the scores and on what fits into the time, so a search that is repeated
on the same scores makes the same choices.
"""

from collections.abc import Callable, Iterator
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


def _is_needed(_job: Job, is_extra: bool) -> bool:
    return not is_extra


@dataclass
class Halving:
    """The scores of all trials at all rungs, and the next job.

    Args:
        rungs: Epochs of each rung; the last is the whole training.
        scores: Of each trial, at each rung that it reached; the larger is better.
        running: Trials that are being trained.
    """

    rungs: tuple[int, ...]
    scores: list[list[Score]] = field(default_factory=list)
    running: set[int] = field(default_factory=set)

    @property
    def started(self) -> int:
        """Trials that were started, and the number of the next one."""
        return len(self.scores) + sum(trial >= len(self.scores) for trial in self.running)

    def choose_job(
        self, *, may_start: bool, fits: Callable[[Job, bool], bool] = _is_needed
    ) -> Job | None:
        """Choose the next job.

        Args:
            may_start: Whether another trial may start; if not, the best trial of each rung is
                promoted even if fewer than three have reached it.
            fits: Whether there is time for a promotion, and whether it is one that halving would
                not make: the next best trial, at the end of the search.

        Returns:
            The job; None if nothing is left to do, or it depends on those that are running.
        """
        top = len(self.rungs) - 1
        if 0 in self.running:
            return None  # what others cost is known by the default
        if self.scores and len(self.scores[0]) <= top and self.scores[0][-1] != FAILED:
            return Job(0, top)  # the default is always trained to the end
        is_end = not may_start and not self.running
        for is_extra in (False, True) if is_end else (False,):
            for job in self._list_promotions(is_end=is_end, is_extra=is_extra):
                if fits(job, is_extra):
                    return job
        if not may_start:
            return None
        return Job(self.started, 0 if self.started else top)

    def _list_promotions(self, *, is_end: bool, is_extra: bool) -> Iterator[Job]:
        """Yield the promotions of trials that wait, to the highest rung first."""
        for rung in range(len(self.rungs) - 2, -1, -1):
            reached = [trial for trial in self.rank(rung) if trial]
            count = max(int(is_end), len(reached) // ETA)
            for trial in reached[count:] if is_extra else reached[:count]:
                scores = self.scores[trial]
                is_waiting = len(scores) == rung + 1 and scores[rung] != FAILED
                if is_waiting and trial not in self.running:
                    yield Job(trial, rung + 1)

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
