"""What can be tuned: one row per training command, with the space that is searched by default."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from cnnclf.config import FinetuneConfig, TrainConfig
from cnnclf.models.backbones import BACKBONES
from cnnclf.models.weights.sources import IMAGENET, find_weights
from cnnclf.planning.finetune_plan import FinetunePlan, plan_finetuning
from cnnclf.planning.train_plan import TrainPlan, plan_training
from cnnclf.tuning.space import Space, read_space

AnyPlan = TrainPlan | FinetunePlan

# Heads on cached features take seconds: their rates are searched exhaustively.
_HEAD_SEARCH = {
    "head.search_rates": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "head.search_decays": [0.001, 0.01, 0.1, 0.3],
}


@dataclass(frozen=True)
class Recipe:
    """How a training command is tuned.

    Args:
        kind: Its settings.
        plan: Plans a run of it.
        epochs: The setting with the epochs that rungs are thirds of.
        fixed: Settings that cannot be searched, because trials are compared after equal epochs.
        cost: Multiply-accumulates of an image; only ratios of them are used.
        space: Makes the default space around a plan.
        others: Settings of every trial but the default, unless they are fixed or searched.
    """

    kind: type[TrainConfig] | type[FinetuneConfig]
    plan: Callable[..., Any]
    epochs: str
    fixed: tuple[str, ...]
    cost: Callable[[Any], float]
    space: Callable[[Any], Mapping[str, Any]]
    others: Mapping[str, Any] = field(default_factory=dict)

    def count_epochs(self, plan: AnyPlan) -> int:
        """Return the epochs of a whole training, without those of a head on a frozen backbone."""
        return int(attrgetter(self.epochs)(plan.config))

    def default_space(self, plan: AnyPlan) -> Space:
        """Make a space around the plan of the default configuration."""
        return self.read_space(self.space(plan), source="default space")

    def read_space(self, content: Mapping[str, Any], *, source: str) -> Space:
        """Read a space of its settings, as `space.read_space` does."""
        return read_space(content, source=source, kind=self.kind, fixed=self.fixed)


def _search_network(plan: TrainPlan) -> Mapping[str, Any]:
    batch = int(plan.config.training.batch_size)
    filters = [int(each) for each in plan.config.model.filters]
    widths = [filters]
    widths += [
        [max(8, round(factor * each / 8) * 8) for each in filters] for factor in (0.5, 1.5, 2.0)
    ]
    if len(widths[0]) > 1:
        widths.insert(0, widths[0][:-1])
    return {
        "optimizer.name": ["muon", "adamw"],
        "optimizer.learning_rate": {"low": 0.125, "high": 4.0, "log": True, "relative": True},
        "optimizer.weight_decay": {"low": 0.001, "high": 0.3, "log": True}
        | {"when": {"optimizer.name": ["adamw"]}},
        "training.batch_size": sorted({max(4, batch // 2), batch, 2 * batch}),
        "training.label_smoothing": {"low": 0.0, "high": 0.2},
        "model.filters": [list(each) for each in dict.fromkeys(map(tuple, widths))],
        "model.convs_per_block": ["auto", [1], [2], [3]],
        "model.kernel_size": [3, 5],
        "model.activation": ["relu", "gelu", "swish"],
        "model.pooling": ["max", "average"],
        "model.top": ["global_average", "global_max"],
        "model.dense_units": [[], [128]],
        "model.dropout": {"low": 0.0, "high": 0.5},
        "augment.preset": ["none", "sound"]
        if plan.input_spec.sound
        else ["none", "light", "medium", "strong"],
    }


def _search_backbone(plan: FinetunePlan) -> Mapping[str, Any]:
    """Search backbones whose weights are here; rates of the head are tried on cached features."""
    here = [row.name for row in BACKBONES if find_weights(row, IMAGENET).is_here]
    unfreeze = ["none", "1", "2", "3"]
    if plan.config.tail.unfreeze.isdecimal():  # the automatic number is one of those tried
        unfreeze += sorted({plan.config.tail.unfreeze} - set(unfreeze))
    when = {"when": {"tail.unfreeze": unfreeze[1:]}}
    is_free = plan.config.backbone.weights == IMAGENET and len(here) > 1
    return ({"backbone.name": here} if is_free else {}) | {
        "head.pooling": ["global_average", "global_max", "both"],
        "head.units": [0, 256],
        "head.dropout": {"low": 0.0, "high": 0.5},
        "training.label_smoothing": {"low": 0.0, "high": 0.2},
        "tail.unfreeze": unfreeze,
        "tail.learning_rate": {"low": 0.25, "high": 4.0, "log": True, "relative": True} | when,
        "tail.layer_decay": {"low": 0.5, "high": 1.0} | when,
        "tail.weight_decay": {"low": 0.001, "high": 0.1, "log": True} | when,
    }


def _count_backbone(plan: FinetunePlan) -> float:
    row, spec = plan.backbone, plan.input_spec
    return row.gmacs * 1e9 * spec.height * spec.width / row.default_size**2


RECIPES = {
    "train": Recipe(
        TrainConfig,
        plan_training,
        "training.epochs",
        ("training.epochs", "training.minutes"),
        attrgetter("macs"),
        _search_network,
    ),
    "finetune": Recipe(
        FinetuneConfig,
        plan_finetuning,
        "tail.epochs",
        ("tail.epochs",),
        _count_backbone,
        _search_backbone,
        _HEAD_SEARCH,
    ),
}
