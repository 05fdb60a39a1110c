"""`cnnclf runs`: list, show and compare run directories. Reads JSON files only."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnclf.cli import options
from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.network_tables import GroupedCount
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.paired_tables import show_tests
from cnnclf.cli.words import format_rate, format_seconds
from cnnclf.errors import CnnclfError, DataError, ExitCode, RunError, UsageError
from cnnclf.files import read_json
from cnnclf.names import count_of, name_some
from cnnclf.runs import (
    METRICS_FILE,
    PARITY_FILE,
    RunDirectory,
    RunRow,
    is_number,
    list_runs,
    open_run,
    remove_run,
)

if TYPE_CHECKING:
    from cnnclf.evaluation.paired_runs import PairedTest

_HERE = "cnnclf.cli.commands.runs"

RUNS_COMMANDS = (
    ("list", _HERE, "list_command", "List the runs in a directory, best first."),
    ("show", _HERE, "show_command", "Show a run."),
    ("compare", _HERE, "compare_command", "Compare runs side by side."),
    ("export", _HERE, "export_command", "Export finished runs to MLflow or TensorBoard."),
    ("remove", _HERE, "remove_command", "Remove runs; optionally keep the best."),
)

SORTS = ("accuracy", "name", "created")
SPLITS = ("test", "val", "train")

# The metrics of an evaluation that are shown, in this order; metrics.json has all.
_METRICS = {
    "accuracy": "accuracy",
    "accuracy_low": "accuracy, 95 % CI from",
    "accuracy_high": "accuracy, 95 % CI to",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
}


def list_command(
    directory: Annotated[Path, argument("DIR", "Directory that contains the runs.")] = Path("runs"),
    *,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="|".join(SORTS),
            autocompletion=lambda: list(SORTS),
            help="Sort order; accuracy is that on test, or on val for runs without a test split.",
        ),
    ] = "accuracy",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List the runs in a directory, best first.

    Directories that cannot be entered are named, and the exit code is 7.
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
                _grouped(row["parameters"]),
                row["epochs"],
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
    is_unread = any(row["status"] == "unreadable" for row in rows)
    return ExitCode.SOME_FAILED if is_unread else ExitCode.OK


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
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Remove run directories: their checkpoints, reports and exports are gone afterwards.

    A run that is still training is refused, and files that are not of the run stay.
    """
    rows = [
        _describe(RunRow(run := open_run(path), run.status(), run.read_record())) for path in runs
    ]
    rows.sort(key=_rank, reverse=True)
    doomed = rows[keep_best:]
    names = ", ".join(row["run"] for row in doomed)
    if doomed and not out.confirm(f"remove {len(doomed):,} runs: {names}?", yes=yes):
        out.note("nothing was removed")
        return ExitCode.OK
    for row in doomed:
        left = remove_run(RunDirectory(Path(row["run"])))
        if left:
            out.warn(f"{row['run']} stays: it also holds {name_some(left)}")
    out.json(
        {
            "removed": [row["run"] for row in doomed],
            "kept": [row["run"] for row in rows[:keep_best]],
        }
    )
    for row in doomed:
        out.line(f"removed {row['run']}")
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
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export finished runs to MLflow or TensorBoard: every epoch at its time, figures and files.

    The same that 'train --track' shows live. Exporting a run twice gives two runs of MLflow.
    """
    from cnnclf.tracking.tracking import export_run

    directories = [open_run(path) for path in runs]
    for run in directories:
        export_run(run, to, progress=out.progress())
        out.line(f"exported {run.path} to {to}")
    out.json({"exported": runs, "to": to})


def show_command(
    run: options.Run, *, json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Show a run: data, settings, training, evaluations and exports."""
    directory = open_run(run)
    record = directory.read_record()
    plan = _read_plan(directory)
    evaluations = _read_evaluations(directory)
    exports = [_read_export(path) for path in directory.list_exports()]
    out.json(
        {
            "run": directory.path,
            "status": directory.status(),
            "record": record,
            "plan": plan,
            "evaluations": evaluations,
            "exports": exports,
        }
    )
    out.pairs("Run", _run_pairs(directory, record))
    out.pairs("Data", _data_pairs(plan))
    reasons = _section(plan, "reasons")
    settings = _flatten(_section(plan, "config"))
    out.pairs(
        "Settings",
        {
            key: f"{_typed(key, value)}  (auto: {reasons[key]})"
            if key in reasons
            else _typed(key, value)
            for key, value in settings.items()
            # an operation left to the preset is in the line below
            if value is not None or not key.startswith("augment.")
        }
        | ({"augmentation": _operations(plan)} if "augmentation" in plan else {}),
    )
    for split, metrics in evaluations.items():
        out.pairs(
            f"Evaluation on {split}",
            {_METRICS[key]: metrics.get(key) for key in _shown([metrics])},
        )
    if exports:
        keys = ("name", "verdict", "accuracy", "lost", "same_label", "images")
        out.table(
            "Exports",
            ("export", "verdict", "accuracy", "points lost", "same label", "images"),
            rows=[[row[key] for key in keys] for row in exports],
        )
    if directory.status() == "interrupted":
        out.hint(f"continue with: {directory.resume_command()}")


