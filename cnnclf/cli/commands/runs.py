"""`cnnclf runs`: list, show, compare, export and remove runs. Reads JSON files only."""

import shlex
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cnnclf.cli import options
from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.network_tables import group_digits
from cnnclf.cli.output import out
from cnnclf.cli.run_figures import (
    METRICS,
    RECORD_FIGURES,
    format_figure,
    format_typed,
    list_items,
    list_shown,
    read_evaluations,
    read_export,
)
from cnnclf.cli.words import format_seconds
from cnnclf.config import format_setting
from cnnclf.errors import ExitCode, RunError, UsageError
from cnnclf.names import count_of, name_some
from cnnclf.runs.run_directory import RunDirectory, RunStatus, flatten, section
from cnnclf.runs.run_listing import RunRow, describe_run, list_runs, remove_run
from cnnclf.runs.run_opening import check_distinct, open_run

_HERE = "cnnclf.cli.commands.runs"

RUNS_COMMANDS = (
    ("list", _HERE, "list_command", "List the runs in a directory, best first."),
    ("show", _HERE, "show_command", "Show a run."),
    ("compare", f"{_HERE}_compare", "compare_command", "Compare runs side by side."),
    ("export", _HERE, "export_command", "Export finished runs to MLflow or TensorBoard."),
    ("remove", _HERE, "remove_command", "Remove runs; optionally keep the best."),
)

SORTS = ("accuracy", "name", "created")


def list_command(
    directory: Annotated[Path, argument("DIR", "Directory that contains the runs.")] = Path("runs"),
    *,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="|".join(SORTS),
            autocompletion=lambda: list(SORTS),
            help="Sort order; accuracy is that on test, or on val for runs not tested.",
        ),
    ] = "accuracy",
) -> int:
    """List the runs in a directory, best first.

    Runs that are damaged or cannot be read are named, and the exit code is 7.
    """
    if sort not in SORTS:
        raise UsageError(f"--sort {sort}: expected one of {', '.join(SORTS)}")
    if not directory.is_dir():
        raise RunError(f"directory {directory} does not exist", _TRAIN_HINT)
    rows = [_describe(row) for row in list_runs(directory)]
    if sort == "accuracy":
        rows.sort(key=_rank, reverse=True)
    elif sort == "created":
        rows.sort(key=lambda row: str(row["created"]))
    out.json({"runs": rows})
    columns = ("run", "status", "test", "val", "model", "params", "epochs", "data", "created")
    keys = ("name", "status", "test_accuracy", "val_accuracy")
    if rows:
        cells = [
            [
                *(row[key] for key in keys),
                (row["model"] or "").replace(",", ", ") or None,
                group_digits(row["parameters"]),
                group_digits(row["epochs"]),
                row["dataset"],
                _local_day(row["created"]),
            ]
            for row in rows
        ]
        out.table("", columns, rows=cells)
    else:
        out.note(f"no runs in {directory}")
        out.hint(_TRAIN_HINT)
    for row in rows:
        if row["problem"]:
            out.warn(f"{row['run']}: {row['problem']}")
    return ExitCode.SOME_FAILED if any(row["problem"] for row in rows) else ExitCode.OK


def remove_command(
    runs: Annotated[
        list[Path],
        argument("RUN...", "Run directories, such as runs/pets-*.", complete=complete_run),
    ],
    *,
    keep_best: Annotated[
        int, option("--keep-best N", "Keep the N most accurate of them.", min=0)
    ] = 0,
    yes: options.Yes = False,
) -> int:
    """Remove run directories: their checkpoints, reports and exports are gone afterwards.

    A run that is still training is refused, and files that are not of the run stay. A damaged run
    can be removed, too; it counts as the worst one.
    """
    paths: dict[Path, Path] = {}
    for path in runs:  # one that is given twice must not be kept and removed
        paths.setdefault(path.resolve(), path)
    rows = [_describe(_open_row(path)) for path in paths.values()]
    rows.sort(key=_rank, reverse=True)
    doomed = rows[keep_best:]
    for row in doomed:
        if row["status"] == RunStatus.RUNNING:  # refused before anything is removed
            RunDirectory(Path(row["run"])).check_ended()
    names = ", ".join(row["run"] + " (damaged)" * bool(row["problem"]) for row in doomed)
    if doomed and not out.confirm(f"remove {count_of(len(doomed), 'run')}: {names}?", yes=yes):
        out.note("nothing was removed")
        return ExitCode.OK
    for row in doomed:
        left = remove_run(RunDirectory(Path(row["run"])))
        out.line(f"removed {row['run']}")
        if left:
            out.warn(f"{row['run']} stays: it also holds {name_some(left)}")
    out.json(
        {
            "removed": [row["run"] for row in doomed],
            "kept": [row["run"] for row in rows[:keep_best]],
        }
    )
    return ExitCode.OK


