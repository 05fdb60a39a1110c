"""`cnnclf finetune`: a trained backbone on a dataset, from plan to tested model."""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnclf.cli import options
from cnnclf.cli.commands.train import epoch_cells, show_result
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, given_settings
from cnnclf.config import FinetuneConfig
from cnnclf.errors import DeviceError, ExitCode, UsageError

if TYPE_CHECKING:
    from cnnclf.training.finetune_plan import FinetunePlan


@partial(add_settings, kind=FinetuneConfig)
def finetune_command(
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="DATASET", help="A dataset, or any source 'import' can read."),
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="The run directory [runs/DATASET-NNN]."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings from a file.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting: head.dropout=0.3."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and stop; nothing is written.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> int:
    """Fine-tune a trained backbone on a dataset.

    First a new head learns on the frozen backbone, whose outputs are computed once and kept on
    disk; then the last stages learn too. The best epoch of both phases is kept and tested.
    """
    given = given_settings(settings, kind=FinetuneConfig)
    if resume is not None:
        if dataset or out_ or config or set_ or given:
            raise UsageError(
                "expected --resume RUN alone, received other settings as well",
                "a run goes on with the settings it began with: cnnclf finetune --resume RUN",
            )
        return _resume(resume, verbose=verbose)
    if dataset is None:
        raise UsageError("expected a DATASET, received none", "cnnclf finetune DATASET")
    return _start(dataset, out_, config, tuple(set_ or ()), given, dry_run=dry_run, verbose=verbose)


def _start(
    source: Path,
    target: Path | None,
    file: Path | None,
    assignments: tuple[str, ...],
    given: dict[str, object],
    *,
    dry_run: bool,
    verbose: bool,
) -> int:
    from cnnclf.config import load_config
    from cnnclf.data.checks import check_trainable
    from cnnclf.data.importers import ImportOptions, open_dataset
    from cnnclf.models.backbones import find_backbone
    from cnnclf.runs import create_run, next_run_path
    from cnnclf.training.finetune_plan import plan_finetuning

    config, origins = load_config(file, assignments=assignments, options=given, kind=FinetuneConfig)
    find_backbone(config.backbone.name)  # a wrong name is told before pictures are looked at
    dataset = open_dataset(
        source, options=ImportOptions(seed=config.runtime.seed), progress=out.progress()
    )
    for warning in check_trainable(dataset):
        out.warn(warning)
    plan = plan_finetuning(config, dataset, given=origins)
    if dry_run:
        _show_plan(plan)
        out.json({"plan": plan.to_dict()})
        return ExitCode.OK
    run = create_run(
        target or next_run_path(dataset.name), command=shlex.join(["cnnclf", *sys.argv[1:]])
    )
    return _finetune(plan, dataset, run, resume=False, verbose=verbose)


def _resume(path: Path, *, verbose: bool) -> int:
    from cnnclf.data.manifest import load_dataset
    from cnnclf.runs import open_run
    from cnnclf.training.finetune_plan import FinetunePlan
    from cnnclf.training.plan import parse_plan, read_dataset_path
    from cnnclf.training.train import check_resumable

    run = open_run(path)
    plan = parse_plan(run.plan, FinetunePlan.from_dict)
    dataset = load_dataset(read_dataset_path(plan))
    check_resumable(run, plan, dataset)
    return _finetune(plan, dataset, run, resume=True, verbose=verbose)


def _finetune(plan: "FinetunePlan", dataset: Any, run: Any, *, resume: bool, verbose: bool) -> int:
    from cnnclf.runtime import setup_runtime

    settings = plan.config.runtime
    progress = out.progress()
    _show_plan(plan)
    runtime = setup_runtime(
        device=settings.device,
        precision=settings.precision,
        seed=settings.seed,
        deterministic=settings.deterministic,
        threads=None,
        verbose=verbose,
    )
    from cnnclf.training.finetune import finetune

    def show_epoch(row: dict[str, Any], best: bool) -> None:
        progress.row("epochs", {"phase": row["phase"]} | epoch_cells(row, best=best))

    try:
        result = finetune(
            plan, dataset, run, runtime, resume=resume, on_epoch=show_epoch, progress=progress
        )
    except (KeyboardInterrupt, DeviceError) as stop:
        stop.add_note(f"go on with it: cnnclf finetune --resume {shlex.quote(str(run.path))}")
        raise
    show_result(result)
    return ExitCode.SOME_FAILED if result.failed else ExitCode.OK


def _show_plan(plan: "FinetunePlan") -> None:
    """Say on stderr what will happen, and the reason of everything that was left to us."""
    counts = ", ".join(f"{count:,} {split}" for split, count in plan.counts.items() if count)
    spec, config, row = plan.input_spec, plan.config, plan.backbone
    head, tail, training = config.head, config.tail, config.training
    hidden = f", {head.units} hidden units" if head.units else ""
    rates = "searched" if head.search else f"learning rate {head.learning_rate:g}"
    frozen = plan.frozen_stage
    out.note(f"dataset      {plan.dataset['name']}: {len(plan.labels)} classes, {counts}")
    out.note(f"pictures     {spec.height}x{spec.width} RGB, {spec.fit}")
    out.note(
        f"backbone     {row.name}, weights {config.backbone.weights}, {row.parameters:,} parameters"
    )
    out.note(
        f"head         {head.pooling} pooling{hidden}, dropout {head.dropout:g}, "
        f"{head.epochs} epochs, {rates}"
    )
    if frozen is not None:
        what = f"the stages behind {frozen}" if frozen else "the whole network"
        out.note(f"tail         {what}, {tail.epochs} epochs, learning rate {tail.learning_rate:g}")
    out.note(
        f"training     batch {training.batch_size}, label smoothing {training.label_smoothing:g}, "
        f"patience {training.patience or 'none'}"
    )
    if plan.operations:
        names = ", ".join(f"{name} {value:g}" for name, value in plan.operations.items())
        when = f"{config.features.views} views" if config.features.cache else "each epoch anew"
        out.note(f"augmentation {when}: {names}")
    for key, reason in plan.reasons.items():
        out.note(f"  {key} is auto: {reason}")
    for remark in plan.remarks:
        out.note(remark)
