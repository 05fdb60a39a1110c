"""`cnnclf finetune`: fine-tunes a pretrained backbone, from plan to tested model."""

from functools import partial
from typing import TYPE_CHECKING

from cnnclf.cli import options
from cnnclf.cli.network_tables import GroupedCount
from cnnclf.cli.output import out
from cnnclf.cli.plan_words import describe_memory, describe_time
from cnnclf.cli.settings import add_settings, given_settings
from cnnclf.cli.training_commands import (
    Assignments,
    ConfigFile,
    DryRun,
    Force,
    Out,
    Planning,
    Request,
    Resume,
    Source,
    Track,
    Trainer,
    Verbose,
    run_training,
)
from cnnclf.config import FinetuneConfig
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.config import TailConfig
    from cnnclf.planning.finetune_plan import FinetunePlan


@partial(add_settings, kind=FinetuneConfig)
def finetune_command(
    dataset: Source = None,
    out_: Out = None,
    config: ConfigFile = None,
    set_: Assignments = None,
    resume: Resume = None,
    force: Force = False,
    overwrite: options.Overwrite = False,
    track: Track = None,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    **settings: object,
) -> int:
    """Fine-tune a pretrained backbone on a dataset.

    The first phase trains a new head on the frozen backbone, whose outputs are computed once and
    cached on disk; the second phase also trains the last stages. The better of both phases is
    saved and evaluated on the test split.
    """
    request = Request(
        source=dataset,
        target=out_,
        file=config,
        assignments=tuple(set_ or ()),
        given=given_settings(settings, kind=FinetuneConfig),
        resume=resume,
        force=force,
        track=tuple(track or ()),
        overwrite=overwrite,
        dry_run=dry_run,
        verbose=verbose,
    )
    return run_training(request, _TRAINER)


def _load_planning() -> "Planning[FinetunePlan]":
    from cnnclf.planning.finetune_plan import FinetunePlan, check_settings, plan_finetuning

    return Planning(check_settings, plan_finetuning, FinetunePlan.from_dict)


def _fetch_weights(plan: "FinetunePlan", progress: Progress) -> None:
    from cnnclf.models.weights.sources import fetch_weights

    fetch_weights(plan.weights, progress=progress)


def _describe(plan: "FinetunePlan") -> dict[str, str]:
    from cnnclf.names import count_of
    from cnnclf.planning.finetune_memory import count_memory

    config, row = plan.config, plan.backbone
    head, training = config.head, config.training
    hidden = f", {head.units} hidden units" if head.units else ""
    rates = (
        "learning rate and weight decay searched"
        if head.search
        else f"learning rate {head.learning_rate:g}"
    )
    lines = {
        "backbone": f"{row.name}, weights {plan.weights.summary}, {row.parameters:,} parameters",
        "head": f"{head.pooling.replace('_', ' ')} pooling{hidden}, dropout {head.dropout:g}, "
        f"{count_of(head.epochs, 'epoch')}, {rates}, {head.schedule} schedule",
    }
    if plan.frozen_stage is not None:
        lines["tail"] = _describe_tail(config.tail, plan.frozen_stage)
    lines["training"] = (
        f"batch {training.batch_size}, {config.optimizer.name}, label smoothing "
        f"{training.label_smoothing:g}, patience {training.patience or 'none'}"
    )
    augmentation = _describe_augmentation(plan)
    if augmentation:
        lines["augmentation"] = augmentation
    if expected := describe_time(plan):
        lines["time"] = expected
    lines["memory"] = describe_memory(plan, count_memory(plan), where=" in trained layers")
    return lines


def _show_stages(plan: "FinetunePlan") -> None:
    """Show the stages of the backbone, which ones are trained, and what they cost."""
    from cnnclf.files import format_bytes
    from cnnclf.planning.finetune_memory import plan_parts

    parts = plan_parts(plan)
    phases = (
        ("none", parts.frozen),
        ("tail", parts.tail),
        ("head, tail" if parts.tail.layers else "head", parts.head),
    )
    out.table(
        "stages",
        ("stage", "trained in phase", "parameters", "MACs", "outputs per image"),
        rows=[
            (
                layer.name,
                phase,
                GroupedCount(layer.parameters),
                GroupedCount(layer.macs),
                format_bytes(layer.activation_bytes),
            )
            for phase, part in phases
            for layer in part.layers
        ],
    )


def _describe_augmentation(plan: "FinetunePlan") -> str:
    """Describe the augmentation: once for cached views, in every epoch for images."""
    from cnnclf.planning.finetune_plan import plan_operations

    features = plan.config.features
    kinds = [(f"{features.views} cached views", False)] if features.cache else []
    if not features.cache or plan.frozen_stage == "":
        kinds.append((f"every epoch{' of the tail' if features.cache else ''}", True))
    parts = []
    for when, on_pixels in kinds:
        operations = plan_operations(plan.config, on_pixels=on_pixels)
        if operations:
            names = ", ".join(f"{name} {value:g}" for name, value in operations.items())
            parts.append(f"{when}: {names}")
    return "; ".join(parts)


def _describe_tail(tail: "TailConfig", frozen: str) -> str:
    from cnnclf.names import count_of

    what = f"the stages after {frozen}" if frozen else "the whole network"
    decay = ""
    if float(tail.layer_decay) < 1:
        decay = f" times {tail.layer_decay:g} per stage towards the input"
    return (
        f"{what}, {count_of(int(tail.epochs), 'epoch')}, learning rate {tail.learning_rate:g}"
        f"{decay}, {tail.schedule} schedule"
    )


_TRAINER = Trainer(
    FinetuneConfig, _load_planning, _describe, _show_stages, _fetch_weights, has_phases=True
)
