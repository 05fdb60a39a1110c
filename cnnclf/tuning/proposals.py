"""The configurations of the trials: proposed by a sampler, and kept in points.json."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.tuning.recipes import AnyPlan
from cnnclf.tuning.request import SearchRequest
from cnnclf.tuning.samplers import Sampler
from cnnclf.tuning.space import Point, Settings

POINTS_FILE = "points.json"

_MAX_POINTS = 200  # in a row that no network can be built of


@dataclass
class Proposals:
    """The configurations of all trials; the first is the default."""

    directory: Path
    request: SearchRequest
    dataset: Dataset
    sampler: Sampler
    points: list[Point] = field(default_factory=list, init=False)
    plans: list[AnyPlan] = field(default_factory=list, init=False)
    _numbers: list[int] = field(default_factory=list, init=False)
    _next: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._add({}, -1)

    def add(self, best: Sequence[Point], *, is_affordable: Callable[[AnyPlan], bool]) -> None:
        """Add the next configuration that can be trained.

        Args:
            best: The points of the best trials so far, the best first.
            is_affordable: Whether there is time for one.

        Raises:
            ConfigError: None of many points can be trained.
        """
        path = self.directory / POINTS_FILE
        stored = read_json(path)["points"] if path.exists() else []
        known = stored[len(self.points) - 1 :][:1]
        problem = ""
        for _ in range(_MAX_POINTS):
            number, point = self._next, self.sampler.propose(self._next, best)
            self._next += 1
            # whether there is time for it is not asked again when a search is resumed
            if known and number == known[0][0]:
                point = known[0][1]
            elif known or (problem := self._find_fault(point, is_affordable)):
                self.sampler.tell(number, None)
                continue
            self._add(point, number)
            if not known:
                write_json_atomic(path, {"points": [*stored, [number, point]]})
            return
        raise ConfigError(
            f"none of {_MAX_POINTS} configurations of the space can be trained: {problem}",
            "make the space smaller: --space FILE",
        )

    def tell(self, trial: int, score: float | None) -> None:
        """Give the sampler the score of a trial at the first rung; None if it failed."""
        self.sampler.tell(self._numbers[trial], score)

    def plan(self, trial: int, *, seed: int = 0) -> AnyPlan:
        """Return the plan of a trial, with a seed added to its own."""
        if not seed:
            return self.plans[trial]
        settings = self.request.space.decode(self.points[trial])
        return self.request.plan(settings, self.dataset, seed=seed)

    def compare(self, plan: AnyPlan) -> float:
        """Return the computation of a plan as a fraction of that of the default."""
        cost = self.request.recipe.cost
        return cost(plan) / max(1, cost(self.plans[0]))

    def find_changed(self, trial: int) -> Settings:
        """Return what the plan of a trial has other than that of the default, of what it tries."""
        keys = self.request.space.decode(self.points[trial])
        own, default = (
            {key: attrgetter(key)(plan.config) for key in keys}
            for plan in (self.plans[trial], self.plans[0])
        )
        return {key: value for key, value in own.items() if value != default[key]}

    def _add(self, point: Point, number: int) -> None:
        self.points.append(point)
        self._numbers.append(number)
        self.plans.append(self.request.plan(self.request.space.decode(point), self.dataset))

    def _find_fault(self, point: Point, is_affordable: Callable[[AnyPlan], bool]) -> str:
        """Say why a configuration cannot be trained; empty if it can."""
        try:
            plan = self.request.plan(self.request.space.decode(point), self.dataset)
        except ConfigError as error:
            return error.message
        return "" if is_affordable(plan) else "it would take more than a third of --minutes"
