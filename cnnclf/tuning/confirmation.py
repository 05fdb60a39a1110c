"""Is a configuration better than the default? Both with several seeds, on the same images."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.evaluation.paired_statistics import SMALL, Interval, difference_interval

Correct = NDArray[np.bool_]
"""[seeds, images]: which images each training has right."""


@dataclass(frozen=True)
class Confirmation:
    """A configuration compared with the default.

    Args:
        trial: Its number.
        seeds: Seeds that both were trained with.
        accuracy: Its mean val accuracy over the seeds but the first, by which it was chosen.
        default: That of the default.
        interval: Of the difference, 95 % for all compared configurations together.
    """

    trial: int
    seeds: int
    accuracy: float
    default: float
    interval: Interval

    @property
    def difference(self) -> float:
        """Accuracy above that of the default."""
        return self.accuracy - self.default

    @property
    def is_better(self) -> bool:
        """Whether it is better than the default beyond chance, shown with several seeds."""
        return self.seeds > 1 and self.interval[0] > 0

    @property
    def verdict(self) -> str:
        """The comparison in one line."""
        low, high = (100 * each for each in self.interval)
        points, interval = (
            f"{100 * self.difference:.1f} points",
            f"interval {low:.1f} to {high:.1f}",
        )
        figures = f"difference {points}, {interval}"
        if self.is_better:
            return f"trial {self.trial} is better than the default ({figures})"
        if self.seeds == 1 and high > 0:
            more = "; more --minutes or --seeds would tell" if self.difference > SMALL else ""
            return (
                f"the default: trial {self.trial} was trained with one seed only ({figures}){more}"
            )
        if self.difference > SMALL:
            return (
                f"the default: trial {self.trial} was not shown to be better, {points} more on "
                f"average ({interval}); more val images or --seeds would tell"
            )
        return f"no better than the default ({figures})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        low, high = self.interval
        own = {key: value for key, value in asdict(self).items() if key != "interval"}
        return own | {
            "difference": self.difference,
            "low": low,
            "high": high,
            "is_better": self.is_better,
        }


def compare_seeds(
    default: Correct, other: Correct, *, trial: int, compared: int = 1
) -> Confirmation:
    """Compare trainings of a configuration with those of the default.

    The variance of the difference is that over images, where both are paired, plus that over
    seeds, where they are not; its degrees of freedom are those of Welch and Satterthwaite.

    Args:
        default: Of the default configuration.
        other: Of the other one, with as many seeds and images. The first is the training that was
            chosen among all trials and looks better than it is: with more than one seed, it
            counts in the variance only.
        trial: Its number.
        compared: Configurations that are compared, by which the error is divided (Bonferroni).
    """
    from scipy.special import stdtrit

    seeds, images = default.shape
    confidence = 1 - 0.05 / compared
    means = float(other[seeds > 1 :].mean()), float(default.mean())
    if seeds == 1:
        gained, lost = (int((a & ~b).sum()) for a, b in ((other, default), (default, other)))
        interval = difference_interval(gained, lost, total=images, confidence=confidence)
    else:
        by_image = other[1:].mean(axis=0) - default.mean(axis=0)
        over_images = float(by_image.var(ddof=1)) / images if images > 1 else 1.0
        over_images += 0.25 / images**2  # half an image: 0 over few images is no certainty
        by_seed = sum(float(each.mean(axis=1).var(ddof=1)) for each in (default, other)) / 2
        over_seeds = by_seed * (1 / seeds + 1 / (seeds - 1))
        variance = over_images + over_seeds
        freedom = variance**2 / (
            over_images**2 / max(1, images - 1) + over_seeds**2 / (2 * (seeds - 1))
        )
        half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)
        difference = means[0] - means[1]
        interval = (max(-1.0, difference - half), min(1.0, difference + half))
    return Confirmation(trial, seeds, *means, interval)


def stack_correct(tables: Sequence[dict[str, bool]]) -> Correct:
    """Stack what several trainings have right, for the images that all of them could read."""
    paths = [path for path in tables[0] if all(path in table for table in tables)]
    return np.array([[table[path] for path in paths] for table in tables], dtype=np.bool_)
