"""What configuration is tried next."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnnclf.errors import MissingPackageError
from cnnclf.names import count_of
from cnnclf.packages import install_command
from cnnclf.tuning.space import Dimension, Point, Settings, Space

STORAGE_FILE = "optuna.sqlite"

_QUASI_RANDOM = 8  # points before the best ones are changed
_EXPLORE = 3  # of them, every third stays quasi-random
_SPREAD = 0.15  # of a change, in the unit interval
_STREAM = 7  # a random stream of its own
# Class, the packages that it needs besides Optuna, and the extra that installs all.
_OPTUNA = {
    "tpe": ("TPESampler", (), "tune"),
    "cmaes": ("CmaEsSampler", ("cmaes",), "tune"),
    "gp": ("GPSampler", ("scipy", "torch"), "gp"),
}


class Sampler(Protocol):
    """Proposes points; the same calls give the same points."""

    def propose(self, number: int, best: Sequence[Point]) -> Point:
        """Propose the point of a number.

        Args:
            number: Counted from 0 over all points, also those that could not be used.
            best: The points of the best trials so far, the best first; {} is the default.
        """

    def tell(self, number: int, score: float | None) -> None:
        """Take the score of a point at the first rung; None if it failed or could not be used."""


@dataclass(frozen=True)
class EvolutionSampler:
    """Quasi-random points, then changes of one to three settings of the best ones.

    Quasi-random: the additive sequence of the generalized golden ratio (Roberts, 2018).

    Args:
        space: What is searched.
        seed: Shifts the sequence.
        evolves: Whether points are changes of the best ones from the ninth on.
    """

    space: Space
    seed: int
    evolves: bool = True

    def propose(self, number: int, best: Sequence[Point]) -> Point:
        """Propose the point of a number."""
        random = np.random.default_rng((_STREAM, self.seed, number))
        keys = [each.key for each in self.space.dimensions]
        is_early = number < _QUASI_RANDOM or number % _EXPLORE == 0
        if not self.evolves:
            return dict(zip(keys, random.random(len(keys)).tolist(), strict=True))
        if is_early or not best:
            return dict(zip(keys, self._quasi_random(number).tolist(), strict=True))
        parent = best[min(int(random.exponential(1.0)), len(best) - 1)]
        point = dict(parent)
        count = min(len(keys), int(random.integers(1, 4)))
        changed = random.choice(len(keys), size=count, replace=False)
        for index in sorted(changed.tolist()):
            point[keys[index]] = self._change(self.space.dimensions[index], point, random)
        return point

    def tell(self, number: int, score: float | None) -> None:
        """Do nothing: the best points are given to `propose`."""

    def _quasi_random(self, number: int) -> Any:
        count = len(self.space.dimensions)
        ratio = 2.0
        for _ in range(60):  # the root of x^(d+1) = x + 1
            ratio = (1 + ratio) ** (1 / (count + 1))
        shift = np.random.default_rng((_STREAM, self.seed)).random(count)
        return (shift + (number + 1) * ratio ** -np.arange(1, count + 1)) % 1

    def _change(self, dimension: Dimension, point: Point, random: np.random.Generator) -> float:
        if dimension.choices or dimension.key not in point:
            return float(random.random())
        moved = point[dimension.key] + random.normal(0, _SPREAD)
        return float(min(1.0, max(0.0, moved)))


@dataclass
class OptunaSampler:
    """A sampler of Optuna, whose study is kept in a file that optuna-dashboard opens.

    The study is made again from the start when a search is resumed: the same seed and the same
    scores give the same points.

    Args:
        space: What is searched.
        kind: tpe, gp or cmaes.
        seed: Of the sampler.
        directory: Where the study is stored.
    """

    space: Space
    kind: str
    seed: int
    directory: Path
    _trials: dict[int, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        name, packages, extra = _OPTUNA[self.kind]
        for package in ("optuna", *packages):
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise MissingPackageError(
                    f"--sampler {self.kind} needs the package {package}, which is not installed",
                    install_command(f"cnnclf[{extra}]"),
                ) from error
        import optuna
        from sqlalchemy.pool import NullPool

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = self.directory / STORAGE_FILE
        path.unlink(missing_ok=True)
        self._study = optuna.create_study(
            study_name="cnnclf",
            storage=optuna.storages.RDBStorage(
                f"sqlite:///{path}",
                engine_kwargs={"poolclass": NullPool},  # closes the file after each use
            ),
            sampler=getattr(optuna.samplers, name)(seed=self.seed),
            direction="maximize",
        )

    def propose(self, number: int, best: Sequence[Point]) -> Point:  # noqa: ARG002
        """Ask the study for a point."""
        trial = self._trials[number] = self._study.ask()
        point: Point = {}
        settings: Settings = {}
        for each in self.space.dimensions:
            if each.is_active(settings):
                settings[each.key] = self._suggest(trial, each)
                point[each.key] = each.encode(settings[each.key])
        return point

    def tell(self, number: int, score: float | None) -> None:
        """Tell the study a score, or that there is none."""
        from optuna.trial import TrialState

        if score is None:
            self._study.tell(self._trials[number], state=TrialState.FAIL)
        else:
            self._study.tell(self._trials[number], score)

    def _suggest(self, trial: Any, dimension: Dimension) -> Any:
        if dimension.choices:
            names = [json.dumps(choice) for choice in dimension.choices]
            return json.loads(trial.suggest_categorical(dimension.key, names))
        suggest = trial.suggest_int if dimension.whole else trial.suggest_float
        return suggest(dimension.key, dimension.low, dimension.high, log=dimension.log)


def describe_limits(kind: str, space: Space) -> str:
    """Say which settings a sampler draws at random, whatever the scores are; empty if none."""
    if kind != "cmaes":
        return ""
    count = sum(not each.choices and not each.when for each in space.dimensions)
    learned = count if count > 1 else 0  # Optuna's needs two
    drawn = len(space.dimensions) - learned
    words = f"{learned} of {count_of(len(space.dimensions), 'setting')}"
    limit = f"cmaes learns {words}, two or more ranges without a condition, and draws the others"
    return f"{limit} at random; tpe and evolution learn all" if drawn else ""


def build_sampler(kind: str, space: Space, *, seed: int, directory: Path) -> Sampler:
    """Build the sampler of a name.

    Raises:
        MissingPackageError: It is one of Optuna, which is not installed.
    """
    if kind in ("evolution", "random"):
        return EvolutionSampler(space, seed, evolves=kind == "evolution")
    return OptunaSampler(space, kind, seed, directory)