def export_command(
    runs: Annotated[list[Path], argument("RUN...", "Run directories.", complete=complete_run)],
    *,
    to: Annotated[
        str,
        option(
            "--to NAME:PLACE", "mlflow:URI, such as mlflow:sqlite:///mlflow.db, or tensorboard:DIR."
        ),
    ],
) -> None:
    """Export finished runs to MLflow or TensorBoard: every epoch at its time, figures and files.

    The same that 'train --track' shows live. Exporting a run twice gives two runs of MLflow; a run
    that TensorBoard has already is skipped.
    """
    from cnnclf.tracking.tracking import check_export, export_run, find_events, viewing_command

    directories = [open_run(path) for path in runs]
    check_distinct(runs)
    for run in directories:  # before any is exported: again, it would be there twice
        check_export(run)
    exported: list[Path] = []
    for number, run in enumerate(directories):
        if events := find_events(run, to):
            again = f"to write it again, first: rm -r {shlex.quote(str(events))}"
            out.note(f"{run.path} is in {events} already; {again}")
            continue
        try:
            export_run(run, to)
        except RunError as error:
            if exported:  # which would be there twice
                words = ["cnnclf", "runs", "export", *map(str, runs[number:]), "--to", to]
                error.add_note(f"then export what is left: {shlex.join(words)}")
            raise
        exported.append(run.path)
        out.line(f"exported {run.path} to {to}")
    viewing = dict.fromkeys(viewing_command(to, run, continues=False) for run in directories)
    out.json({"exported": exported, "to": to, "view": list(viewing)})
    for command in viewing:
        out.hint(f"to see it: {command}")


def show_command(run: options.Run) -> ExitCode:
    """Show a run: data, settings, training, evaluations and exports.

    What cannot be read is named, and the exit code is 7.
    """
    directory = open_run(run)
    record = directory.read_record()
    problem = _describe(describe_run(directory))["problem"]
    plan, evaluations = (
        _read_whole(read, directory) for read in (RunDirectory.read_plan, read_evaluations)
    )
    exports = [read_export(path) for path in directory.list_exports()]
    out.json(
        {
            "run": directory.path,
            "status": directory.status(),
            "record": record,
            "plan": plan,
            "evaluations": evaluations,
            "exports": exports,
            "problem": problem,
        }
    )
    out.pairs("Run", _run_pairs(directory, record) | _extension_pairs(record))
    out.pairs("Data", _data_pairs(plan))
    reasons = section(plan, "reasons")
    settings = flatten(section(plan, "config"))
    out.pairs(
        "Settings",
        {
            key: f"{format_typed(key, value)}  (auto: {reasons[key]})"
            if key in reasons
            else format_typed(key, value)
            for key, value in settings.items()
            # an operation left to the preset is in the line below
            if value is not None or not key.startswith("augment.")
        }
        | ({"augmentation": _operations(plan)} if "augmentation" in plan else {}),
    )
    for split, metrics in evaluations.items():
        out.pairs(
            f"Evaluation on {split}",
            {METRICS[key]: metrics.get(key) for key in list_shown([metrics])},
        )
    if exports:
        keys = ("name", "verdict", "accuracy", "lost", "same_label", "images", "image_ms")
        out.table(
            "Exports",
            ("export", "verdict", "accuracy", "points lost", "same label", "images", "ms alone"),
            rows=[[format_figure(key, row[key]) for key in keys] for row in exports],
        )
    if problem:
        out.warn(problem)
        return ExitCode.SOME_FAILED
    if directory.status() == "interrupted":
        out.hint(f"continue with: {directory.resume_command()}")
    return ExitCode.OK


def _read_whole(
    read: Callable[[RunDirectory], dict[str, Any]], directory: RunDirectory
) -> dict[str, Any]:
    """Read a part of a run; nothing if it is damaged, which `_describe` names."""
    try:
        return read(directory)
    except RunError:
        return {}


_TRAIN_HINT = "create a run: cnnclf train DATASET"


def _open_row(path: Path) -> RunRow:
    """Open a run that may be damaged, as long as it has a run.json."""
    run = RunDirectory(path)
    if run.record.exists():
        return describe_run(run)
    return RunRow(open_run(path), "", {})


