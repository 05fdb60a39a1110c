"""From settings and a dataset to a plan in which nothing is left open.

Every "auto" is resolved here, with its reason in words; `plan.json` keeps both. Nothing here loads
TensorFlow, so `--dry-run` can show the plan at once. The device and its precision are the one
exception: they are found when the run starts (`runtime.py`) and kept in `run.json`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cnnclf.config import ModelConfig, TrainConfig, TrainingConfig
from cnnclf.data.augment import choose_operations
from cnnclf.data.images import InputSpec
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError, RunError
from cnnclf.files import check_version, read_json
from cnnclf.hardware import count_usable_cpus
from cnnclf.models.anatomy import LayerPlan, count_macs, count_parameters, plan_layers
from cnnclf.training import choices

if TYPE_CHECKING:
    from cnnclf.training.finetune_plan import FinetunePlan

PLAN_VERSION = 1

_Plan = TypeVar("_Plan")

GREY_MODES = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"})


@dataclass(frozen=True)
class RunPlan:
    """Everything a training run will do, decided before the first epoch.

    Args:
        config: Settings without any "auto" but device, precision and threads.
        reasons: Why each "auto" became what it is, by dotted key.
        given: Which settings were given and where, by dotted key.
        input_spec: What the network sees.
        labels: Labels in the order of the outputs.
        counts: Pictures per split.
        layers: The network on paper.
        operations: Augmentation in force, as {operation: strength}.
        dataset: Name, path and fingerprint of the dataset.
        remarks: Advice about the data, for the screen.
    """

    config: TrainConfig
    reasons: Mapping[str, str]
    given: Mapping[str, str]
    input_spec: InputSpec
    labels: tuple[str, ...]
    counts: Mapping[str, int]
    layers: tuple[LayerPlan, ...]
    operations: Mapping[str, float]
    dataset: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return count_parameters(self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        return count_macs(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `plan.json`."""
        return {
            "plan_version": PLAN_VERSION,
            "dataset": dict(self.dataset),
            "labels": list(self.labels),
            "counts": dict(self.counts),
            "input_spec": self.input_spec.to_dict(),
            "config": self.config.model_dump(mode="json"),
            "reasons": dict(self.reasons),
            "given": dict(self.given),
            "augmentation": dict(self.operations),
            "parameters": self.parameters,
            "macs": self.macs,
            "layers": [asdict(layer) for layer in self.layers],
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RunPlan":
        """Read back what `to_dict` gave.

        Raises:
            RunError: The plan is from a newer version.
        """
        if content.get("plan_version") != PLAN_VERSION:
            raise RunError(
                f"expected plan version {PLAN_VERSION}, received {content.get('plan_version')!r}",
                "use the version of cnnclf that made this run",
            )
        if content.get("command", "train") != "train":
            raise RunError(
                f"expected a run of cnnclf train, received one of cnnclf {content['command']}",
                f"cnnclf {content['command']} --resume RUN",
            )
        layers = tuple(
            LayerPlan(**{**layer, "output_shape": tuple(layer["output_shape"])})
            for layer in content["layers"]
        )
        return cls(
            config=TrainConfig.model_validate(content["config"]),
            reasons=content["reasons"],
            given=content["given"],
            input_spec=InputSpec.from_dict(content["input_spec"]),
            labels=tuple(content["labels"]),
            counts=content["counts"],
            layers=layers,
            operations=content["augmentation"],
            dataset=content["dataset"],
            remarks=tuple(content["remarks"]),
        )


def read_plan(path: Path) -> RunPlan:
    """Read a plan.json of `cnnclf train`.

    Raises:
        RunError: It is missing, damaged, from a newer version or of another command.
    """
    return parse_plan(path, RunPlan.from_dict)


def parse_plan(path: Path, parse: Callable[[Mapping[str, Any]], _Plan]) -> _Plan:
    """Read a plan.json and make something of it, with an error that names the file.

    Args:
        path: The file.
        parse: Makes a plan of its content.

    Raises:
        RunError: It is missing, damaged, from a newer version or of another command.
    """
    hint = "copy the whole run directory again, or train again"
    content = read_json(path, hint=hint)
    check_version({"version": content.get("plan_version")}, PLAN_VERSION, path)
    try:
        return parse(content)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path} is damaged: {' '.join(reason.split())}", hint) from error


def plan_training(
    config: TrainConfig, dataset: Dataset, *, given: Mapping[str, str] | None = None
) -> RunPlan:
    """Resolve every "auto" for this dataset.

    Args:
        config: Settings as the user gave them.
        dataset: What to train on; only its manifest is read.
        given: Where each given setting came from.

    Returns:
        The plan.

    Raises:
        ConfigError: Settings do not go together or do not fit the pictures.
    """
    given = dict(given or {})
    reasons: dict[str, str] = {}
    counts = {split: len(dataset.manifest.select(split)) for split in ("train", "val", "test")}
    spec = _plan_input(config, dataset, reasons)
    model = _plan_model(config.model, spec, reasons, given)
    training = _plan_training(config, counts, reasons)
    optimizer = config.optimizer
    if optimizer.learning_rate == "auto":
        rate, reasons["optimizer.learning_rate"] = choices.choose_learning_rate(
            optimizer.name, batch_norm=model.batch_norm
        )
        optimizer = optimizer.model_copy(update={"learning_rate": rate})
    operations = _plan_augmentation(config, spec, given, reasons)
    data = config.data.model_copy(
        update={
            "image_size": (spec.height, spec.width),
            "color": "grey" if spec.channels == 1 else "rgb",
            "fit": spec.fit,
        }
    )
    resolved = config.model_copy(
        update={"data": data, "model": model, "training": training, "optimizer": optimizer}
    )
    return RunPlan(
        config=resolved,
        reasons=reasons,
        given=given,
        input_spec=spec,
        labels=dataset.labels,
        counts=counts,
        layers=plan_layers(model, (spec.height, spec.width, spec.channels), len(dataset.labels)),
        operations=operations,
        dataset={
            "name": dataset.name,
            "path": str(dataset.directory.absolute()),
            "fingerprint": dataset.fingerprint,
        },
        remarks=() if counts["val"] else ("no val split: the last epoch is kept as the best",),
    )