def compare_command(
    runs: Annotated[
        list[Path], argument("RUN RUN...", "Two or more run directories.", complete=complete_run)
    ],
    *,
    out_: Annotated[
        Path | None,
        option("--out -o FILE.png", "Draw the images that only one of two runs has right."),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare runs side by side: settings that differ, metrics, and whether one is better.

    Runs that were evaluated on the same images are compared with the first by the exact test of
    McNemar; the result says which difference so many images could have shown.
    """
    if len(runs) < 2:
        raise UsageError(
            f"expected two or more runs, received {len(runs)}", "list them with: cnnclf runs list"
        )
    if out_ is not None:
        if len(runs) > 2:
            raise UsageError(f"--out {out_} draws two runs, received {len(runs)}")
        check_output(out_, "--out", endings=(".png",), overwrite=overwrite)
    directories = [open_run(path) for path in runs]
    names = _short_names(runs)
    plans = [_read_plan(directory) for directory in directories]
    settings = [_comparable(plan) for plan in plans]
    differing = {
        key: [each.get(key) for each in settings]
        for key in dict.fromkeys(key for each in settings for key in each)
        if any(each.get(key) != settings[0].get(key) for each in settings[1:])
    }
    # What one command alone has, as fine-tuning its phases, tells something if it was chosen.
    chosen = {
        key for plan in plans for part in ("given", "reasons") for key in _section(plan, part)
    }
    shown = {
        key: row
        for key, row in differing.items()
        if key in chosen or all(key in each for each in settings)
    }
    records = [directory.read_record() for directory in directories]
    metrics = [_read_evaluations(directory).get("test", {}) for directory in directories]
    figures = {
        **{f"test {key}": [each.get(key) for each in metrics] for key in _shown(metrics)},
        **{key: [record.get(key) for record in records] for key in _RECORD_FIGURES},
    }
    figures = {key: row for key, row in figures.items() if any(each is not None for each in row)}
    words = {f"test {key}": f"test {text}" for key, text in _METRICS.items()} | _RECORD_FIGURES
    from cnnclf.evaluation.paired_statistics import adjust_for_several

    tests, problems = _test_pairs(directories)
    p_values = adjust_for_several([test.p_value for test in tests])
    out.json(
        {
            "runs": runs,
            "settings": differing,
            "figures": figures,
            "tests": [
                test.to_dict() | {"p_adjusted": p_value}
                for test, p_value in zip(tests, p_values, strict=True)
            ],
            "not_tested": [problem.message for problem in problems],
        }
    )
    out.table(
        "Settings that differ" if differing else "No setting differs",
        ("setting", *names),
        rows=[[key, *(_typed(key, each) for each in row)] for key, row in shown.items()],
    )
    if len(shown) < len(differing):
        hidden = count_of(len(differing) - len(shown), "default")
        out.note(f"{hidden} of settings that only one of the commands has: see --json")
    out.table(
        "Figures",
        ("figure", *names),
        rows=[[words[key], *(_figure(key, each) for each in row)] for key, row in figures.items()],
    )
    show_tests(tests, dict(zip(runs, names, strict=True)), p_values=p_values)
    if problems and out_ is not None:
        raise problems[0]
    for problem in problems:
        out.note(problem.message)
        out.hint(problem.hint)
    if out_ is not None:
        _draw_changed(tests[0], out_)


def _test_pairs(runs: list[RunDirectory]) -> "tuple[list[PairedTest], list[CnnclfError]]":
    """Test each later run against the first, as far as both were evaluated on the same images."""
    from cnnclf.evaluation.paired_runs import compare_runs

    tests: list[PairedTest] = []
    problems: list[CnnclfError] = []
    for run in runs[1:]:
        try:
            tests.append(compare_runs(runs[0], run))
        except (DataError, RunError) as error:
            problems.append(error)
    return tests, problems


def _draw_changed(test: "PairedTest", path: Path) -> None:
    from cnnclf.evaluation.paired_runs import draw_changed

    if not test.changed:
        out.note("nothing to draw: no image changed sides")
        return
    draw_changed(test, path)
    out.pairs("", {"figure": path})


_TRAIN_HINT = "create a run: cnnclf train DATASET"

_RECORD_FIGURES = {
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "best_val_accuracy": "best val accuracy",
    "parameters": "parameters",
    "fit_s": "training time",
    "images_per_s": "images per second",
    "data_wait_share": "waiting for images",
}


def _describe(row: RunRow) -> dict[str, Any]:
    directory, record, status, problem = row.directory, row.record, row.status, row.problem
    plan: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    val_accuracy = record.get("best_val_accuracy")
    try:
        plan = _read_plan(directory)
        evaluations = _read_evaluations(directory)
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
        "epochs": record.get("epochs"),
        "best_epoch": record.get("best_epoch"),
        "parameters": record.get("parameters", plan.get("parameters")),
        "dataset": _section(plan, "dataset").get("name"),
        "created": record.get("created"),
        "problem": problem,
    }


def _rank(row: Mapping[str, Any]) -> tuple[float, float]:
    """Give what runs are sorted by: accuracy on test, else on val; none is worst."""
    test, val = row["test_accuracy"], row["val_accuracy"]
    own = val if test is None else test
    return (-1.0 if own is None else own, -1.0 if val is None else val)


def _name_model(plan: Mapping[str, Any]) -> str | None:
    """Name the network of a plan: its backbone, or the preset and filters of its CNN."""
    config = _section(plan, "config")
    backbone = _section(config, "backbone").get("name")
    if backbone is not None:
        return str(backbone)
    model = _section(config, "model")
    filters = ",".join(map(str, _items(model.get("filters"))))
    return f"{model.get('preset', 'cnn')} {filters}".strip() if model else None


def _grouped(count: object) -> object:
    return GroupedCount(count) if isinstance(count, int) else None


def _read_plan(directory: RunDirectory) -> dict[str, Any]:
    """Read plan.json; a run that was stopped before its plan was written has none."""
    return read_json(directory.plan) if directory.plan.exists() else {}


def _read_evaluations(directory: RunDirectory) -> dict[str, dict[str, Any]]:
    """Read the metrics of each split that was evaluated, as one flat mapping each."""
    found = {}
    for split in SPLITS:
        path = directory.evaluation(split) / METRICS_FILE
        if path.exists():
            found[split] = _flat_metrics(read_json(path))
    return found


def _read_export(artifact: Path) -> dict[str, Any]:
    """Read the figures of an export; a damaged one must not hide the run."""
    try:
        content = read_json(artifact / PARITY_FILE)
    except RunError as error:
        content = {"verdict": f"damaged: {error.message}"}
    parity = _section(content, "parity")
    return {
        "name": artifact.name,
        "directory": artifact,
        "verdict": content.get("verdict"),
        "accuracy": _section(parity, "after").get("accuracy"),
        "lost": parity.get("drop_points"),
        "same_label": parity.get("agreement"),
        "images": parity.get("images"),
    }


def _local_day(moment: object) -> str | None:
    """Return the date of an ISO timestamp in the time zone of the user."""
    try:
        return f"{datetime.fromisoformat(str(moment)).astimezone():%Y-%m-%d}"
    except ValueError:
        return None


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under a key, empty if there is none."""
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[Any]:
    """Return the items of a list; of anything else, none."""
    return value if isinstance(value, list) else []


def _flat_metrics(content: Mapping[str, Any]) -> dict[str, Any]:
    interval = _section(content, "accuracy_interval")
    metrics = {
        **_section(content, "metrics"),
        "n": content.get("n"),
        "accuracy_low": interval.get("low"),
        "accuracy_high": interval.get("high"),
    }
    return {key: value for key, value in metrics.items() if is_number(value)}


def _shown(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that any of the evaluations has, in the order they are shown."""
    known = {key for each in metrics for key, value in each.items() if value is not None}
    return [key for key in _METRICS if key in known]


def _run_pairs(directory: RunDirectory, record: Mapping[str, Any]) -> dict[str, object]:
    pairs: dict[str, object] = {"directory": directory.path, "status": directory.status()}
    for key in ("command", "created", "ended", "device"):
        if record.get(key):
            pairs[key] = record[key]
    if record.get("wall_s") is not None:
        pairs["took"] = format_seconds(record["wall_s"])
    for key, words in _RECORD_FIGURES.items():
        if record.get(key) is not None:
            pairs[words] = _figure(key, record[key])
    return pairs


def _figure(key: str, value: object) -> object:
    """Format a figure of a run record with its unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.endswith("_s") and key != "images_per_s":
            return format_seconds(value)
        if key.endswith("_share"):
            return f"{100 * value:.1f} %"
        if key == "images_per_s":
            return format_rate(value)
    return f"{value:,}" if isinstance(value, int) else value


def _operations(plan: Mapping[str, Any]) -> str:
    operations = _section(plan, "augmentation")
    return ", ".join(f"{name} {_setting(value)}" for name, value in operations.items()) or "none"


def _data_pairs(plan: Mapping[str, Any]) -> dict[str, object]:
    labels = list(map(str, _items(plan.get("labels"))))
    shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    return {
        **_section(plan, "dataset"),
        "labels": f"{len(labels)}: {shown}",
        **{f"{split} images": count for split, count in _section(plan, "counts").items()},
    }


def _comparable(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what may differ between runs: settings, dataset and input spec."""
    parts = {
        "command": plan.get("command"),
        "dataset": _section(plan, "dataset"),
        "input": _section(plan, "input_spec"),
        **_section(plan, "config"),
    }
    return _flatten(parts)


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, Mapping):
            flat |= _flatten(each, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = each
    return flat


def _typed(key: str, value: object) -> str:
    """Format a setting as it would be typed; fingerprints are shortened."""
    if key.endswith("image_size") and isinstance(value, list):
        return "x".join(map(str, value))
    text = _setting(value)
    return text[:12] if key.endswith("fingerprint") else text


def _setting(value: object) -> str:
    if isinstance(value, list):
        return "none" if not value else ",".join(_setting(each) for each in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)


def _short_names(paths: list[Path]) -> list[str]:
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
