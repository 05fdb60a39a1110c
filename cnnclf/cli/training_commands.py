"""What the commands that train share: options, --resume, --dry-run and the frame of a run."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnclf.cli.output import out
from cnnclf.config import CommandConfig, load_config
from cnnclf.errors import DeviceError, ExitCode, UsageError
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.planning.plan import Plan
    from cnnclf.runs import RunDirectory
    from cnnclf.runtime import RuntimeInfo
    from cnnclf.training.run import TrainResult

Source = Annotated[
    Path | None,
    typer.Argument(metavar="DATASET", help="A dataset, or any source 'import' can read."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="The run directory [runs/DATASET-NNN]."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings from a file.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting: training.batch_size=32."),
]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop; no run is made.")]


@dataclass(frozen=True)
class Request:
    """What was typed.

    Args:
        source: The dataset or source, if any.
        target: The run directory, if any was given.
        file: A file of settings, if any.
        assignments: What was given with --set.
        given: Settings given as options, by dotted key.
        resume: The run to go on with, if any.
        dry_run: Only show the plan.
        verbose: Show what libraries print.
    """

    source: Path | None
    target: Path | None
    file: Path | None
    assignments: tuple[str, ...]
    given: Mapping[str, object]
    resume: Path | None
    dry_run: bool
    verbose: bool


@dataclass(frozen=True)
class Trainer:
    """What differs between commands that train.

    Args:
        kind: The settings; they know the command's name.
        make_plan: Of settings, dataset and the origins of settings.
        read_plan: Of the content of plan.json.
        describe: The plan in words, as names and values.
        uneven: What helps where classes are of very different size.
        run: Trains: plan, dataset, run directory and runtime; by keyword `resume`, `on_epoch`,
            `progress` and `ahead`.
        check: Refuses settings that no dataset can mend, before images are looked at: of settings
            and their origins.
        prepare: Brings what the plan needs to this machine, before a run is made: plan, progress.
        phases: Whether epochs belong to phases that are worth a column.
    """

    kind: type[CommandConfig]
    make_plan: Callable[..., "Plan[Any]"]
    read_plan: Callable[[Mapping[str, Any]], "Plan[Any]"]
    describe: Callable[[Any], dict[str, str]]
    run: Callable[..., "TrainResult"]
    uneven: str
    check: Callable[..., object]
    prepare: Callable[[Any, Progress], object] | None = None
    phases: bool = False


def run_training(request: Request, kind: type[CommandConfig], load: Callable[[], Trainer]) -> int:
    """Do what was typed: plan and train, only plan, or go on.

    Args:
        request: What was typed.
        kind: The settings of the command.
        load: Imports what the command needs; it is only asked for once the request makes sense.
    """
    command = f"cnnclf {kind.command}"
    if request.resume is None:
        if request.source is None:
            raise UsageError("expected a DATASET, received none", f"{command} DATASET")
        return _start(load(), request, request.source)
    others = (request.source, request.target, request.file, request.assignments, request.given)
    if any(others) or request.dry_run:
        raise UsageError(
            "expected --resume RUN alone, received other settings as well",
            f"a run goes on with the settings it began with: {command} --resume RUN",
        )
    return _resume(load(), request.resume, verbose=request.verbose)


def _start(trainer: Trainer, request: Request, source: Path) -> int:
    from cnnclf.data.checks import check_trainable
    from cnnclf.importers import ImportOptions, open_dataset
    from cnnclf.runs import check_new_run, create_run, next_run_path

    if request.target is not None and not request.dry_run:
        check_new_run(request.target)
    config, origins = load_config(
        request.file, assignments=request.assignments, options=request.given, kind=trainer.kind
    )
    trainer.check(config, given=origins)
    settings: Any = config
    dataset = open_dataset(
        source, options=ImportOptions(seed=settings.runtime.seed), progress=out.progress()
    )
    for warning in check_trainable(dataset, uneven=trainer.uneven):
        out.warn(warning)
    plan = trainer.make_plan(config, dataset, given=origins)
    if request.dry_run:
        out.pairs("", _describe(trainer, plan))
        out.json({"plan": plan.to_dict()})
        return ExitCode.OK
    out.note_pairs(_describe(trainer, plan))
    if trainer.prepare is not None:
        trainer.prepare(plan, out.progress())

    def make_run() -> "RunDirectory":
        return create_run(
            request.target or next_run_path(dataset.name),
            command=shlex.join(["cnnclf", *sys.argv[1:]]),
        )

    return _train(trainer, plan, dataset, make_run, resume=False, verbose=request.verbose)


def _resume(trainer: Trainer, path: Path, *, verbose: bool) -> int:
    from cnnclf.data.manifest import load_dataset
    from cnnclf.planning.plan import parse_plan, read_dataset_path
    from cnnclf.runs import open_run
    from cnnclf.training.run import check_resumable

    run = open_run(path)
    plan = parse_plan(run.plan, trainer.read_plan)
    dataset = load_dataset(read_dataset_path(plan))
    check_resumable(run, plan, dataset)
    out.note_pairs(_describe(trainer, plan))
    return _train(trainer, plan, dataset, lambda: run, resume=True, verbose=verbose)


def _train(
    trainer: Trainer,
    plan: "Plan[Any]",
    dataset: "Dataset",
    make_run: Callable[[], "RunDirectory"],
    *,
    resume: bool,
    verbose: bool,
) -> int:
    from cnnclf.importers import count_unread
    from cnnclf.training.run import decode_ahead

    progress = out.progress()

    def show_epoch(row: dict[str, Any], best: bool) -> None:
        phase = {"phase": row["phase"]} if trainer.phases else {}
        progress.row("epochs", phase | _epoch_cells(row, best=best))

    with decode_ahead(plan, dataset) as ahead:
        # First, so that a device that cannot be used leaves no run directory behind.
        runtime = _setup_runtime(plan, verbose=verbose)
        run = make_run()
        try:
            result = trainer.run(
                plan,
                dataset,
                run,
                runtime,
                resume=resume,
                on_epoch=show_epoch,
                progress=progress,
                ahead=ahead,
            )
        except (KeyboardInterrupt, DeviceError) as stop:
            once = "once there is enough, " if isinstance(stop, DeviceError) else ""
            stop.add_note(f"{once}go on with it: {run.resume_command()}")
            raise
    unread = count_unread(dataset)
    _show_result(result, dataset, unread)
    return ExitCode.SOME_FAILED if result.failed or unread else ExitCode.OK


def _setup_runtime(plan: "Plan[Any]", *, verbose: bool) -> "RuntimeInfo":
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


def _describe(trainer: Trainer, plan: "Plan[Any]") -> list[tuple[str, str]]:
    """Say what will happen, and the reason of everything that was left to us."""
    counts = ", ".join(f"{count:,} {split}" for split, count in plan.counts.items() if count)
    spec = plan.input_spec
    colors = "gray" if spec.channels == 1 else "RGB"
    pairs = {
        "dataset": f"{plan.dataset['name']}: {len(plan.labels)} classes, {counts}",
        "images": f"{spec.height}x{spec.width} {colors}, {spec.fit}",
        **trainer.describe(plan),
    }
    config = plan.config.model_dump(mode="json")
    lines = list(pairs.items())
    lines += [("note", remark) for remark in plan.remarks]
    for number, (key, reason) in enumerate(plan.reasons.items()):
        section, _, name = key.partition(".")
        value = _setting(key, config[section][name])
        lines.append(("" if number else "auto", f"{key} = {value}: {reason}"))
    return lines


def _setting(key: str, value: object) -> str:
    """Write a setting as it would be typed."""
    if isinstance(value, list):
        return ("x" if key.endswith("_size") else ",").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _epoch_cells(row: dict[str, Any], *, best: bool) -> dict[str, object]:
    """Give the cells of one epoch in the table on the screen."""
    cells: dict[str, object] = {"epoch": row["epoch"]}
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if row[name] is not None:
            cells[name.replace("_", " ")] = float(row[name])
    cells["seconds"] = f"{row['seconds']:.1f}"
    cells["best"] = "*" if best else ""
    return cells


def _show_result(result: "TrainResult", dataset: "Dataset", unread: int) -> None:
    """Say what a run came to and where it lies."""
    from cnnclf.importers import SKIPPED_NAME
    from cnnclf.names import count_of

    report, run, state = result.report, result.run, result.state
    rows: dict[str, object] = {
        f"{report.split} accuracy": report.headline,
        "best epoch": f"{state.best_epoch} of {state.epoch}",
        "model": run.best,
        "curves": run.curves,
        "evaluation": run.evaluation(report.split),
    }
    if result.failed:
        rows["left out"] = f"{count_of(result.failed, 'image')}, which cannot be read"
    if unread:
        skipped = dataset.directory / SKIPPED_NAME
        rows["skipped"] = f"{count_of(unread, 'image')} at the import, listed in {skipped}"
    out.pairs("", rows)
    out.json(
        {
            "run": run.path,
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "split": report.split,
            "failed": result.failed + unread,
            "failed_at_import": unread,
            "metrics": report.summary,
        }
    )
    out.hint(f"cnnclf predict {shlex.quote(str(run.path))} IMAGES...")