def _describe(row: RunRow) -> dict[str, Any]:
    directory, record, status, problem = row.directory, row.record, row.status, row.problem
    plan: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    epochs, val_accuracy = record.get("epochs"), record.get("best_val_accuracy")
    try:
        plan = directory.read_plan()
        if status == RunStatus.FINISHED or plan:
            _check_plan(plan, directory.plan)
        if epochs is None:  # the fit has not ended, or never did
            epochs, val_accuracy = _read_progress(directory)
        evaluations = read_evaluations(directory)
        metrics = evaluations.get("test", {})
        val_accuracy = evaluations.get("val", {}).get("accuracy", val_accuracy)
    except RunError as error:  # one damaged run must not hide the others
        status, problem = "damaged", problem or error.message
    except OSError as error:
        status = "unreadable"
        problem = problem or f"cannot be read: {error.strerror}"
    return {
        "run": str(directory.path),
        "name": directory.path.name,
        "status": status,
        "test_accuracy": metrics.get("accuracy"),
        "test_accuracy_low": metrics.get("accuracy_low"),
        "test_accuracy_high": metrics.get("accuracy_high"),
        "val_accuracy": val_accuracy,
        "model": _name_model(plan),
        "epochs": epochs,
        "best_epoch": record.get("best_epoch"),
        "parameters": record.get("parameters", plan.get("parameters")),
        "dataset": section(plan, "dataset").get("name"),
        "created": record.get("created"),
        "problem": problem,
    }


def _read_progress(directory: RunDirectory) -> tuple[int | None, float | None]:
    """Read how many epochs there are so far, and the best val accuracy of them."""
    from cnnclf.evaluation.learning_diagnosis import read_rows

    rows = read_rows(directory.history)
    found = [row["val_accuracy"] for row in rows if row.get("val_accuracy") is not None]
    return len(rows) or None, max(found, default=None)


def _check_plan(plan: Mapping[str, Any], path: Path) -> None:
    """Refuse a plan without the parts that all plans have."""
    kinds = {"config": dict, "dataset": dict, "counts": dict, "labels": list}
    for key, kind in kinds.items():
        if not isinstance(plan.get(key), kind):
            fault = f"is damaged: it has no {key}" if path.exists() else "is missing"
            raise RunError(f"{path} {fault}")


def _rank(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Give what runs are sorted by: accuracy on test, else on val; none, or damaged, is worst."""
    test, val = row["test_accuracy"], row["val_accuracy"]
    own = val if test is None else test
    return (not row["problem"], -1.0 if own is None else own, -1.0 if val is None else val)


def _name_model(plan: Mapping[str, Any]) -> str | None:
    """Name the network of a plan: its backbone, or the preset and filters of its CNN."""
    config = section(plan, "config")
    backbone = section(config, "backbone").get("name")
    if backbone is not None:
        return str(backbone)
    model = section(config, "model")
    filters = ",".join(map(str, list_items(model.get("filters"))))
    return f"{model.get('preset', 'cnn')} {filters}".strip() if model else None


def _local_day(moment: object) -> str | None:
    """Return the date of an ISO timestamp in the time zone of the user."""
    try:
        return f"{datetime.fromisoformat(str(moment)).astimezone():%Y-%m-%d}"
    except ValueError:
        return None


def _run_pairs(directory: RunDirectory, record: Mapping[str, Any]) -> dict[str, object]:
    pairs: dict[str, object] = {"directory": directory.path, "status": directory.status()}
    if record.get("why_ended"):
        pairs["why it ended"] = record["why_ended"]
    for key in ("command", "created", "ended", "device"):
        if record.get(key):
            pairs[key] = record[key]
    if record.get("wall_s") is not None:
        pairs["took"] = format_seconds(record["wall_s"])
    for key, words in RECORD_FIGURES.items():
        if record.get(key) is not None:
            pairs[words] = format_figure(key, record[key])
    return pairs


def _extension_pairs(record: Mapping[str, Any]) -> dict[str, object]:
    """Say which run it extends, if any, and what became of the learning rate."""
    origin, epoch, rate = (record.get(f"extends{part}") for part in ("", "_epoch", "_rate"))
    if origin is None or not isinstance(epoch, int):
        return {}
    return {"extends": f"{origin} from epoch {epoch + 1}" + (f": {rate}" if rate else "")}


def _operations(plan: Mapping[str, Any]) -> str:
    operations = section(plan, "augmentation")
    return (
        ", ".join(f"{name} {format_setting(name, value)}" for name, value in operations.items())
        or "none"
    )


def _data_pairs(plan: Mapping[str, Any]) -> dict[str, object]:
    labels = list(map(str, list_items(plan.get("labels"))))
    shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    return {
        **section(plan, "dataset"),
        "labels": f"{len(labels)}: {shown}",
        **{f"{split} images": count for split, count in section(plan, "counts").items()},
    }
