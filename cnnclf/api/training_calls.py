"""Python interface: datasets become runs."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnclf.api.arguments import Logged, Settings, StrPath, open_data, resolve, texts_of
from cnnclf.config import FinetuneConfig, TrainConfig, TuneConfig
from cnnclf.errors import UsageError
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.planning.finetune_plan import FinetunePlan
    from cnnclf.planning.train_plan import TrainPlan
    from cnnclf.runs.run_directory import RunDirectory
    from cnnclf.training.epochs import EpochListener
    from cnnclf.training.extending import Extension
    from cnnclf.training.run import TrainResult
    from cnnclf.tuning.leaderboard import SearchResult


def train(
    dataset: "Dataset | StrPath",
    config: TrainConfig | Settings | None = None,
    *,
    out: StrPath | None = None,
    listeners: "Sequence[EpochListener]" = (),
    progress: Progress | None = None,
    verbose: bool = False,
) -> "TrainResult":
    """Train a CNN from random weights, keep the best epoch and test it.

    Args:
        dataset: A dataset, or any source that can be imported.
        config: Settings of `cnnclf train`.
        out: The run directory; must not exist, or be empty. None for `runs/DATASET-NNN`.
        listeners: Receive each epoch and whether it is the best so far; may return a request to
            stop.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The run: `run` (its directory), `state` (epochs, best epoch) and `report` (the test).

    Raises:
        ConfigError: A setting is unknown, wrong, or impossible for this dataset.
        UsageError: `out` is in use.
        DataError: The dataset has too few classes or images, or none can be decoded.
        RunError: The loss became NaN.
        DeviceError: The device cannot be used, or memory or disk space is not enough.

    Example:
        >>> result = cnnclf.train(dataset, {"training.epochs": 3}, out="runs/first")
        >>> result.report.metrics["accuracy"]
        0.93
    """
    from cnnclf.planning.train_plan import check_settings, plan_training

    settings, given = resolve(TrainConfig, config)
    progress = progress or Logged()
    _check_out(out)
    check_settings(settings, given=given)
    data = _open_for_training(dataset, progress=progress)
    plan = plan_training(settings, data, given=given)
    return _execute(plan, data, out, listeners=listeners, progress=progress, verbose=verbose)


def finetune(
    dataset: "Dataset | StrPath",
    config: FinetuneConfig | Settings | None = None,
    *,
    out: StrPath | None = None,
    listeners: "Sequence[EpochListener]" = (),
    progress: Progress | None = None,
    verbose: bool = False,
) -> "TrainResult":
    """Fine-tune a trained backbone in two phases, keep the best epoch and test it.

    Args:
        dataset: A dataset, or any source that can be imported.
        config: Settings of `cnnclf finetune`.
        out: The run directory; must not exist, or be empty. None for `runs/DATASET-NNN`.
        listeners: Receive each epoch and whether it is the best so far; may return a request to
            stop.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The run: `run` (its directory), `state` (epochs, best epoch) and `report` (the test).

    Raises:
        ConfigError: A setting is unknown, wrong, or impossible for this dataset.
        UsageError: `out` is in use.
        DataError: The dataset has too few classes or images, or none can be decoded.
        RunError: The weights do not fit, or the loss became NaN.
        DeviceError: The device cannot be used, or memory or disk space is not enough.

    Example:
        >>> result = cnnclf.finetune(dataset, {"backbone.name": "efficientnet-lite0"})
    """
    from cnnclf.models.weights.sources import fetch_weights
    from cnnclf.planning.finetune_plan import check_settings, plan_finetuning

    settings, given = resolve(FinetuneConfig, config)
    progress = progress or Logged()
    _check_out(out)
    check_settings(settings, given=given)
    data = _open_for_training(dataset, progress=progress)
    plan = plan_finetuning(settings, data, given=given)
    fetch_weights(plan.weights, progress=progress)
    return _execute(plan, data, out, listeners=listeners, progress=progress, verbose=verbose)


def extend(
    run: StrPath,
    config: TrainConfig | Settings,
    *,
    out: StrPath | None = None,
    listeners: "Sequence[EpochListener]" = (),
    progress: Progress | None = None,
    verbose: bool = False,
) -> "TrainResult":
    """Train a finished run of `train` for more epochs, as a new run.

    Args:
        run: The finished run; it is not changed.
        config: `training.epochs`, the number of all epochs, and if they are to change
            `training.patience` and `training.perfect_loss`; other settings stay those of the run.
        out: The new run directory; must not exist, or be empty. None for `runs/DATASET-NNN`.
        listeners: Receive each epoch and whether it is the best so far; may return a request to
            stop.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The new run, as `train` returns it.

    Raises:
        ConfigError: A setting is unknown or wrong.
        UsageError: Other settings are given, no epochs or too few, or `out` is in use.
        DataError: The dataset changed, or is gone.
        RunError: The run is not finished, or its state is damaged.
        DeviceError: The device cannot be used, or memory or disk space is not enough.

    Example:
        >>> cnnclf.extend("runs/first", {"training.epochs": 20}).state.epoch
        20
    """
    from cnnclf.training.extending import open_extension

    settings, given = resolve(TrainConfig, config)
    progress = progress or Logged()
    _check_out(out)
    extension, data = open_extension(
        Path(run),
        {key: attrgetter(key)(settings) for key, origin in given.items() if origin == "argument"},
    )
    return _execute(
        extension.plan,
        data,
        out,
        extension=extension,
        listeners=listeners,
        progress=progress,
        verbose=verbose,
    )


def resume(
    run: StrPath,
    *,
    listeners: "Sequence[EpochListener]" = (),
    progress: Progress | None = None,
    verbose: bool = False,
) -> "TrainResult":
    """Continue an interrupted run of `train`, `finetune` or `extend` as if it had never stopped.

    Args:
        run: The run directory.
        listeners: Receive each epoch and whether it is the best so far; may return a request to
            stop.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The run, as `train` returns it.

    Raises:
        UsageError: The run is finished.
        DataError: The dataset changed, or is gone.
        RunError: There is no such run, another process trains it, or its state is damaged.
        DeviceError: The device cannot be used, or memory or disk space is not enough.

    Example:
        >>> cnnclf.resume("runs/first").state.epoch
        3
    """
    from cnnclf.planning.finetune_plan import FinetunePlan
    from cnnclf.planning.plan import parse_plan
    from cnnclf.planning.train_plan import TrainPlan
    from cnnclf.runs.run_directory import RunStatus
    from cnnclf.runs.run_opening import open_run
    from cnnclf.training.run import check_resumable, execute_plan

    opened = open_run(Path(run))
    is_train = opened.read_command() == TrainConfig.command
    read: Callable[[Mapping[str, Any]], TrainPlan | FinetunePlan] = (
        TrainPlan.from_dict if is_train else FinetunePlan.from_dict
    )
    plan = parse_plan(opened.plan, read)
    if opened.status() is RunStatus.FINISHED:
        raise UsageError(f"the run {opened.path} is finished", opened.more_epochs_hint())
    dataset = plan.load_dataset(beside=opened.path)
    check_resumable(opened, plan=plan, dataset=dataset)
    return execute_plan(
        plan,
        dataset,
        make_run=lambda: opened,
        progress=progress or Logged(),
        resume=True,
        listeners=listeners,
        verbose=verbose,
    )


def tune(
    dataset: "Dataset | StrPath",
    config: TuneConfig | Settings | None = None,
    *,
    command: str = "train",
    space: Settings | None = None,
    fix: str | Sequence[str] = (),
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> "SearchResult":
    """Search settings that are better than the defaults, within a time budget.

    Args:
        dataset: A dataset, or any source that can be imported.
        config: Settings of `cnnclf tune`.
        command: train or finetune.
        space: What is searched, by dotted key: choices, or `{"low": 0.0, "high": 0.5}`; None for
            the default space.
        fix: Settings of all trials, such as `training.epochs=20`.
        out: The tuning directory; must not exist, or be empty. None for `tuning/DATASET-NNN`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        `verdict` in words, `rows` (the leaderboard), `confirmations` (the best ones and the default
        with several seeds), `winner`, its best `run`, and the `directory` with best.toml.

    Raises:
        ConfigError: A setting or anything in the space is unknown, wrong or contradictory.
        UsageError: `out` is in use, or the time is shorter than one training.
        DataError: The dataset has no val split.
        MissingPackageError: The sampler or several jobs need a package that is not installed.
        DeviceError: The device cannot be used, or memory or disk space is not enough.

    Example:
        >>> cnnclf.tune(dataset, {"minutes": 30}).verdict
        'trial 7 is better than the default (difference 1.4 points, interval 0.5 to 2.3)'
    """
    from cnnclf.runs.run_opening import claim_next_path
    from cnnclf.tuning.recipes import RECIPES
    from cnnclf.tuning.request import prepare_search
    from cnnclf.tuning.search import run_search
    from cnnclf.tuning.search_directory import check_new_search

    if command not in RECIPES:
        raise UsageError(f"expected one of {', '.join(RECIPES)} as command, received {command!r}")
    settings, _ = resolve(TuneConfig, config)
    progress = progress or Logged()
    if out is not None:
        check_new_search(Path(out))
    data = _open_for_training(dataset, progress=progress)
    request, _ = prepare_search(
        data, settings, command=command, space=space, source="space", fix=texts_of(fix)
    )
    directory = claim_next_path(data.name, Path("tuning")) if out is None else Path(out)
    request.create(directory)
    return run_search(directory, request, progress=progress)


def _check_out(out: StrPath | None) -> None:
    from cnnclf.runs.run_opening import check_new_run

    if out is not None:  # before images are read
        check_new_run(Path(out))


def _open_for_training(dataset: "Dataset | StrPath", *, progress: Progress) -> "Dataset":
    from cnnclf.data.checks import check_trainable

    data = open_data(dataset, progress)
    for warning in check_trainable(data, uneven="balance = weights compensates"):
        progress.warn(warning)
    for what, count in data.oddities().most_common():
        progress.note(f"unusual pixels: {count:,} of {len(data):,} images: {what}")
    return data


def _execute(
    plan: "TrainPlan | FinetunePlan",
    dataset: "Dataset",
    out: StrPath | None,
    *,
    extension: "Extension | None" = None,
    listeners: "Sequence[EpochListener]",
    progress: Progress,
    verbose: bool,
) -> "TrainResult":
    from cnnclf.runs.run_opening import claim_next_path, create_run
    from cnnclf.training.run import execute_plan

    def make_run() -> "RunDirectory":
        run = create_run(
            claim_next_path(dataset.name) if out is None else Path(out),
            command=f"cnnclf.{'extend' if extension else plan.config.command}(...)",
        )
        return run if extension is None else extension.begin(run)

    return execute_plan(
        plan,
        dataset,
        make_run=make_run,
        progress=progress,
        resume=extension is not None,
        listeners=listeners,
        verbose=verbose,
    )
