"""The time of a search: what was used, what fits, and how long a trial will take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from time import monotonic

from cnnclf.errors import UsageError
from cnnclf.tuning.trial import TrialOutcome

TOLERANCE = 1.05  # of the time, that the last trial may exceed it

_RESERVED = 0.4  # of the time, at most, for training the best ones with more than one other seed
_TRAININGS = 10  # that a search should have time for
_LARGEST = 1 / 3  # of the time, that one trial may be predicted to take


def too_short(minutes: float, needed_s: float, *, option: str) -> UsageError:
    """Return the error for a search that has no time for one training.

    Args:
        minutes: Of the search.
        needed_s: Seconds that the default configuration takes.
        option: Words that come before more minutes, in the hint.
    """
    return UsageError(
        f"--minutes {minutes:g} is shorter than one training: the default configuration takes "
        f"about {needed_s / 60:.1f} minutes",
        f"a search needs about {_TRAININGS} of them: {option} "
        f"{max(1, math.ceil(_TRAININGS * needed_s / 60))}",
    )


@dataclass
class TimeBudget:
    """The time that a search may take.

    Args:
        limit_s: Seconds of the whole search.
        workers: Trials that are trained at the same time.
        earlier_s: Seconds of all trials together, before this process.
        default: What the default configuration did; empty before.
        running: Seconds that jobs which were given out are predicted to take, by name.
        overheads_s: Seconds besides their epochs that other trials took, up to the first rung.
    """

    limit_s: float
    workers: int = 1
    earlier_s: float = 0.0
    default: TrialOutcome = field(default_factory=TrialOutcome)
    running: dict[str, float] = field(default_factory=dict)
    overheads_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds that the search took."""
        return self.earlier_s / self.workers + monotonic() - self._started

    def fits(self, seconds: float, *, reserved_s: float = 0.0) -> bool:
        """Return whether a job fits into the rest of the time, after those that are running."""
        waiting_s = sum(self.running.values()) / self.workers
        return self.elapsed_s + waiting_s + seconds <= self.limit_s - reserved_s

    def reserve(self, seeds: int, configurations: int) -> float:
        """Return the time to keep for training configurations with several seeds.

        A difference counts once both were trained with two seeds. The time for that is kept where
        it is there beside the default and one other training, and a part of the time for more.
        """
        one_s = self.default.wall_s + self.default.evaluation_s
        pair_s = 2 * one_s / min(2, self.workers)
        free_s = self.limit_s - 2 * one_s
        if free_s < pair_s:
            return 0.0
        all_s = configurations * (seeds - 1) * one_s / self.workers
        return min(all_s, free_s, max(pair_s, _RESERVED * self.limit_s))

    def may_start(self, rungs: Sequence[int], *, reserved_s: float) -> bool:
        """Return whether there is time for another trial.

        The time to train one to the end is kept, if there ever was as much. Once there is no time,
        there will be none: a search that is resumed must not start a trial that it did not before.

        Args:
            rungs: Epochs of each rung.
            reserved_s: As of `reserve`, which must not fall as more trials are started.
        """
        first_s, whole_s = (self.predict(rungs[at], TrialOutcome(), part=1.0) for at in (0, -1))
        whole_s += self.default.evaluation_s
        has_whole = self.default.wall_s + self.default.evaluation_s + whole_s <= self.limit_s
        return self.fits(whole_s if has_whole else first_s, reserved_s=reserved_s)

    def predict(self, epochs: int, before: TrialOutcome, *, part: float) -> float:
        """Predict the seconds until a trial reaches an epoch.

        Args:
            epochs: The epoch.
            before: What it did so far.
            part: Its computation, as a fraction of that of the default.
        """
        if before.history:
            epoch_s = before.epoch_s or self.default.epoch_s * part
            return before.overhead_s + (epochs - before.epochs) * epoch_s
        # such as the search for the rates of a head, which the default does not need
        others_s = median(self.overheads_s) if self.overheads_s else 0.0
        return max(self.default.overhead_s, others_s) + epochs * self.default.epoch_s * part

    def is_affordable(self, epochs: int, *, part: float) -> bool:
        """Check a prediction by the computation, which does not depend on the machine's load."""
        return part <= 1 or part * self.default.epoch_s * epochs <= _LARGEST * self.limit_s
