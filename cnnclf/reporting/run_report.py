"""From a run to its page: what `cnnclf report RUN` and `cnnclf.report` do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnclf.errors import UsageError
from cnnclf.evaluation.learning_diagnosis import describe_shares, diagnose
from cnnclf.files import write_text_atomic
from cnnclf.names import join_sides, name_some
from cnnclf.pages.html_page import render_page
from cnnclf.pages.svg_charts import draw_class_bars
from cnnclf.progress import Progress
from cnnclf.reporting.glossary_links import GlossaryLinks
from cnnclf.reporting.report_charts import draw_history, draw_trace, name_traced
from cnnclf.reporting.report_evaluation import Missing, describe_evaluation
from cnnclf.reporting.report_images import choose_samples, open_images
from cnnclf.reporting.run_files import Evaluation, RunFiles, list_choices, list_commands, read_run
from cnnclf.runs.run_directory import RunStatus, section

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Args:
        path: The file.
        size_bytes: Its size.
        missing: What is not on it, and why.
        is_renewed: Whether it replaced an earlier page.
    """

    path: Path
    size_bytes: int
    missing: Sequence[str] = ()
    is_renewed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "missing": list(self.missing),
            "renewed": self.is_renewed,
        }


def report_run(
    path: Path,
    *,
    out: Path | None = None,
    evaluation: str | None = None,
    maps: bool = True,
    progress: Progress,
) -> WrittenReport:
    """Write the report of a run. What is missing, such as the dataset, is named on the page.

    Args:
        path: A run directory, finished or not.
        out: The file, which is replaced; None for report.html in the run.
        evaluation: Which one is shown in detail, such as val or test-NAME; None for that of test.
        maps: Compute evidence maps, for which the network is loaded.
        progress: Receives tasks and notes.

    Raises:
        RunError: There is no run, it is damaged, or the file cannot be written.
        UsageError: There is no such evaluation.
    """
    files = read_run(path)
    chosen = _choose_evaluation(files, evaluation)
    missing = Missing()
    if files.status != "finished":
        why = files.record.get("why_ended")
        missing.notes.append(f"the run is {files.status}: {why or 'this is what there is so far'}")
        if files.status == RunStatus.INTERRUPTED:
            missing.notes[-1] += f"; continue it: {files.directory.resume_command()}"
    if files.lost_epochs:
        missing.notes.append(files.lost_epochs)
    dataset = missing.attempt("images", lambda: open_images(files, None, progress=progress))
    page = render_page(
        Path(__file__).with_name("report.html"),
        title=f"Report of {files.name}",
        words=GlossaryLinks(),
        files=files,
        run=_describe_run(files),
        choices=list_choices(files.plan),
        data=_describe_data(files, dataset),
        history=draw_history(files.history, best_epoch=files.record.get("best_epoch")),
        trace=draw_trace(files.trace),
        traced=name_traced(files.trace),
        diagnosis=_list_findings(files),
        test=describe_evaluation(
            files, chosen, dataset=dataset, maps=maps, missing=missing, progress=progress
        ),
        network=missing.attempt("network", lambda: _describe_network(files)),
        commands=list_commands(files),
        missing=missing.notes,
    )
    target = out or files.directory.report
    is_renewed = target.exists()
    write_text_atomic(target, page)
    return WrittenReport(target, target.stat().st_size, missing.notes, is_renewed)


def _list_findings(files: RunFiles) -> list[str]:
    """Return what is off, and what would help, in one sentence each."""
    advice = str(section(files.record, "mirrored_val").get("words") or "")
    findings = diagnose(files.history, files.trace, optimizer=_name_optimizer(files))
    return [*findings, advice] if advice else findings


