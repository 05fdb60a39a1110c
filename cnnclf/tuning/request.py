"""What is searched: kept in the tuning directory, and turned into plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnclf.config import TrainConfig, TuneConfig, load_config
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError, RunError
from cnnclf.files import check_version, read_json, write_json_atomic
from cnnclf.planning.train_plan import TrainPlan, plan_training
from cnnclf.tuning.space import Settings, Space, read_space

SEARCH_FILE = "tuning.json"

_VERSION = 1


@dataclass(frozen=True)
class SearchRequest:
    """What is searched; kept in tuning.json.

    Args:
        dataset: Directory of the dataset.
        fingerprint: Of the dataset.
        fixed: Settings of all trials, as `key=value`.
        space: What is searched.
        config: How.
    """

    dataset: Path
    fingerprint: str
    fixed: tuple[str, ...]
    space: Space
    config: TuneConfig

    def save(self, directory: Path) -> None:
        """Write tuning.json."""
        content = {
            "version": _VERSION,
            "dataset": {"path": str(self.dataset.absolute()), "fingerprint": self.fingerprint},
            "fixed": list(self.fixed),
            "space": self.space.to_dict(),
            "config": self.config.model_dump(mode="json"),
        }
        write_json_atomic(directory / SEARCH_FILE, content)

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
        content = read_json(path)
        check_version(content, _VERSION, path=path)
        try:
            return cls(
                Path(content["dataset"]["path"]),
                content["dataset"]["fingerprint"],
                tuple(content["fixed"]),
                read_space(content["space"], source=str(path)),
                load_config(arguments=content["config"], kind=TuneConfig)[0],
            )
        except (LookupError, TypeError, ConfigError) as error:
            raise RunError(f"{path} is damaged: {error}", "start another search") from error

    def plan(self, settings: Mapping[str, Any], dataset: Dataset, *, seed: int = 0) -> TrainPlan:
        """Plan the training of a configuration.

        Args:
            settings: Of the configuration; those that are relative are factors.
            dataset: The dataset.
            seed: Added to the seed of the search.

        Raises:
            ConfigError: Settings contradict each other or do not fit the images.
        """
        values = {key: value for key, value in settings.items() if key not in self.space.factors}
        values["runtime.seed"] = self.config.seed + seed
        plan = self._plan(values, dataset)
        factors = {key: settings[key] for key in self.space.factors if key in settings}
        for key, factor in factors.items():
            section, _, name = key.partition(".")
            own = getattr(getattr(plan.config, section), name)
            values[key] = max(1, round(own * factor)) if isinstance(own, int) else own * factor
        return self._plan(values, dataset) if factors else plan

    def _plan(self, values: Settings, dataset: Dataset) -> TrainPlan:
        config, given = load_config(assignments=self.fixed, arguments=values, kind=TrainConfig)
        return plan_training(config, dataset, given=given)
