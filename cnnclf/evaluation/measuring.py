"""From a run or bundle to its report: what `cnnclf evaluate` and `cnnclf.evaluate` do."""

from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from cnnclf.config import EvaluateConfig
from cnnclf.data.manifest import Dataset, is_dataset
from cnnclf.errors import RunError
from cnnclf.evaluation.groups import read_column
from cnnclf.evaluation.predictions import check_labels
from cnnclf.evaluation.report import evaluate
from cnnclf.evaluation.report_content import Report
from cnnclf.files import read_json
from cnnclf.full_disks import check_writable
from cnnclf.importers import count_unread
from cnnclf.inference.bundle_paths import check_order, find_bundle
from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.origins import (
    Origin,
    find_origin,
    is_trained_on,
    quote,
    warn_of_unfinished,
)
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import section
from cnnclf.runs.run_names import METRICS_FILE


def measure_model(
    model: Path,
    source: str | Path | None = None,
    *,
    config: EvaluateConfig,
    out: Path | None = None,
    progress: Progress,
    verbose: bool = False,
) -> Report:
    """Load a model, open the images to measure it on, and write the report.

    Args:
        model: A run directory, a checkpoint, a bundle or an export.
        source: A dataset or any source that can be imported; None for the dataset of the training.
        config: What to measure, and what computes it.
        out: Directory for the report; None for the run (or bundle), under the name of the split.
        progress: Receives tasks, notes and warnings.
        verbose: Do not silence libraries.

    Raises:
        UsageError: No dataset is given or known, or the engine does not support the settings.
        DataError: The dataset is missing, its labels are others, or the split has no images.
        RunError: The model cannot be loaded, or the report cannot be written.
    """
    check_order(model, [source], command="evaluate")
    bundle = find_bundle(model)  # a wrong path is reported before TensorFlow is loaded
    origin = find_origin(model, bundle)
    data = origin.open_data(source, progress, command=quote("cnnclf", "evaluate", model))
    split = config.split or _choose_split(data, source, bundle=bundle, progress=progress)
    data.select_split(split)
    check_labels(read_bundle(bundle).labels, data)  # before a library is loaded
    if config.by is not None:
        read_column(data, config.by)  # a wrong name is reported before a model is loaded
    warn_of_unfinished(model, use="measured", progress=progress)
    place = out or _choose_place(origin, split, data)
    check_writable(place)
    classifier = Classifier.load(
        bundle,
        engine=config.engine,
        precision=config.precision,
        device=config.device,
        views=config.views,
        verbose=verbose,
        progress=progress,
    )
    report = evaluate(
        classifier,
        data,
        split=split,
        out=place,
        batch_size=config.batch_size,
        top_k=config.top_k,
        cache=config.cache,
        by=config.by,
        robustness=config.robustness,
        training=origin.find_training_data() if source is not None else None,
        progress=progress,
    )
    return report if source is None else replace(report, failed_at_import=count_unread(data))


def _choose_split(
    data: Dataset, place: str | Path | None, *, bundle: Path, progress: Progress
) -> str:
    """Choose what is evaluated if nobody says.

    The test split, or what the training fell back to; all images of a source without splits that
    the model never saw.
    """
    if place is None and not len(data.manifest.select("test")):
        for split in ("val", "train"):
            if len(data.manifest.select(split)):
                progress.note(f"{data.place} has no test split: {split} is evaluated")
                return split
    if place is None or is_dataset(Path(place)) or data.source.get("split") != "made":
        return "test"
    if is_trained_on(bundle, data):
        return "test"
    progress.note(f"{place} has no splits: all {len(data):,} images are evaluated")
    return "all"


def _choose_place(origin: Origin, split: str, data: Dataset) -> Path:
    """Choose the directory of a report: that of the split, so that the run keeps its own figures.

    Other data add their name, and a number where other data of this name were evaluated before. A
    model that nothing is known of has no data of its own: the first that it is evaluated on are.
    """
    run = origin.choose_directory()
    if origin.dataset is not None and data.fingerprint == origin.dataset["fingerprint"]:
        return run.evaluation(split)
    name = f"{split}-{data.name}"
    first = [split, name] if origin.dataset is None else [name]
    names = chain(first, (f"{name}-{number}" for number in count(2)))
    return next(place for place in map(run.evaluation, names) if not _holds_other(place, data))


def _holds_other(place: Path, data: Dataset) -> bool:
    """Return whether a directory holds a report on data of other content."""
    try:
        content = read_json(place / METRICS_FILE)
    except RunError:  # missing or damaged
        return False
    return section(content, "dataset").get("fingerprint") != data.fingerprint
