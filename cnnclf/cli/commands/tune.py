"""`cnnclf tune`: search settings of 'cnnclf train' within a time budget."""

import math
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.option_hints import missing_error
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_directory_name
from cnnclf.cli.settings import add_settings, blaming_options, given_settings
from cnnclf.cli.training_commands import Source, Track, open_source
from cnnclf.cli.words import format_seconds
from cnnclf.config import TuneConfig, change_config, load_config
from cnnclf.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from cnnclf.tuning.confirmation import Confirmation
    from cnnclf.tuning.leaderboard import SearchResult
    from cnnclf.tuning.recipes import AnyPlan
    from cnnclf.tuning.request import SearchRequest

_SHOWN = 10  # trials of the leaderboard
_IMPORTANT = 5  # settings
_RESUMABLE = {"minutes", "trials", "gpus"}


@partial(add_settings, kind=TuneConfig)
def tune_command(
    dataset: Source = None,
    *,
    out_: Annotated[
        Path | None, option("--out -o DIR", "Tuning directory to create. [tuning/DATASET-NNN]")
    ] = None,
    finetune: Annotated[
        bool,
        option(
            "--finetune", "Search the settings of 'cnnclf finetune' instead of those of 'train'."
        ),
    ] = False,
    space: Annotated[
        Path | None, option("--space FILE", "TOML file with what is searched.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        option(
            "--fix KEY=VALUE",
            "A setting of all trials, such as training.epochs=20; may be repeated.",
        ),
    ] = None,
    resume: Annotated[
        Path | None, option("--resume DIR", "Continue a search, also with more time.")
    ] = None,
    ray: Annotated[
        str | None,
        option(
            "--ray [ADDRESS]",
            "Train on a Ray cluster: auto or HOST:PORT; without an address on a temporary one.",
        ),
    ] = None,
    track: Track = None,
    final: Annotated[
        bool,
        option("--final", "After the minutes, evaluate the winner on the test split."),
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", "Show the space and the time of a trial, and stop.")
    ] = False,
    overwrite: options.Overwrite = False,
    **settings: object,
) -> None:
    """Search for settings of 'cnnclf train' that beat the defaults, within a time budget.

    --finetune searches for those of 'cnnclf finetune'.

    Trials are runs that are trained for a few epochs; the best third continues. The best three and
    the default are then trained with other seeds, and compared on val. The test split is not used,
    unless --final evaluates the winner on it, once.
    """
    from cnnclf.tuning.search_directory import check_new_search

    given = given_settings(settings, kind=TuneConfig)
    cluster = _check_together(given, ray=ray, track=tuple(track or ()))
    if resume is not None:
        others = (dataset, out_, finetune, space, fix, dry_run, overwrite)
        if any(others) or set(given) - _RESUMABLE:
            raise UsageError(
                "--resume DIR takes only --minutes, --trials, --gpus, --ray, --track and --final",
                f"cnnclf tune --resume {shlex.quote(str(resume))}",
            )
        request = _reload(resume, given)
        directory = resume
    else:
        if dataset is None:
            raise missing_error("cnnclf tune", "DATASET")
        if out_ is not None and not dry_run:
            check_directory_name(out_)
            check_new_search(out_, overwrite=overwrite)
        request, plan = _prepare(
            dataset,
            given,
            command="finetune" if finetune else "train",
            space=space,
            fix=tuple(fix or ()),
            final=final,
        )
        if dry_run:
            _show_space(request, plan)
            return
        directory = _create(request, out_, dataset_name=plan.dataset["name"], overwrite=overwrite)
    from cnnclf.tuning.search import run_search

    again = ["cnnclf", "tune", "--resume", str(directory)]
    again += ["--final"] * final
    for name, values in (("--track", track or ()), ("--ray", [] if ray is None else [ray])):
        again += [word for value in values for word in (name, value) if word]
    try:
        result = run_search(
            directory,
            request,
            progress=out.progress(),
            ray=cluster,
            track=tuple(track or ()),
            final=final,
        )
    except (KeyboardInterrupt, DeviceError) as stop:
        stop.add_note(f"continue with: {shlex.join(again)}")
        raise
    _show(result, request, dataset or str(request.dataset), again=again)


def _check_together(
    given: Mapping[str, object], *, ray: str | None, track: tuple[str, ...]
) -> str | None:
    """Check cluster and trackers before anything is imported; return the address of the cluster."""
    if track:
        from cnnclf.tracking.tracking import check_trackers

        check_trackers(track, option="--track")
    if ray is None and not given.get("gpus") and given.get("jobs") in (None, 1):
        return None
    from cnnclf.prediction.cluster.connecting import OWN, check_address, check_installed

    check_installed("--ray" if ray is not None else "--jobs")
    return OWN if ray is None else check_address(ray)


def _prepare(
    source: str,
    given: Mapping[str, object],
    *,
    command: str,
    space: Path | None,
    fix: tuple[str, ...],
    final: bool,
) -> "tuple[SearchRequest, AnyPlan]":
    """Open the dataset and check everything that was typed, before anything is trained."""
    from cnnclf.data.checks import check_trainable
    from cnnclf.tuning.recipes import RECIPES
    from cnnclf.tuning.request import check_final, prepare_search
    from cnnclf.tuning.space import load_space

    config, _ = load_config(options=given, kind=TuneConfig)
    _, origins = load_config(assignments=fix, kind=RECIPES[command].kind, option="--fix")
    searched = None if space is None else load_space(space)
    data = open_source(source)
    if final:
        check_final(data)
    for warning in check_trainable(data, uneven="--fix training.balance=weights compensates"):
        out.warn(warning)
    with blaming_options({} if searched else origins):
        request, plan = prepare_search(
            data,
            config,
            command=command,
            space=searched,
            source=f"space {space}",
            fix=fix,
        )
    expected = plan.expect()
    if expected.seconds > 60 * config.minutes:
        out.warn(f"one training is expected to take {expected.words}, of {config.minutes:g} min")
    return request, plan


