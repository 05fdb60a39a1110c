"""What the plans of all training commands have in common, and reading them back.

In a plan every "auto" is resolved, with the reason; `plan.json` has both. Nothing here loads
TensorFlow, so `--dry-run` shows the plan at once. Device and precision are the exception: they are
chosen when the run starts (`runtime`) and recorded in `run.json`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, TypeAdapter

from cnnclf.bounded import describe_fault
from cnnclf.config import CommandConfig
from cnnclf.config.describing import list_fields
from cnnclf.config.settings_file import given_settings_toml
from cnnclf.data.manifest import SPLITS, Dataset, load_dataset
from cnnclf.data.moved import find_dataset
from cnnclf.errors import ConfigError, RunError
from cnnclf.files import check_version, read_json
from cnnclf.hardware import count_usable_cpus
from cnnclf.images.decode import InputSpec
from cnnclf.images.modes import is_gray_mode
from cnnclf.names import count_of, name_some
from cnnclf.quality.fact_cache import load_errors
from cnnclf.runs.run_directory import COPY_HINT

PLAN_VERSION = 1


_DAMAGE = (LookupError, TypeError, ValueError, OverflowError, AttributeError, ConfigError)
_LIST = TypeAdapter(tuple[str, ...])
_TEXTS = TypeAdapter(dict[str, str])
_COUNTS = TypeAdapter(dict[str, int])
_NUMBERS = TypeAdapter(dict[str, float])

_Config = TypeVar("_Config", bound=CommandConfig)
_Parsed = TypeVar("_Parsed")
_Data = TypeVar("_Data", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[_Config]):
    """Everything a run will do, decided before the first epoch.

    Args:
        config: Settings without any "auto" but device, precision and threads.
        reasons: Why each "auto" became what it is, by dotted key.
        given: Which settings were given and where, by dotted key.
        input_spec: What the network sees.
        labels: Labels in the order of the outputs.
        counts: Images per split.
        operations: Augmentation in force, as {operation: strength}.
        dataset: Name, path and fingerprint of the dataset.
        remarks: Notes on the data, for the screen.
        asked: Settings as the user gave them; None in a plan that was read back.
    """

    kind: ClassVar[type[CommandConfig]]

    config: _Config
    reasons: Mapping[str, str]
    given: Mapping[str, str]
    input_spec: InputSpec
    labels: tuple[str, ...]
    counts: Mapping[str, int]
    operations: Mapping[str, float]
    dataset: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    asked: _Config | None = field(default=None, compare=False)

    def to_toml(self) -> str | None:
        """Return the content of `settings.toml`; None for a plan that was read back."""
        if self.asked is None:
            return None
        return given_settings_toml(self.asked, self.config, given=self.given, reasons=self.reasons)

    def given_values(self) -> dict[str, object]:
        """Return the settings that were given, but for those of a preset, by dotted key."""
        values: dict[str, object] = {}
        for key, origin in self.given.items():
            section, _, name = key.rpartition(".")
            if not origin.startswith("preset "):
                values[key] = getattr(getattr(self.asked or self.config, section), name)
        return values

    def load_dataset(self, *, beside: Path) -> Dataset:
        """Load the dataset, from where it was moved to together with the run `beside` it.

        Raises:
            DataError: It is missing or damaged.
        """
        path, fingerprint = Path(self.dataset["path"]), self.dataset["fingerprint"]
        return load_dataset(find_dataset(path, fingerprint, beside=beside))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `plan.json`."""
        return {
            "plan_version": PLAN_VERSION,
            "command": self.kind.command,
            "dataset": dict(self.dataset),
            "labels": list(self.labels),
            "counts": dict(self.counts),
            "input_spec": self.input_spec.to_dict(),
            "config": self.config.model_dump(mode="json"),
            "reasons": dict(self.reasons),
            "given": dict(self.given),
            "augmentation": dict(self.operations),
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read back the result of `to_dict`.

        Raises:
            RunError: The plan is of another command.
        """
        return cls(**cls.read_fields(content))

    @classmethod
    def read_fields(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that all plans have; commands read those that they add.

        Raises:
            RunError: The plan is of another command.
        """
        command = content["command"]
        if command != cls.kind.command:
            raise RunError(
                f"this is a run of cnnclf {command}, not of cnnclf {cls.kind.command}",
                f"continue with: cnnclf {command} --resume RUN",
            )
        config = cls.kind(**content["config"])
        reasons = _TEXTS.validate_python(content["reasons"])
        unknown = reasons.keys() - list_fields(cls.kind).keys()
        if unknown:
            raise ValueError(f"there is no setting {min(unknown)}")
        return {
            "config": config,
            "reasons": reasons,
            "given": _TEXTS.validate_python(content["given"]),
            "input_spec": InputSpec.from_dict(content["input_spec"]),
            "labels": _LIST.validate_python(content["labels"]),
            "counts": _COUNTS.validate_python(content["counts"]),
            "operations": _NUMBERS.validate_python(content["augmentation"]),
            "dataset": _read_dataset(content),
            "remarks": _LIST.validate_python(content["remarks"]),
        }


def parse_plan(path: Path, parse: Callable[[Mapping[str, Any]], _Parsed]) -> _Parsed:
    """Read and parse a plan.json, with errors that name the file.

    Raises:
        RunError: It is missing, damaged, from a newer version or of another command.
    """
    content = read_json(path, hint=COPY_HINT)
    check_version({"version": content.get("plan_version")}, PLAN_VERSION, path=path)
    try:
        return parse(content)
    except _DAMAGE as error:
        raise RunError(f"{path} is damaged: {describe_fault(error)}", COPY_HINT) from error


def count_threads(threads: int | str) -> int:
    """Return the number of threads that decode and gather; for auto, one per processor."""
    return threads if isinstance(threads, int) else count_usable_cpus()


def count_splits(dataset: Dataset) -> dict[str, int]:
    """Count the images of each split."""
    return {split: len(dataset.manifest.select(split)) for split in SPLITS}


def name_origin(dataset: Dataset) -> dict[str, str]:
    """Return name, path and fingerprint of a dataset."""
    return {
        "name": dataset.name,
        "path": str(dataset.directory.absolute()),
        "fingerprint": dataset.fingerprint,
    }


def name_errors(dataset: Dataset) -> tuple[str, ...]:
    """Name the findings of severity error of the last `cnnclf check`, in at most one line."""
    errors = load_errors(dataset)
    if not errors:
        return ()
    named = name_some([f"{check} ({count:,})" for check, count in errors.items()])
    return (f"cnnclf check found {count_of(sum(errors.values()), 'error')}: {named}",)


def resolve_data(data: _Data, spec: InputSpec, **more: str) -> _Data:
    """Return settings of the data in which nothing that an input spec has is "auto"."""
    own: dict[str, object] = {
        "image_size": (spec.height, spec.width),
        "fit": spec.fit,
        "range": spec.value_range or "type",
        "seconds": spec.sound.seconds if spec.sound else "auto",
    }
    return data.model_copy(update=own | more)


def is_gray(dataset: Dataset) -> bool:
    """Check whether all training images are gray."""
    manifest = dataset.manifest
    return all(map(is_gray_mode, {manifest.modes[row] for row in manifest.training_rows()}))


def read_origin(path: Path) -> dict[str, str]:
    """Read name, path and fingerprint of the dataset from a plan.json of any command.

    Raises:
        RunError: It is missing, damaged or from a newer version.
    """
    return parse_plan(path, _read_dataset)


def _read_dataset(content: Mapping[str, Any]) -> dict[str, str]:
    """Return name, path and fingerprint of the dataset of a plan.json."""
    dataset = _TEXTS.validate_python(content["dataset"])
    return {name: dataset[name] for name in ("name", "path", "fingerprint")} | dataset