def _choose_evaluation(files: RunFiles, name: str | None) -> Evaluation | None:
    if name is None:
        return files.evaluations[0] if files.evaluations else None
    found = next((each for each in files.evaluations if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in files.evaluations) or "none"
        raise UsageError(
            f"--evaluation {name}: the run {files.directory.path} has no such evaluation",
            f"it has {names}",
        )
    return found


def _describe_run(files: RunFiles) -> dict[str, str]:
    record = files.record
    found = {
        "status": files.status,
        "why it ended": record.get("why_ended"),
        "command": record.get("command"),
        "created": record.get("created"),
        "ended": record.get("ended"),
        "device": record.get("device"),
        "seed": record.get("seed"),
        "versions": ", ".join(f"{k} {v}" for k, v in section(record, "versions").items()),
        "training time": _round(record.get("fit_s"), " s"),
        "time spent": _describe_time(record),
        "images per second": _round(record.get("images_per_s")),
        "epochs": record.get("epochs"),
        "best epoch": record.get("best_epoch"),
    }
    return {name: str(value) for name, value in found.items() if value not in {None, ""}}


def _name_optimizer(files: RunFiles) -> str:
    return str(section(section(files.plan, "config"), "optimizer").get("name", ""))


def _describe_time(record: Mapping[str, Any]) -> str:
    """Say what the time up to the last epoch was spent on; empty for runs of earlier versions."""
    fit_s, start_s, wait = (record.get(key) for key in ("fit_s", "start_s", "data_wait_share"))
    if not fit_s or start_s is None or wait is None:
        return ""
    device = str(record.get("device"))
    return describe_shares(start_s + fit_s, starting=start_s, waiting=wait * fit_s, device=device)


def _round(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:,.1f}{unit}"


def _describe_data(files: RunFiles, dataset: "Dataset | None") -> dict[str, Any]:
    plan = files.plan
    origin, counts = section(plan, "dataset"), section(plan, "counts")
    data: dict[str, Any] = {
        "facts": {
            "dataset": origin.get("name"),
            "path": origin.get("path"),
            "fingerprint": origin.get("fingerprint"),
            "classes": len(plan.get("labels", ())),
            "images": ", ".join(f"{split} {count:,}" for split, count in counts.items()),
        },
        "samples": {},
        "bars": None,
        "remarks": list(plan.get("remarks", ())),
    }
    if dataset is None:
        return data
    manifest = dataset.manifest
    sizes = [
        f"{min(sides)}" if min(sides) == max(sides) else f"{min(sides)} to {max(sides)}"
        for sides in (manifest.heights.tolist(), manifest.widths.tolist())
    ]
    data["facts"]["size"] = f"height {sizes[0]}, width {sizes[1]} pixels"
    data["facts"]["modes"] = name_some(sorted(set(manifest.modes)))
    if dataset.fingerprint != origin.get("fingerprint"):
        data["remarks"].append("the dataset changed since the training: images may be others")
    by_split = dataset.counts()
    data["bars"] = draw_class_bars(
        {label: {split: by_split[split][label] for split in by_split} for label in dataset.labels}
    )
    data["samples"] = choose_samples(dataset)
    return data


def _describe_network(files: RunFiles) -> dict[str, Any]:
    from markupsafe import Markup

    from cnnclf.drawing.block_diagram import to_svg
    from cnnclf.explainers.network_sources import describe_run
    from cnnclf.models.network_diagram import CAPTION, draw_blocks
    from cnnclf.runtime import setup_runtime

    prepare = partial(setup_runtime, device="cpu", precision="float32")
    network = describe_run(files.directory.path, prepare=prepare)
    anatomy = network.anatomy.fold(1 if network.is_staged else 2)
    diagram = to_svg(draw_blocks(anatomy, network.input_shape), title="network", caption=CAPTION)
    return {
        "parameters": network.anatomy.parameters,
        "macs": network.anatomy.macs,
        "input": join_sides(network.input_shape),
        "layers": anatomy.layers,
        "diagram": Markup(diagram),  # noqa: S704 - escapes its text
    }