def _reload(directory: Path, given: Mapping[str, object]) -> "SearchRequest":
    from dataclasses import replace

    from cnnclf.tuning.request import SearchRequest

    request = SearchRequest.load(directory)
    checked, _ = load_config(options=given, kind=TuneConfig)
    changes = {key: getattr(checked, key) for key in given}
    return replace(request, config=change_config(request.config, changes))


def _create(
    request: "SearchRequest", out_: Path | None, *, dataset_name: str, overwrite: bool
) -> Path:
    from cnnclf.runs.run_opening import claim_next_path
    from cnnclf.tuning.search_directory import check_new_search, clear_search

    directory = out_ or claim_next_path(dataset_name, Path("tuning"))
    check_new_search(directory, overwrite=overwrite)
    clear_search(directory)
    request.create(directory)
    return directory


def _show_space(request: "SearchRequest", plan: "AnyPlan") -> None:
    from cnnclf.tuning.halving import choose_rungs

    rungs = choose_rungs(request.recipe.count_epochs(plan))
    rows = [(each.key, each.describe()) for each in request.space.dimensions]
    out.table("Searched settings", ("setting", "values"), rows=rows)
    expected, minutes = plan.expect(), request.config.minutes
    epochs = ", ".join(map(str, rungs))
    out.pairs(
        "Trials",
        {
            "rungs": f"{epochs} epochs" + request.recipe.epochs.startswith("tail") * " of the tail",
            "a whole training": f"{expected.words}; {expected.pace.words}",
            "time": f"{minutes:g} min: as long as "
            f"{60 * minutes / expected.seconds:.1f} whole trainings",
        },
    )
    out.json(
        {
            "space": request.space.to_dict(),
            "rungs": rungs,
            "trial_seconds": round(expected.seconds, 1),
        }
    )


def _points(each: "Confirmation") -> tuple[str, str]:
    low, high = each.interval
    return f"{100 * each.difference:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"


def _find_missing_minutes(result: "SearchResult", request: "SearchRequest") -> int | None:
    """Return the minutes with which the best trial could be confirmed, if it may be better."""
    best = result.confirmations[0] if result.confirmations else None
    if best is None or best.seeds > 1 or best.difference <= 0 or request.config.seeds == 1:
        return None
    needed_s = sum(row.seconds for row in result.rows if row.trial in (0, best.trial))
    used_s = max(result.seconds, 60 * request.config.minutes)
    return math.ceil((used_s + 1.5 * needed_s) / 60)


def _show(
    result: "SearchResult", request: "SearchRequest", dataset: str, *, again: list[str]
) -> None:
    from cnnclf.tuning.leaderboard import BEST_FILE, COORDINATES_FILE, FIGURE_FILE, LEADERBOARD_FILE

    _show_tables(result)
    directory = result.directory
    figures = [name for name in (FIGURE_FILE, COORDINATES_FILE) if (directory / name).is_file()]
    out.pairs(
        "Result",
        {
            "winner": result.verdict,
            "time": f"{format_seconds(result.seconds)} of "
            f"{format_seconds(60 * request.config.minutes)}",
            "settings": directory / BEST_FILE,
            "leaderboard": directory / LEADERBOARD_FILE,
            "figures": str(directory / ", ".join(figures)),
            "run": result.run.path,
        }
        | ({} if result.test is None else {"test accuracy": result.test}),
    )
    out.json(result.to_dict())
    if (minutes := _find_missing_minutes(result, request)) is not None:
        words = [*again, "--minutes", str(minutes)]
        out.hint(f"{shlex.join(words)} has time for another seed of it and of the default")
    out.hint(
        shlex.join(["cnnclf", request.command, dataset, "--config", str(directory / BEST_FILE)])
    )


def _show_tables(result: "SearchResult") -> None:
    from cnnclf.tuning.space import describe_settings

    rows = [
        (
            row.trial,
            row.epochs,
            row.val_accuracy,
            f"{row.seconds:.1f}",
            row.problem or describe_settings(row.settings),
        )
        for row in result.rows[:_SHOWN]
    ]
    more = len(result.rows) - len(rows)
    title = f"Leaderboard: the best {len(rows)} of {len(result.rows)}" if more else "Leaderboard"
    out.table(title, ("trial", "epochs", "val accuracy", "seconds", "settings"), rows=rows)
    if result.confirmations:
        with_others = any(each.seeds > 1 for each in result.confirmations)
        out.table(
            "With other seeds, against the default" if with_others else "Against the default",
            ("trial", "seeds", "val accuracy", "default", "points", "95 % interval"),
            rows=[
                (each.trial, each.seeds, each.accuracy, each.default, *_points(each))
                for each in result.confirmations
            ],
        )
    if result.importances:
        parts = list(result.importances.items())[:_IMPORTANT]
        out.table(
            "What the score depends on",
            ("setting", "of the variance"),
            rows=[(key, f"{100 * part:.0f} %") for key, part in parts],
        )
