"""What `cnnclf finetune` freezes and trains, and the memory it needs, from a table of backbones."""

from dataclasses import dataclass
from itertools import pairwise

from cnnclf.config import HeadConfig
from cnnclf.models.anatomy import Anatomy, LayerRow
from cnnclf.models.backbone_costs import plan_stages
from cnnclf.planning.finetune_plan import FinetunePlan


@dataclass(frozen=True)
class FinetuneParts:
    """The network of a plan, on paper.

    Args:
        frozen: Stages that are never trained.
        tail: Stages that the second phase trains.
        head: The new layers.
    """

    frozen: Anatomy
    tail: Anatomy
    head: Anatomy


def plan_parts(plan: FinetunePlan) -> FinetuneParts:
    """Return what a plan freezes and trains."""
    spec, stage = plan.input_spec, plan.frozen_stage
    stages = plan_stages(plan.backbone, height=spec.height, width=spec.width).layers
    names = plan.backbone.stage_names
    cut = len(names) if stage is None else names.index(stage) + 1 if stage else 0
    head = plan_head(Anatomy(stages), plan.config.head, classes=len(plan.labels))
    return FinetuneParts(Anatomy(stages[:cut]), Anatomy(stages[cut:]), Anatomy((head,)))


def plan_head(stages: Anatomy, config: HeadConfig, *, classes: int) -> LayerRow:
    """Return the new layers on the features of a backbone."""
    (features,) = stages.layers[-1].output_shape
    features *= 2 if config.pooling == "both" else 1
    widths = [features, *([config.units] if config.units else []), classes]
    weights = sum(inputs * outputs for inputs, outputs in pairwise(widths))
    return LayerRow("head", "dense", (classes,), weights + sum(widths[1:]), weights)


def count_memory(plan: FinetunePlan) -> int:
    """Return the bytes of all weights, of the optimizer, and of the outputs of a training batch."""
    parts, batch = plan_parts(plan), int(plan.config.training.batch_size)
    optimizer = plan.config.optimizer.name
    trained = Anatomy((*parts.tail.layers, *parts.head.layers))
    return trained.training_bytes(batch, optimizer) + parts.frozen.weight_bytes