def count_threads(config: TrainConfig) -> int:
    """Return how many threads decode and gather: as given, or one per processor."""
    threads = config.runtime.threads
    return count_usable_cpus() if threads == "auto" else threads


def _plan_input(config: TrainConfig, dataset: Dataset, reasons: dict[str, str]) -> InputSpec:
    manifest = dataset.manifest
    rows = manifest.select("train")
    rows = rows if len(rows) else np.arange(len(manifest))
    heights, widths = manifest.heights[rows], manifest.widths[rows]
    size, color, fit = config.data.image_size, config.data.color, config.data.fit
    if size == "auto":
        size, reasons["data.image_size"] = choices.choose_size(heights, widths)
    if color == "auto":
        all_grey = {manifest.modes[row] for row in rows} <= GREY_MODES
        color = "grey" if all_grey else "rgb"
        reasons["data.color"] = (
            "all training pictures are grey" if all_grey else "some training pictures have colours"
        )
    how: str = fit
    if fit == "auto":
        how, reasons["data.fit"] = choices.choose_fit(heights, widths, size)
    return InputSpec(size[0], size[1], channels=1 if color == "grey" else 3, fit=how)


def _plan_model(
    model: ModelConfig, spec: InputSpec, reasons: dict[str, str], given: Mapping[str, str]
) -> ModelConfig:
    blocks, filters, convs = model.blocks, model.filters, model.convs_per_block
    if filters != "auto" and _is_open(given, "model.blocks"):
        blocks = len(filters)  # a list of filters says how many blocks there are
    if blocks == "auto":
        blocks, reasons["model.blocks"] = choices.choose_blocks(spec.height, spec.width)
    if filters == "auto" or (_is_open(given, "model.filters") and len(filters) != blocks):
        filters, reasons["model.filters"] = choices.choose_filters(blocks)
    if convs == "auto":
        convs, reasons["model.convs_per_block"] = choices.choose_convs(blocks)
    return model.model_copy(
        update={
            "blocks": blocks,
            "filters": list(filters),
            "convs_per_block": list(convs) * (blocks if len(convs) == 1 else 1),
            "pool_stride": model.pool_size if model.pool_stride == "auto" else model.pool_stride,
        }
    )


def _is_open(given: Mapping[str, str], key: str) -> bool:
    """Tell whether a setting was left to us: not given, or only by a preset."""
    return given.get(key, "preset").startswith("preset")


def _plan_training(
    config: TrainConfig, counts: Mapping[str, int], reasons: dict[str, str]
) -> TrainingConfig:
    training, count = config.training, counts["train"]
    batch_size, epochs, patience = training.batch_size, training.epochs, training.patience
    if batch_size == "auto":
        batch_size, reasons["training.batch_size"] = choices.choose_batch_size(count)
    if epochs == "auto":
        epochs, reasons["training.epochs"] = choices.choose_epochs(count, batch_size)
    if patience == "auto":
        patience, reasons["training.patience"] = choices.choose_patience(
            count, epochs, has_val=counts["val"] > 0
        )
    return training.model_copy(
        update={"batch_size": batch_size, "epochs": epochs, "patience": patience}
    )


def _plan_augmentation(
    config: TrainConfig, spec: InputSpec, given: Mapping[str, str], reasons: dict[str, str]
) -> dict[str, float]:
    augment = config.augment
    operations = choose_operations(augment.preset, augment.model_dump(exclude={"preset"}))
    if operations.get("hue") and spec.channels == 1:
        if "augment.hue" in given:
            raise ConfigError(
                "expected colour pictures for augment.hue, received grey ones", "--color rgb"
            )
        del operations["hue"]
    if "augment.preset" not in given:
        reasons["augment.preset"] = (
            "no flip or turn by default: files cannot tell whether that would change the class"
        )
    return operations


def read_dataset_path(plan: "RunPlan | FinetunePlan | PlanOrigin") -> Path:
    """Return where the plan's dataset lay when it was made."""
    return Path(plan.dataset["path"])


@dataclass(frozen=True)
class PlanOrigin:
    """What plans of all commands say about where they came from.

    Args:
        dataset: Name, path and fingerprint of the dataset.
        seed: Seed of the run.
    """

    dataset: Mapping[str, str]
    seed: int


def read_origin(path: Path) -> PlanOrigin:
    """Read where a plan.json of any command came from.

    Raises:
        RunError: It is missing, damaged or from a newer version.
    """
    return parse_plan(
        path,
        lambda content: PlanOrigin(
            dict(content["dataset"]), int(content["config"]["runtime"]["seed"])
        ),
    )
