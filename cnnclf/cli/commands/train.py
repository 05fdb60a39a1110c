"""`cnnclf train`: a Sequential CNN on a dataset, from plan to tested model."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnclf.cli import options
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, given_settings
from cnnclf.errors import DeviceError, ExitCode, UsageError

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.runs import RunDirectory
    from cnnclf.runtime import RuntimeInfo
    from cnnclf.training.plan import RunPlan
    from cnnclf.training.train import TrainResult


@add_settings
def train_command(
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
        typer.Option("--set", metavar="KEY=VALUE", help="One setting: model.dropout=0.3."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and stop; no run is made.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> int:
    """Train a CNN on a dataset.

    Every setting is an option, a key of a TOML file (--config) and a --set section.key=value.
    Best epoch and last state are kept in the run directory, then the best is tested. Pictures that
    cannot be read are named and left out; then the exit code is 7.
    """
    given = given_settings(settings)
    if resume is not None:
        if dataset or out_ or config or set_ or given or dry_run:
            raise UsageError(
                "expected --resume RUN alone, received other settings as well",
                "a run goes on with the settings it began with: cnnclf train --resume RUN",
            )
        return _resume(resume, verbose=verbose)
    if dataset is None:
        raise UsageError("expected a DATASET, received none", "cnnclf train DATASET")
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
    from cnnclf.runs import check_new_run, create_run, next_run_path
    from cnnclf.training.plan import plan_training

    progress = out.progress()
    if target is not None and not dry_run:
        check_new_run(target)
    config, origins = load_config(file, assignments=assignments, options=given)
    dataset = open_dataset(
        source, options=ImportOptions(seed=config.runtime.seed), progress=progress
    )
    for warning in check_trainable(dataset):
        out.warn(warning)
    plan = plan_training(config, dataset, given=origins)
    _show_plan(plan)
    if dry_run:
        out.json({"plan": plan.to_dict()})
        return ExitCode.OK
    # First, so that a device that cannot be used leaves no run directory behind.
    runtime = _setup_runtime(plan, verbose=verbose)
    run = create_run(
        target or next_run_path(dataset.name), command=shlex.join(["cnnclf", *sys.argv[1:]])
    )
    return _train(plan, dataset, run, runtime, resume=False)


def _resume(path: Path, *, verbose: bool) -> int:
    from cnnclf.data.manifest import load_dataset
    from cnnclf.runs import open_run
    from cnnclf.training.plan import read_dataset_path, read_plan
    from cnnclf.training.train import check_resumable

    run = open_run(path)
    plan = read_plan(run.plan)
    dataset = load_dataset(read_dataset_path(plan))
    check_resumable(run, plan, dataset)
    _show_plan(plan)
    return _train(plan, dataset, run, _setup_runtime(plan, verbose=verbose), resume=True)


def _setup_runtime(plan: "RunPlan", *, verbose: bool) -> "RuntimeInfo":
    from cnnclf.runtime import setup_runtime

    settings = plan.config.runtime
    return setup_runtime(
        device=settings.device,
        precision=settings.precision,
        seed=settings.seed,
        deterministic=settings.deterministic,
        threads=None,
        verbose=verbose,
    )


def _train(
    plan: "RunPlan",
    dataset: "Dataset",
    run: "RunDirectory",
    runtime: "RuntimeInfo",
    *,
    resume: bool,
) -> int:
    from cnnclf.training.train import train

    progress = out.progress()
    try:
        result = train(
            plan,
            dataset,
            run,
            runtime,
            resume=resume,
            on_epoch=lambda row, best: progress.row("epochs", epoch_cells(row, best=best)),
            progress=progress,
        )
    except (KeyboardInterrupt, DeviceError) as stop:
        stop.add_note(f"go on with it: cnnclf train --resume {shlex.quote(str(run.path))}")
        raise
    show_result(result)
    return ExitCode.SOME_FAILED if result.failed else ExitCode.OK


def epoch_cells(row: dict[str, Any], *, best: bool) -> dict[str, object]:
    """Give the cells of one epoch in the table on the screen."""
    cells: dict[str, object] = {"epoch": row["epoch"]}
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if row[name] is not None:
            cells[name.replace("_", " ")] = float(row[name])
    cells["seconds"] = f"{row['seconds']:.1f}"
    cells["best"] = "*" if best else ""
    return cells


def _show_plan(plan: "RunPlan") -> None:
    """Say on stderr what will happen, and the reason of everything that was left to us."""
    counts = ", ".join(f"{count:,} {split}" for split, count in plan.counts.items() if count)
    spec, training = plan.input_spec, plan.config.training
    model = plan.config.model
    colors = "grey" if spec.channels == 1 else "RGB"
    operations = ", ".join(f"{name} {value:g}" for name, value in plan.operations.items())
    out.note(f"dataset      {plan.dataset['name']}: {len(plan.labels)} classes, {counts}")
    out.note(f"pictures     {spec.height}x{spec.width} {colors}, {spec.fit}")
    out.note(
        f"network      {model.preset}: filters {model.filters}, convolutions per block "
        f"{model.convs_per_block}, {plan.parameters:,} parameters, {plan.macs / 1e6:,.1f} M "
        "multiply-adds per picture"
    )
    out.note(
        f"training     {training.epochs} epochs, batch {training.batch_size}, "
        f"{plan.config.optimizer.name} {plan.config.optimizer.learning_rate:g} "
        f"{plan.config.optimizer.schedule}, patience {training.patience or 'none'}"
    )
    out.note(f"augmentation {plan.config.augment.preset}: {operations or 'nothing'}")
    for key, reason in plan.reasons.items():
        out.note(f"  {key} is auto: {reason}")
    for remark in plan.remarks:
        out.warn(remark)


def show_result(result: "TrainResult") -> None:
    """Say what a run came to and where it lies."""
    report, run, state = result.report, result.run, result.state
    rows: dict[str, object] = {
        f"{report.split} accuracy": report.headline,
        "best epoch": f"{state.best_epoch} of {state.epoch}",
        "model": run.best,
        "curves": run.curves,
        "evaluation": run.evaluation(report.split),
    }
    if result.failed:
        rows["left out"] = f"{result.failed:,} pictures, which cannot be read"
    out.pairs("", rows)
    out.json(
        {
            "run": run.path,
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "split": report.split,
            "failed": result.failed,
            "metrics": report.summary,
        }
    )
    out.hint(f"cnnclf predict {shlex.quote(str(run.path))} IMAGES...")
