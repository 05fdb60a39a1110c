"""`cnnclf train`: trains a Sequential CNN on a dataset, from plan to tested model."""

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
    Extend,
    Force,
    Out,
    Planning,
    Request,
    Resume,
    Source,
    Track,
    Trainer,
    Verbose,
    extend_training,
    run_training,
)
from cnnclf.config import TrainConfig
from cnnclf.names import count_of, join_sides

if TYPE_CHECKING:
    from cnnclf.planning.train_plan import TrainPlan


@add_settings
def train_command(
    dataset: Source = None,
    out_: Out = None,
    config: ConfigFile = None,
    set_: Assignments = None,
    resume: Resume = None,
    extend: Extend = None,
    force: Force = False,
    overwrite: options.Overwrite = False,
    track: Track = None,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    **settings: object,
) -> int:
    """Train a CNN on a dataset.

    Every setting can be given as an option, in a TOML file (--config) or with --set. The best epoch
    and the last state are saved in the run directory, and the best epoch is evaluated on the test
    split. Images that cannot be read are reported and skipped, and the exit code is 7.
    """
    request = Request(
        source=dataset,
        target=out_,
        file=config,
        assignments=tuple(set_ or ()),
        given=given_settings(settings),
        resume=resume,
        force=force,
        track=tuple(track or ()),
        overwrite=overwrite,
        dry_run=dry_run,
        verbose=verbose,
    )
    if extend is not None:
        return extend_training(request, extend, trainer=_TRAINER)
    return run_training(request, _TRAINER)


def _load_planning() -> "Planning[TrainPlan]":
    from cnnclf.planning.train_plan import TrainPlan, check_settings, plan_training

    return Planning(check_settings, plan_training, TrainPlan.from_dict)


def _describe(plan: "TrainPlan") -> dict[str, str]:
    model, training, optimizer = plan.config.model, plan.config.training, plan.config.optimizer
    operations = ", ".join(f"{name} {value:g}" for name, value in plan.operations.items())
    memory = plan.anatomy.training_bytes(int(training.batch_size), optimizer.name)
    filters = ",".join(map(str, model.filters))
    rows = {
        "network": f"{model.preset}: filters {filters}; {plan.parameters:,} parameters, "
        f"{plan.macs / 1e6:,.1f} M MACs",
        "training": f"{count_of(int(training.epochs), 'epoch')}, batch {training.batch_size}, "
        f"{optimizer.name}, learning rate {_name_rate(optimizer.learning_rate)}, "
        f"{optimizer.schedule} schedule",
        "augmentation": f"{plan.config.augment.preset}: {operations or 'nothing'}",
        "convolutions": f"{', '.join(map(str, model.convs_per_block))} in the blocks",
        "patience": count_of(int(training.patience), "epoch") if training.patience else "none",
        "time": describe_time(plan),
        "memory": describe_memory(plan, memory),
    }
    return {name: words for name, words in rows.items() if words}


def _name_rate(rate: float | str) -> str:
    return f"{rate:g}" if isinstance(rate, float) else "from a range test"


def _show_layers(plan: "TrainPlan") -> None:
    out.table(
        "layers",
        ("layer", "output", "parameters", "MACs", "receptive field"),
        rows=[
            (
                layer.name,
                join_sides(layer.output_shape),
                GroupedCount(layer.parameters),
                GroupedCount(layer.macs),
                layer.receptive_field or "whole image",
            )
            for layer in plan.anatomy.layers
        ],
    )


_TRAINER = Trainer(TrainConfig, _load_planning, _describe, _show_layers)
