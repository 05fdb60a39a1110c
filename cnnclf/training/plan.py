"""From settings and a dataset to a plan in which nothing is left open.

Every "auto" is resolved here, with its reason in words; `plan.json` keeps both. Nothing here loads
TensorFlow, so `--dry-run` can show the plan at once. The device and its precision are the one
exception: they are found when the run starts (`runtime.py`) and kept in `run.json`.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.config import ModelConfig, TrainConfig
from cnnclf.data.augment import PRESETS as AUGMENT_PRESETS
from cnnclf.data.images import InputSpec
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError, RunError
from cnnclf.models.anatomy import LayerPlan, count_macs, count_parameters, plan_layers

PLAN_VERSION = 1

_FILTERS = {
    1: [32],
    2: [32, 64],
    3: [32, 64, 96],
    4: [24, 48, 80, 112],
    5: [16, 32, 64, 96, 128],
    6: [16, 24, 48, 80, 112, 144],
}
_GREY_MODES = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"})


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
        rate, reason = _plan_learning_rate(optimizer.name, batch_norm=model.batch_norm)
        optimizer = optimizer.model_copy(update={"learning_rate": rate})
        reasons["optimizer.learning_rate"] = reason
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
            "path": str(dataset.directory),
            "fingerprint": dataset.fingerprint,
        },
        remarks=() if counts["val"] else ("no val split: the last epoch is kept as the best",),
    )


def count_threads(config: TrainConfig) -> int:
    """Return how many threads decode and gather: as given, or one per processor."""
    threads = config.runtime.threads
    return (os.cpu_count() or 1) if threads == "auto" else threads


def _plan_input(config: TrainConfig, dataset: Dataset, reasons: dict[str, str]) -> InputSpec:
    manifest = dataset.manifest
    rows = manifest.select("train")
    rows = rows if len(rows) else np.arange(len(manifest))
    heights, widths = manifest.heights[rows], manifest.widths[rows]
    size = config.data.image_size
    if size == "auto":
        size, reasons["data.image_size"] = _choose_size(heights, widths)
    color = config.data.color
    if color == "auto":
        all_grey = {manifest.modes[row] for row in rows} <= _GREY_MODES
        color = "grey" if all_grey else "rgb"
        reasons["data.color"] = (
            "all training pictures are grey" if all_grey else "some training pictures have colours"
        )
    fit = config.data.fit
    if fit == "auto":
        distortion = np.abs(np.log((heights / widths) / (size[0] / size[1])))
        alike = bool(np.mean(distortion < math.log(1.1)) > 0.98)
        fit = "squash" if alike else "pad"
        reasons["data.fit"] = (
            "the pictures have this shape already"
            if alike
            else "shapes differ; padding keeps all of each picture and its proportions"
        )
    return InputSpec(size[0], size[1], channels=1 if color == "grey" else 3, fit=fit)


def _choose_size(heights: Any, widths: Any) -> tuple[tuple[int, int], str]:
    height, width = round(float(np.median(heights))), round(float(np.median(widths)))
    same = bool(np.all(heights == height) and np.all(widths == width))
    if same and max(height, width) <= 128:
        return (height, width), f"all pictures are {height}x{width}"
    side = min(128, max(16, min(height, width)))
    reason = f"the median picture is {height}x{width}"
    if side == 128:
        reason += "; 128 is a size that trains from scratch in reasonable time"
    return (side, side), reason


def _plan_model(
    model: ModelConfig, spec: InputSpec, reasons: dict[str, str], given: Mapping[str, str]
) -> ModelConfig:
    blocks, filters = model.blocks, model.filters
    if filters != "auto" and given.get("model.blocks", "preset").startswith("preset"):
        blocks = len(filters)  # a list of filters says how many blocks there are
    if blocks == "auto":
        side = min(spec.height, spec.width)
        blocks = min(6, max(1, round(math.log2(max(side, 1) / 7)) + 1))
        reasons["model.blocks"] = (
            f"halving {side} pixels {blocks - 1} times leaves maps of about "
            f"{max(1, side >> (blocks - 1))}x{max(1, side >> (blocks - 1))}"
        )
    elif given.get("model.filters", "").startswith("preset") and filters != "auto":
        filters = filters if len(filters) == blocks else "auto"
    if filters == "auto":
        filters = _FILTERS.get(blocks) or [16 * (block + 1) for block in range(blocks)]
        reasons["model.filters"] = f"the usual widths for {blocks} blocks"
    convs = model.convs_per_block
    if convs == "auto":
        convs = [2 if 0 < block < blocks - 1 else 1 for block in range(blocks)]
        reasons["model.convs_per_block"] = (
            "one where maps are large and compute is dear, two in the middle"
        )
    elif len(convs) == 1:
        convs = convs * blocks
    pool_stride = model.pool_size if model.pool_stride == "auto" else model.pool_stride
    return model.model_copy(
        update={
            "blocks": blocks,
            "filters": list(filters),
            "convs_per_block": list(convs),
            "pool_stride": pool_stride,
        }
    )


def _plan_training(config: TrainConfig, counts: Mapping[str, int], reasons: dict[str, str]) -> Any:
    training, count = config.training, counts["train"]
    batch = training.batch_size
    if batch == "auto":
        batch = 128 if count >= 10_000 else 64 if count >= 2_000 else 32
        while batch > 4 and batch * 4 > count:
            batch //= 2
        reasons["training.batch_size"] = f"{count} training pictures"
    epochs = training.epochs
    if epochs == "auto":
        steps = max(1, math.ceil(count / batch))
        epochs = min(60, max(15, math.ceil(1500 / steps)))
        reasons["training.epochs"] = (
            f"about 1500 steps of {batch} pictures, between 15 and 60 epochs"
        )
    patience = training.patience
    if patience == "auto":
        patience = min(30, epochs, max(5, round(30_000 / max(1, count))))
        reasons["training.patience"] = f"fewer pictures make noisier epochs; {count} here"
        if counts["val"] == 0:
            patience, reasons["training.patience"] = 0, "there is no val split to judge by"
    return training.model_copy(update={"batch_size": batch, "epochs": epochs, "patience": patience})


def _plan_learning_rate(optimizer: str, *, batch_norm: bool) -> tuple[float, str]:
    rates = {
        "adam": (4e-3, 1e-3),
        "adamw": (4e-3, 1e-3),
        "rmsprop": (1e-3, 5e-4),
        "sgd": (0.1, 0.01),
    }
    with_norm, without = rates[optimizer]
    if batch_norm:
        return with_norm, f"{optimizer} with batch normalization"
    return without, f"{optimizer} without batch normalization"


def _plan_augmentation(
    config: TrainConfig, spec: InputSpec, given: Mapping[str, str], reasons: dict[str, str]
) -> dict[str, float]:
    augment = config.augment
    single = augment.model_dump(exclude={"preset"}, exclude_none=True)
    strengths = dict(AUGMENT_PRESETS[augment.preset]) | single
    operations = {name: strength for name, strength in strengths.items() if strength}
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


def read_dataset_path(plan: RunPlan) -> Path:
    """Return where the plan's dataset lay when it was made."""
    return Path(plan.dataset["path"])
