"""What is searched: kept in the tuning directory, and turned into plans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from cnnclf.bounded import describe_fault
from cnnclf.config import TuneConfig, load_config
from cnnclf.data.manifest import Dataset
from cnnclf.data.moved import find_dataset
from cnnclf.errors import ConfigError, DataError, RunError, UsageError
from cnnclf.files import check_version, create_json, read_json, write_json_atomic
from cnnclf.runs.run_directory import is_number
from cnnclf.runs.run_names import SEARCH_FILE
from cnnclf.tuning.budget import TOLERANCE, too_short
from cnnclf.tuning.recipes import RECIPES, AnyPlan, Recipe
from cnnclf.tuning.samplers import EvolutionSampler
from cnnclf.tuning.space import Settings, Space

_VERSION = 1
_SEED = "runtime.seed"
_PROBES = 50  # configurations of a space, of which one must be possible


@dataclass(frozen=True)
class SearchRequest:
    """What is searched; kept in tuning.json.

    Args:
        dataset: Directory of the dataset.
        fingerprint: Of the dataset.
        fixed: Settings of all trials, as `key=value`.
        space: What is searched.
        config: How.
        command: The training command whose settings are searched.
    """

    dataset: Path
    fingerprint: str
    fixed: tuple[str, ...]
    space: Space
    config: TuneConfig
    command: str = "train"

    @property
    def recipe(self) -> Recipe:
        """How that command is tuned."""
        return RECIPES[self.command]

    def create(self, directory: Path) -> None:
        """Write the tuning.json of a new search.

        Raises:
            DeviceError: The disk is full.
            RunError: Another process was faster, or the directory cannot be made.
        """
        create_json(directory / SEARCH_FILE, self._describe(), hint="choose another --out")

    def save(self, directory: Path) -> None:
        """Write tuning.json."""
        write_json_atomic(directory / SEARCH_FILE, self._describe())

    def _describe(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "command": self.command,
            "dataset": {"path": str(self.dataset.absolute()), "fingerprint": self.fingerprint},
            "fixed": list(self.fixed),
            "space": self.space.to_dict(),
            "config": self.config.model_dump(mode="json"),
        }

    @classmethod
    def load(cls, directory: Path) -> "SearchRequest":
        """Read tuning.json.

        Raises:
            RunError: It is missing, damaged or of a newer version.
        """
        path = directory / SEARCH_FILE
        if not path.is_file():
            raise RunError(
                f"{directory} is not a tuning directory: it has no {SEARCH_FILE}",
                "start one: cnnclf tune DATASET",
            )
        hint = "start another search: cnnclf tune DATASET"
        content = read_json(path, hint=hint)
        check_version(content, _VERSION, path=path)
        try:
            command = content.get("command", "train")
            place, fingerprint = content["dataset"]["path"], content["dataset"]["fingerprint"]
            return cls(
                find_dataset(Path(place), fingerprint, beside=directory),
                fingerprint,
                tuple(content["fixed"]),
                RECIPES[command].read_space(content["space"], source=str(path)),
                load_config(arguments=content["config"], kind=TuneConfig)[0],
                command,
            )
        except (LookupError, TypeError, ConfigError) as error:
            reason = describe_fault(error)
            raise RunError(f"{path} is damaged: {reason}", hint) from error

    def plan(self, settings: Mapping[str, Any], dataset: Dataset, *, seed: int = 0) -> AnyPlan:
        """Plan the training of a configuration.

        Args:
            settings: Of the configuration; those that are relative are factors.
            dataset: The dataset.
            seed: Added to the seed of the search.

        Raises:
            ConfigError: Settings contradict each other or do not fit the images.
        """
        others = self.recipe.others if settings else {}
        fixed = {each.partition("=")[0] for each in self.fixed}
        values = {key: value for key, value in others.items() if key not in fixed}
        values |= {key: value for key, value in settings.items() if key not in self.space.factors}
        values[_SEED] = self.config.seed + seed
        plan = self._plan(values, dataset)
        factors = {key: settings[key] for key in self.space.factors if key in settings}
        for key, factor in factors.items():
            section, _, name = key.partition(".")
            own = getattr(getattr(plan.config, section), name)
            if not is_number(own):
                raise ConfigError(f"{key} is {own}, which relative = true cannot multiply")
            values[key] = max(1, round(own * factor)) if isinstance(own, int) else own * factor
            # a rate that is given would be meant for another optimizer
            if "optimizer.name" not in fixed:
                values["optimizer.name"] = plan.config.optimizer.name
        return self._plan(values, dataset) if factors else plan

    def _plan(self, values: Settings, dataset: Dataset) -> AnyPlan:
        config, given = load_config(assignments=self.fixed, arguments=values, kind=self.recipe.kind)
        plan: AnyPlan = self.recipe.plan(config, dataset, given=given)
        return plan


def prepare_search(
    dataset: Dataset,
    config: TuneConfig,
    *,
    command: str,
    space: Mapping[str, Any] | None,
    source: str,
    fix: Sequence[str],
) -> tuple[SearchRequest, AnyPlan]:
    """Check everything about a search before anything is trained.

    Args:
        dataset: What is trained on.
        config: How to search.
        command: The training command whose settings are searched.
        space: What is searched, as in a file; None for the default space.
        source: Names the origin of the space in messages.
        fix: Settings of all trials, as `key=value`.

    Returns:
        What is searched, and the plan of the default configuration.

    Raises:
        UsageError: A setting is fixed and searched.
        ConfigError: Anything in the space is wrong, or settings do not fit the images.
        DataError: There is no val split.
    """
    recipe = RECIPES[command]
    base, origins = load_config(assignments=fix, kind=recipe.kind, option="--fix")
    searched = None if space is None else recipe.read_space(space, source=source)
    # what a preset sets can be searched: the values of a trial are stronger
    fixed = [key for key, origin in origins.items() if not origin.startswith("preset ")]
    if searched is not None and (both := [key for key in searched.to_dict() if key in fixed]):
        raise UsageError(f"--fix {both[0]}: {source} searches it", f"remove it from {source}")
    if _SEED in origins or (searched is not None and _SEED in searched.to_dict()):
        raise ConfigError(
            f"{_SEED} cannot be fixed or searched: the best trials are trained with several seeds",
            "choose the first one: --seed N",
        )
    plan: AnyPlan = recipe.plan(base, dataset, given=origins)
    if getattr(base.training, "minutes", None) is not None:
        raise ConfigError(
            "training.minutes cannot be fixed: trials are compared after equal epochs",
            "give the minutes of the whole search: --minutes",
        )
    if getattr(base.optimizer, "learning_rate", None) == "find":
        raise ConfigError(
            "optimizer.learning_rate = find cannot be fixed: a search tries factors of a rate",
            "find it first, with cnnclf lr-find, and fix what it suggests",
        )
    if not plan.counts["val"]:
        raise DataError(
            f"{dataset.place} has no val split, and trials are compared on it",
            "import the source again: cnnclf import SOURCE --split 0.7,0.15,0.15",
        )
    values = {key: attrgetter(key)(plan.config) for key in origins}
    around = plan
    if "model.preset" in plan.reasons:  # of trials, which change the network: the default one
        preset = "model.preset=default"
        base, origins = load_config(assignments=(*fix, preset), kind=recipe.kind, option="--fix")
        around = recipe.plan(base, dataset, given=origins)
    whole = searched or recipe.default_space(around).fix(values)
    request = SearchRequest(
        dataset.directory, dataset.fingerprint, tuple(fix), whole, config, command
    )
    _check_possible(request, dataset, source="the space" if searched is None else source)
    least_s = plan.expect().bounds[0]
    if least_s > TOLERANCE * 60 * config.minutes:
        raise too_short(config.minutes, least_s, option="--minutes")
    return request, plan


def check_final(dataset: Dataset) -> None:
    """Refuse to evaluate a winner on test if there is no such split.

    Raises:
        DataError: There is none.
    """
    if not len(dataset.manifest.select("test")):
        raise DataError(
            f"{dataset.place} has no test split for --final",
            "remove --final, or import again: cnnclf import SOURCE --split 0.7,0.15,0.15",
        )


def _check_possible(request: SearchRequest, dataset: Dataset, *, source: str) -> None:
    """Refuse a space whose settings always contradict each other."""
    sampler, problem = EvolutionSampler(request.space, request.config.seed), ""
    for number in range(_PROBES):
        try:
            request.plan(request.space.decode(sampler.propose(number, [])), dataset)
        except ConfigError as error:
            problem = error.message
        else:
            return
    raise ConfigError(
        f"{source}: none of {_PROBES} configurations can be trained: {problem}",
        "change the ranges and choices that contradict each other, or --fix",
    )
