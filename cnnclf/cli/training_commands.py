"""What the commands that train share: options, --resume and --dry-run."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from cnnclf.cli import options
from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.option_hints import missing_error
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_directory_name
from cnnclf.cli.plan_words import describe_plan, expect_time, summarize
from cnnclf.cli.settings import blaming_options
from cnnclf.cli.training_results import epoch_cells, show_finished, show_result
from cnnclf.config import FinetuneConfig, TrainConfig, load_config
from cnnclf.errors import ExitCode, UsageError
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.planning.finetune_plan import FinetunePlan
    from cnnclf.planning.train_plan import TrainPlan
    from cnnclf.runs.run_directory import RunDirectory
    from cnnclf.training.epochs import EpochRow
    from cnnclf.training.extending import Extension

AnyConfig = TypeVar("AnyConfig", TrainConfig, FinetuneConfig)
AnyPlan = TypeVar("AnyPlan", "TrainPlan", "FinetunePlan")


Source = Annotated[
    str | None, argument("DATASET", "Dataset, or any source that 'cnnclf import' can read.")
]
Out = Annotated[Path | None, option("--out -o RUN", "Run directory to create. [runs/DATASET-NNN]")]
ConfigFile = Annotated[
    Path | None,
    option(
        "--config PATH", "TOML file with settings, or a run, for the settings that it started with."
    ),
]
Assignments = Annotated[
    list[str] | None,
    option("--set KEY=VALUE", "A single setting, such as training.batch_size=32; may be repeated."),
]
Resume = Annotated[
    Path | None, option("--resume RUN", "Continue an interrupted run.", complete=complete_run)
]
Extend = Annotated[
    Path | None,
    option(
        "--extend RUN",
        "Train a finished run for more epochs, with --epochs for all of them, as a new run.",
        complete=complete_run,
    ),
]
Force = Annotated[
    bool,
    option("--force", "With --resume: resume even if another process seems to be training it."),
]
Verbose = Annotated[
    bool,
    option(
        "--verbose -v",
        "Show the whole plan, and messages of TensorFlow and other libraries.",
        panel=options.OUTPUT_PANEL,
    ),
]
DryRun = Annotated[bool, option("--dry-run", "Show the whole plan without training.")]


Track = Annotated[
    list[str] | None,
    option(
        "--track NAME[:PLACE]",
        "Show the run in tensorboard[:DIR], mlflow[:URI], wandb[:MODE], trackio[:DIR] or dvclive; "
        "may be repeated.",
    ),
]


@dataclass(frozen=True)
class Request:
    """What was typed.

    Args:
        source: The dataset or source as typed, if any.
        target: The run directory, if any was given.
        file: A file of settings, if any.
        assignments: Settings given with --set.
        given: Settings given as options, by dotted key.
        resume: The run to continue, if any.
        dry_run: Only show the plan.
        verbose: Show what libraries print.
        force: Resume a run although it seems to be training.
        overwrite: Replace the run in `target`.
        track: Trackers that show the run.
    """

    source: str | None
    target: Path | None
    file: Path | None
    assignments: tuple[str, ...]
    given: Mapping[str, object]
    resume: Path | None
    dry_run: bool
    verbose: bool
    force: bool = False
    overwrite: bool = False
    track: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planning(Generic[AnyPlan]):
    """How a command that trains plans.

    Args:
        check: Refuses settings that no dataset can fix, before images are looked at.
        plan: Resolves every "auto" for a dataset.
        read: Reads the content of plan.json.
    """

    check: Callable[..., None]
    plan: Callable[..., AnyPlan]
    read: Callable[[Mapping[str, Any]], AnyPlan]


@dataclass(frozen=True)
class Trainer(Generic[AnyConfig, AnyPlan]):
    """What differs between commands that train.

    Args:
        kind: The settings; they know the name of the command.
        load: Imports what plans.
        describe: Describes a plan in words, as names and values; the three that matter come first.
        show_network: Shows the layers of the network, as far as the plan has them.
        prepare: Brings what the plan needs to this machine, before a run is made; None for nothing.
        has_phases: Whether the table of epochs has a column for the phase.
    """

    kind: type[AnyConfig]
    load: Callable[[], Planning[AnyPlan]]
    describe: Callable[[AnyPlan], dict[str, str]]
    show_network: Callable[[AnyPlan], None]
    prepare: Callable[[AnyPlan, Progress], None] | None = None
    has_phases: bool = False


def run_training(request: Request, trainer: Trainer[AnyConfig, AnyPlan]) -> int:
    """Do what was typed: plan and train, only plan, or continue a run."""
    command = f"cnnclf {trainer.kind.command}"
    if request.resume is None:
        if request.force:
            raise UsageError("--force goes with --resume RUN only")
        if request.source is None:
            raise missing_error(command, "DATASET")
        return _start(trainer, request, request.source)
    others = (request.source, request.target, request.file, request.assignments, request.given)
    if any(others) or request.dry_run or request.overwrite:
        run = shlex.quote(str(request.resume))
        hint = f"a run continues with the settings it started with: {command} --resume {run}"
        if "training.epochs" in request.given:
            hint = f"for more epochs of a finished run: {command} --extend {run} --epochs N; {hint}"
        raise UsageError("--resume RUN takes no other settings", hint)
    return _resume(trainer, request.resume, request)


def extend_training(
    request: Request, path: Path, *, trainer: "Trainer[TrainConfig, TrainPlan]"
) -> int:
    """Train a finished run for more epochs, as a new run."""
    from cnnclf.runs.run_opening import check_new_run
    from cnnclf.training.extending import open_extension

    if request.source or request.resume or request.file or request.assignments:
        raise UsageError(
            "--extend RUN takes neither a dataset nor --resume, --config or --set",
            f"cnnclf {trainer.kind.command} --extend {shlex.quote(str(path))} --epochs N",
        )
    config, _ = load_config(options=request.given, kind=TrainConfig)  # checks what was typed
    given = {key: attrgetter(key)(config) for key in request.given}
    extension, dataset = open_extension(path, given)
    if request.target is not None and not request.dry_run:
        check_directory_name(request.target)
        check_new_run(request.target, overwrite=request.overwrite)
    return _begin(trainer, extension.plan, dataset, request, extension)


def _start(trainer: Trainer[AnyConfig, AnyPlan], request: Request, source: str) -> int:
    from cnnclf.data.checks import check_trainable
    from cnnclf.runs.run_opening import check_new_run, find_settings

    if request.track:
        from cnnclf.tracking.tracking import check_trackers

        check_trackers(request.track, option="--track")
    if request.target is not None and not request.dry_run:
        check_directory_name(request.target)
        check_new_run(request.target, overwrite=request.overwrite)
    config, origins = load_config(
        request.file and find_settings(request.file, command=trainer.kind.command),
        assignments=request.assignments,
        options=request.given,
        kind=trainer.kind,
    )
    planning = trainer.load()
    with blaming_options(origins):
        planning.check(config, given=origins)
    dataset = open_source(source)
    for warning in check_trainable(dataset, uneven="--balance weights compensates for it"):
        out.warn(warning)
    _note_oddities(dataset)
    with blaming_options(origins):
        plan = planning.plan(config, dataset, given=origins)
    return _begin(trainer, plan, dataset, request)


def open_source(source: str) -> "Dataset":
    """Open a dataset, or import any other source; its split is the same with every seed."""
    from cnnclf.importers import open_dataset

    return open_dataset(source, progress=out.progress())


def _note_oddities(dataset: "Dataset") -> None:
    """Show what is unusual about the pixels of a dataset, as its import did."""
    from cnnclf.names import count_of

    rows = [
        f"{count_of(count, 'image')}: {what}" for what, count in dataset.oddities().most_common()
    ]
    titles = ["unusual pixels"] + [""] * len(rows)
    if rows:
        out.note_pairs(list(zip(titles, rows, strict=False)))


def _resume(trainer: Trainer[AnyConfig, AnyPlan], path: Path, request: Request) -> int:
    from cnnclf.planning.plan import parse_plan
    from cnnclf.runs.run_directory import RunStatus
    from cnnclf.runs.run_opening import open_run
    from cnnclf.training.run import check_resumable

    run = open_run(path)
    run.check_command(trainer.kind.command)
    if request.force:
        run.declare_interrupted()
    plan = parse_plan(run.plan, trainer.load().read)
    if run.status() is RunStatus.FINISHED:  # a kill may have come after its end
        show_finished(run)
        return ExitCode.OK
    dataset = plan.load_dataset(beside=run.path)
    check_resumable(run, plan=plan, dataset=dataset)
    if request.verbose:
        out.note_pairs(describe_plan(plan, trainer.describe(plan)))
    return _train(trainer, plan, dataset, lambda: run, resume=True, request=request)


def _begin(
    trainer: Trainer[AnyConfig, AnyPlan],
    plan: AnyPlan,
    dataset: "Dataset",
    request: Request,
    extension: "Extension | None" = None,
) -> int:
    """Show the plan and, unless only that was asked for, train."""
    from cnnclf.runs.run_opening import (
        check_new_run,
        claim_next_path,
        create_run,
        next_run_path,
    )

    described = trainer.describe(plan)
    if request.dry_run:
        out.pairs("", describe_plan(plan, described))
        if extension is None:
            trainer.show_network(plan)
        _warn_of_missing_gpu(plan.config.runtime.device)
        out.json({"plan": plan.to_dict(), "time": expect_time(plan)})
        return ExitCode.OK
    out.note_pairs((describe_plan if request.verbose else summarize)(plan, described))
    if request.target is None:  # a given one was checked before
        check_new_run(next_run_path(dataset.name))
    if trainer.prepare is not None:
        trainer.prepare(plan, out.progress())

    def make_run() -> "RunDirectory":
        run = create_run(
            request.target or claim_next_path(dataset.name),
            overwrite=request.overwrite,
            command=shlex.join(["cnnclf", *sys.argv[1:]]),
        )
        return run if extension is None else extension.begin(run)

    return _train(trainer, plan, dataset, make_run, resume=extension is not None, request=request)


def _warn_of_missing_gpu(device: str) -> None:
    """Warn if the training would end at once, as far as can be seen without a library."""
    from cnnclf.hardware import is_gpu_usable

    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if device.startswith("gpu") and not is_gpu_usable(backend):
        out.warn(f"--device {device}: no usable GPU is found here; cnnclf doctor says why")


def _train(
    trainer: Trainer[AnyConfig, AnyPlan],
    plan: AnyPlan,
    dataset: "Dataset",
    make_run: Callable[[], "RunDirectory"],
    *,
    resume: bool,
    request: Request,
) -> int:
    from cnnclf.importers import count_unread
    from cnnclf.tracking.tracking import open_tracking, viewing_command
    from cnnclf.training.run import execute_plan

    progress = out.progress()

    def show_epoch(row: "EpochRow", is_best: bool) -> None:
        phase = {"phase": row.phase} if trainer.has_phases else {}
        progress.row("epochs", phase | epoch_cells(row, is_best=is_best))

    def make_tracked() -> "RunDirectory":
        run = make_run()
        if request.track or "track" in run.read_record():
            run.update_run(track=request.track)  # for the command that continues it
        return run

    with open_tracking(request.track, progress) as tracking:
        result = execute_plan(
            plan,
            dataset,
            make_run=lambda: tracking.watch(make_tracked()),
            progress=progress,
            resume=resume,
            listeners=[show_epoch, tracking.on_epoch],
            verbose=request.verbose,
        )
    unread = count_unread(dataset)
    show_result(result, dataset, unread=unread)
    for target in tracking.targets:
        out.hint(f"to see it in {target}: {viewing_command(target, result.run)}")
    return ExitCode.SOME_FAILED if result.failed or unread else ExitCode.OK
