"""From a run to an export and its report: what `cnnclf export` and `cnnclf.export` do."""

from pathlib import Path

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.errors import CnnclfError, RunError, UsageError
from cnnclf.exporters.artifact import check_place, export_classifier
from cnnclf.exporters.format_table import check_exporter, find_exporter
from cnnclf.exporters.parity_report import ExportReport
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.origins import Origin, find_origin, quote, warn_of_unfinished
from cnnclf.progress import Progress
from cnnclf.runtime import setup_runtime


def export_model(
    model: Path,
    *,
    config: ExportConfig,
    source: str | Path | None = None,
    out: Path | None = None,
    progress: Progress,
    verbose: bool = False,
) -> ExportReport:
    """Write a model in another format and compare it with Keras on real images.

    Args:
        model: A run directory, a checkpoint or a bundle of Keras.
        config: The format and how it is compared.
        source: Images to compare on: a dataset or any source that can be imported; None for the
            dataset of the training.
        out: Directory of the export; None for `exports/FORMAT` in the run.
        progress: Receives tasks, notes and warnings.
        verbose: Do not silence libraries.

    Returns:
        The report; see its verdict. A rejected export is kept beside `out`.

    Raises:
        UsageError: The settings cannot be combined, or no dataset is given or known.
        DataError: The dataset is missing, or its labels are others.
        RunError: The model is an export itself or cannot be converted, or `out` is taken.
        MissingPackageError: The format needs a package.
    """
    check_exporter(find_exporter(config.format), config.quantize)
    if not config.verify and source is not None:
        raise UsageError("--data and --no-verify cannot be combined", "remove one of them")
    bundle = find_bundle(model)  # what is wrong is reported before TensorFlow is loaded
    _check_bundle(bundle)
    origin = find_origin(model, bundle)
    dataset = None
    if config.verify:
        dataset = _open_data(origin, source, format_=config.format, progress=progress)
        dataset.select_split(config.split)
    warn_of_unfinished(origin.path, use="exported", progress=progress)
    target = out or origin.choose_directory().export(config.name)
    check_place(target)
    # GPUs round float32 in their own ways.
    runtime = setup_runtime(device="cpu", verbose=verbose, progress=progress)
    progress.note(runtime.summary)
    classifier = Classifier.load(bundle, engine="keras", precision="float32")
    return export_classifier(
        classifier, target, settings=config, dataset=dataset, progress=progress
    )


def _check_bundle(bundle: Path) -> None:
    """Refuse an export: it has to be made from the original."""
    content = read_bundle(bundle).content
    if "format" in content:
        if adopted := (content.get("extra") or {}).get("adopted"):
            raise RunError(
                f"{bundle} is a model of another program ({adopted}), adopted as "
                f"{content['format']}: only models of Keras can be exported",
                "convert it with that program",
            )
        origin = (content.get("exported_from") or {}).get("directory")
        raise RunError(
            f"{bundle} is already an export to {content['format']}",
            f"export what it was made from: {origin}" if origin else "export its run",
        )


def _open_data(
    origin: Origin, source: str | Path | None, *, format_: str, progress: Progress
) -> Dataset:
    command = quote("cnnclf", "export", origin.path, "--format", format_, "--data")
    try:
        return origin.open_data(source, progress, command=command)
    except CnnclfError as error:
        if source is None:
            error.add_note("--no-verify exports without comparing")
        raise
