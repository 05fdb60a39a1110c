"""Python interface: what becomes of a finished run."""

from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.api.arguments import Logged, Settings, StrPath, path_of, resolve, source_of
from cnnclf.config import CalibrateConfig, EvaluateConfig, ExportConfig
from cnnclf.progress import Progress
from cnnclf.runtime import keeping_policy

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.evaluation.deciding import CalibratedModel
    from cnnclf.evaluation.report_content import Report
    from cnnclf.exporters.parity_report import ExportReport
    from cnnclf.inference.classifier import Classifier
    from cnnclf.reporting.run_report import WrittenReport


@keeping_policy()
def evaluate(
    model: "Classifier | StrPath",
    dataset: "Dataset | StrPath | None" = None,
    *,
    config: EvaluateConfig | Settings | None = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
    verbose: bool = False,
) -> "Report":
    """Measure a trained model on images whose labels are known, and write the report.

    Args:
        model: A run directory, a checkpoint, a bundle, an export, or a loaded classifier.
        dataset: A dataset, or any source that can be imported; None for that of the training.
        config: Settings of `cnnclf evaluate`.
        out: Directory of the report; None for `evaluation/SPLIT` in the run.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The report: `metrics`, `per_class`, `confusion`, `failed` and `directory`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: The dataset is missing, its labels are others, or the split has no images.
        RunError: The model cannot be loaded, or the report cannot be written.

    Example:
        >>> cnnclf.evaluate("runs/first", config={"split": "val"}).metrics["accuracy"]
        0.95
    """
    from cnnclf.evaluation.measuring import measure_model

    settings, _ = resolve(EvaluateConfig, config)
    return measure_model(
        path_of(model),
        source_of(dataset),
        config=settings,
        out=None if out is None else Path(out),
        progress=progress or Logged(),
        verbose=verbose,
    )


@keeping_policy()
def calibrate(
    model: "Classifier | StrPath",
    dataset: "Dataset | StrPath | None" = None,
    *,
    config: CalibrateConfig | Settings | None = None,
    progress: Progress | None = None,
    verbose: bool = False,
) -> "CalibratedModel":
    """Choose a threshold that keeps a promise on new images, and store it in the bundle.

    Args:
        model: A run directory, a checkpoint, a bundle, an export, or a loaded classifier, which
            keeps its old threshold until it is loaded again.
        dataset: Images that the model was not trained on; None for val of the training dataset.
        config: Settings of `cnnclf calibrate`; with none, `offers` has what could be promised.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        What was stored: `promise`, `offers` and `curve`, the risk at each coverage.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: So many images cannot support the promise; with the number needed.
        RunError: The model cannot be loaded.

    Example:
        >>> cnnclf.calibrate("runs/first", config={"precision_target": 0.95}).promise.threshold
        0.83
    """
    from cnnclf.evaluation.deciding import calibrate_model

    settings, _ = resolve(CalibrateConfig, config)
    return calibrate_model(
        path_of(model),
        source_of(dataset),
        config=settings,
        progress=progress or Logged(),
        verbose=verbose,
    )


@keeping_policy()
def export(
    model: "Classifier | StrPath",
    config: ExportConfig | Settings,
    *,
    dataset: "Dataset | StrPath | None" = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
    verbose: bool = False,
) -> "ExportReport":
    """Write a trained model in another format and compare it with Keras on real images.

    Args:
        model: A run directory, a checkpoint, a bundle of Keras, or a loaded classifier of one.
        config: Settings of `cnnclf export`; `format` is required.
        dataset: Images to compare on; None for the dataset of the training.
        out: Directory of the export; None for `exports/FORMAT` in the run.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The report: `directory`, `verdict` and `parity`. A rejected export is kept beside `out`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: The dataset is missing, or its labels are others.
        RunError: The model cannot be converted, or `out` is taken.
        MissingPackageError: The format needs a package.

    Example:
        >>> cnnclf.export("runs/first", {"format": "onnx"}).verdict
        'verified'
    """
    from cnnclf.exporters.exporting import export_model

    settings, _ = resolve(ExportConfig, config)
    return export_model(
        path_of(model),
        config=settings,
        source=source_of(dataset),
        out=None if out is None else Path(out),
        progress=progress or Logged(),
        verbose=verbose,
    )


@keeping_policy()
def report(
    *runs: StrPath,
    out: StrPath | None = None,
    evaluation: str | None = None,
    maps: bool = True,
    progress: Progress | None = None,
) -> "WrittenReport":
    """Write everything about a run, or a comparison of several, on one HTML page.

    Args:
        *runs: Run directories, finished or not; or one tuning directory.
        out: The file, which is replaced if it exists; None for report.html in the run, and for
            several runs comparison.html.
        evaluation: Which one is shown in detail, such as val; None for that of test.
        maps: Compute evidence maps, for which the network is loaded.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        `path` of the page, its `size_bytes`, and what is `missing` on it.

    Raises:
        RunError: There is no run, it is damaged, or the page cannot be written.
        UsageError: There is no such evaluation.

    Example:
        >>> cnnclf.report("runs/first").path
        PosixPath('runs/first/report.html')
    """
    from cnnclf.reporting.run_comparison import compare_runs
    from cnnclf.reporting.run_report import report_run
    from cnnclf.runs.run_names import SEARCH_FILE
    from cnnclf.tuning.search_page import report_search

    paths, page = [Path(run) for run in runs], None if out is None else Path(out)
    if len(paths) == 1 and (paths[0] / SEARCH_FILE).is_file():
        return report_search(paths[0], out=page)
    if len(paths) == 1:
        return report_run(
            paths[0],
            out=page,
            evaluation=evaluation,
            maps=maps,
            progress=progress or Logged(),
        )
    return compare_runs(paths, out=Path(out or "comparison.html"))
