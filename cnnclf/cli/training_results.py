"""What a terminal shows of a run: its epochs while it trains, its figures and files at the end."""

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from cnnclf.cli.output import out

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.runs.run_directory import RunDirectory
    from cnnclf.training.epochs import EpochRow
    from cnnclf.training.run import TrainResult


def epoch_cells(row: "EpochRow", *, is_best: bool) -> dict[str, object]:
    """Return the cells of one epoch in the table on the screen."""
    figures = {
        "loss": row.loss,
        "accuracy": row.accuracy,
        "val loss": row.val_loss,
        "val accuracy": row.val_accuracy,
    }
    return {
        "epoch": row.epoch,
        **{name: figure for name, figure in figures.items() if figure is not None},
        "seconds": f"{row.seconds:.1f}",
        "best": "*" if is_best else "",
    }


def show_result(result: "TrainResult", dataset: "Dataset", *, unread: int) -> None:
    """Show the figures of a run and where its files are."""
    from cnnclf.importers import SKIPPED_NAME
    from cnnclf.names import count_of
    from cnnclf.runs.run_names import CONFUSION_FIGURE_FILE, WORST_FIGURE_FILE

    report, run, state = result.report, result.run, result.state
    rows: dict[str, object] = {}
    if report is not None:
        rows[f"{report.split} accuracy"] = report.headline
        if not report.largest_class.is_beaten:
            rows["largest class"] = report.largest_class.describe(report.n)
    rows |= {
        "best epoch": f"{state.best_epoch} of {state.epoch}",
        "model": run.best,
        "curves": run.curves,
    }
    if report is not None:
        place = run.evaluation(report.split)
        rows |= {
            "evaluation": place,
            "confusion": place / CONFUSION_FIGURE_FILE,
            "mistakes": place / WORST_FIGURE_FILE,
        }
    if run.tensorboard.is_dir():
        rows["tensorboard"] = run.tensorboard
    if result.failed:
        rows["excluded"] = f"{count_of(result.failed, 'image')} that cannot be read"
    if unread:
        skipped = dataset.directory / SKIPPED_NAME
        rows["skipped"] = f"{count_of(unread, 'file')} at the import, listed in {skipped}"
    out.pairs("", rows)
    out.json(
        {
            "run": run.path,
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "split": report and report.split,
            "failed": result.failed + unread,
            "failed_at_import": unread,
            "metrics": report and report.summary,
            "largest_class": report and asdict(report.largest_class),
        }
    )
    out.hint(f"cnnclf predict {shlex.quote(str(run.path))} IMAGES...")


def show_finished(run: "RunDirectory") -> None:
    """Say that there is nothing to resume, and where the result is."""
    record = run.read_record()
    out.note(f"the run {run.path} is finished: there is nothing to resume")
    best, epochs = record.get("best_epoch"), record.get("epochs")
    out.pairs("", {"best epoch": f"{best} of {epochs}", "model": run.best})
    out.json({"run": run.path, "best_epoch": best, "epochs": epochs})
    out.hint(run.more_epochs_hint())
