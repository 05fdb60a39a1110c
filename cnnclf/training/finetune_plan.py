"""From settings and a dataset to a plan for fine-tuning in which nothing is left open.

Needs no TensorFlow: `--dry-run` shows the plan at once. The one setting that may stay "auto" is the
head's learning rate and weight decay with a search: what it chose is in run.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnclf.config import FinetuneConfig
from cnnclf.data.augment import AUGMENTATIONS, choose_operations
from cnnclf.data.images import InputSpec
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError, RunError
from cnnclf.models.backbones import Backbone, check_size, find_backbone
from cnnclf.models.transfer import choose_frozen_stage
from cnnclf.training import choices
from cnnclf.training.plan import Plan, count_splits, is_grey, name_origin

HEAD_LEARNING_RATE = 3e-3
HEAD_WEIGHT_DECAY = 0.01

_PICTURES_FOR_A_TAIL = 10  # per class


@dataclass(frozen=True, kw_only=True)
class FinetunePlan(Plan[FinetuneConfig]):
    """Everything `cnnclf finetune` will do; the head's rates stay open where they are searched."""

    kind = FinetuneConfig

    @property
    def backbone(self) -> Backbone:
        """The row of the backbone."""
        return find_backbone(self.config.backbone.name)

    @property
    def frozen_stage(self) -> str | None:
        """The last frozen stage in the second phase; empty: none is; None: no second phase."""
        return choose_frozen_stage(self.backbone, self.config.tail.unfreeze)


def plan_finetuning(
    config: FinetuneConfig, dataset: Dataset, *, given: Mapping[str, str] | None = None
) -> FinetunePlan:
    """Resolve every "auto" for this dataset and find the weights.

    Args:
        config: Settings as the user gave them.
        dataset: What to train on; only its manifest is read.
        given: Where each given setting came from.

    Raises:
        ConfigError: Settings do not go together or do not fit the backbone.
        RunError: The file of weights is not there.
        MissingPackageError: The package that brings the weights is not there.
    """
    row = find_backbone(config.backbone.name)
    find_weights(row, config.backbone.weights)
    reasons: dict[str, str] = {}
    counts = count_splits(dataset)
    spec = _plan_input(config, row, reasons)
    batch_size, patience = config.training.batch_size, config.training.patience
    if batch_size == "auto":
        batch_size, reasons["training.batch_size"] = choices.choose_batch_size(counts["train"])
    if patience == "auto":
        patience = 5 if counts["val"] else 0
        reasons["training.patience"] = (
            "fine-tuning settles within a few epochs"
            if patience
            else "there is no val split to judge by"
        )
    tail = config.tail
    if tail.unfreeze == "auto":
        unfreeze, reasons["tail.unfreeze"] = _choose_unfreeze(row, counts, len(dataset.labels))
        tail = tail.model_copy(update={"unfreeze": unfreeze})
    resolved = config.model_copy(
        update={
            "backbone": config.backbone.model_copy(update={"name": row.name}),
            "data": config.data.model_copy(
                update={"image_size": (spec.height, spec.width), "fit": spec.fit}
            ),
            "tail": tail,
            "head": _plan_head(config, counts, reasons),
            "training": config.training.model_copy(
                update={"batch_size": batch_size, "patience": patience}
            ),
        }
    )
    plan = FinetunePlan(
        config=resolved,
        reasons=reasons,
        given=dict(given or {}),
        input_spec=spec,
        labels=dataset.labels,
        counts=counts,
        operations=_plan_augmentation(config),
        dataset=name_origin(dataset),
        remarks=_remark(dataset, counts, row),
    )
    choose_frozen_stage(row, tail.unfreeze)  # refuses what is no stage, before anything is loaded
    return plan


def find_weights(row: Backbone, weights: str) -> Path | None:
    """Find the file that a setting of weights means; None for random weights.

    Raises:
        RunError: It is not there.
        MissingPackageError: The package that brings it is not there.
    """
    from cnnclf.models.weights import find_packaged_lite0, find_published_file

    if weights == "none":
        return None
    if weights == "imagenet":
        return find_packaged_lite0() if row.imagenet.package else find_published_file(row)
    path = Path(weights)
    if not path.is_file():
        raise RunError(
            f"expected imagenet, none or a file of weights, found no file {weights}",
            "--weights imagenet",
        )
    return path


def _plan_input(config: FinetuneConfig, row: Backbone, reasons: dict[str, str]) -> InputSpec:
    size, fit = config.data.image_size, config.data.fit
    if size == "auto":
        size = (row.default_size, row.default_size)
        reasons["data.image_size"] = f"{row.name} was trained on {size[0]}x{size[1]}"
    check_size(row, height=size[0], width=size[1])
    how: str = fit
    if fit == "auto":
        how, reasons["data.fit"] = "crop", "shapes stay as the backbone knows them"
    return InputSpec(size[0], size[1], channels=3, fit=how, interpolation="bicubic")


def _choose_unfreeze(row: Backbone, counts: Mapping[str, int], labels: int) -> tuple[str, str]:
    if counts["train"] < _PICTURES_FOR_A_TAIL * labels:
        return "none", f"fewer than {_PICTURES_FOR_A_TAIL} training pictures per class"
    if len({"stem", "final"} & set(row.stage_names)) == 2:
        return "2", "the last stage of blocks, and the single convolution behind it"
    return "1", "the last stage"


def _plan_head(config: FinetuneConfig, counts: Mapping[str, int], reasons: dict[str, str]) -> Any:
    head = config.head
    why = ""
    if not config.features.cache:
        why = "there are no cached features to try on"
    elif not counts["val"]:
        why = "there is no val split to choose by"
    elif head.units:
        why = "it is for heads without a hidden layer"
    elif "auto" not in (head.learning_rate, head.weight_decay):
        why = "both rates are given"
    if head.search and why:
        reasons["head.search"] = f"off: {why}"
        head = head.model_copy(update={"search": False})
    if head.search:
        return head
    update: dict[str, float] = {}
    if head.learning_rate == "auto":
        update["learning_rate"] = HEAD_LEARNING_RATE
        reasons["head.learning_rate"] = "a rate that most heads bear"
    if head.weight_decay == "auto":
        update["weight_decay"] = HEAD_WEIGHT_DECAY
        reasons["head.weight_decay"] = "the usual one"
    return head.model_copy(update=update)


def _plan_augmentation(config: FinetuneConfig) -> dict[str, float]:
    """Choose the operations; cached views cannot be mixed with each other."""
    single = config.augment.model_dump(exclude={"preset"})
    operations = choose_operations(config.augment.preset, single)
    if not config.features.cache:
        return operations
    if config.features.views == 1:
        return {}
    mixing = [name for name in operations if AUGMENTATIONS[name].stage == "mix"]
    if any(single.get(name) for name in mixing):
        raise ConfigError(
            f"expected no {' or '.join(mixing)} with cached features: views are made one by one",
            "--no-feature-cache",
        )
    return {name: value for name, value in operations.items() if name not in mixing}


def _remark(dataset: Dataset, counts: Mapping[str, int], row: Backbone) -> tuple[str, ...]:
    remarks = []
    if is_grey(dataset):
        remarks.append(
            f"all training pictures are grey: their values are repeated for the three colours that "
            f"{row.name} takes"
        )
    if not counts["val"]:
        remarks.append("no val split: the last epoch is kept as the best")
    return tuple(remarks)
