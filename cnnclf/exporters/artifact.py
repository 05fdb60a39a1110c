"""Makes artifacts: converts a model, runs the result in its runtime and compares it with Keras.

An artifact is a directory with the model in its format, classifier.json as in a bundle, and
parity.json with the comparison. It is made next to its target and moved there once the verdict is
known; a rejected one gets `.rejected` added to its name.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import DataError, RunError, UsageError
from cnnclf.evaluation.predictions import check_labels
from cnnclf.exporters.exporter import ExportJob
from cnnclf.exporters.format_table import ExporterRow, check_exporter, find_exporter
from cnnclf.exporters.parity import compare_models
from cnnclf.exporters.parity_report import REJECTED, UNVERIFIED, VERIFIED, ExportReport
from cnnclf.files import (
    check_replaceable,
    follow_link,
    json_bytes,
    read_json,
    replace_directory_atomic,
    staging_directory,
    write_json_atomic,
)
from cnnclf.full_disks import check_writable, reporting_full_disk
from cnnclf.inference.bundles import BUNDLE_VERSION, hash_files, without_training
from cnnclf.inference.calibration_data import FIELD, can_compare, load_calibration, save_calibration
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.engine import EngineRefusedError, Pixels
from cnnclf.inference.engines.engine_table import load_function
from cnnclf.packages import read_versions
from cnnclf.progress import Progress
from cnnclf.runs.run_names import CLASSIFIER_FILE, ENGINE_CACHE, EVALUATION, PARITY_FILE

if TYPE_CHECKING:
    import keras

_REJECTED_SUFFIX = ".rejected"
_CALIBRATION_IMAGES = 300
_SEED = 0


def export_classifier(
    classifier: Classifier,
    target: Path,
    *,
    settings: ExportConfig,
    dataset: Dataset | None,
    progress: Progress,
) -> ExportReport:
    """Write an artifact, run it in its own runtime, and compare it with Keras.

    Args:
        classifier: A bundle of Keras, opened in Keras and float32.
        target: Directory of the artifact; may be empty or an earlier artifact.
        settings: What to export.
        dataset: Images for the comparison and the int8 calibration; without them, the artifact is
            not verified.
        progress: Reports what is done.

    Returns:
        The report with the verdict. A rejected artifact is next to `target`, which is unchanged.

    Raises:
        UsageError: The format does not support this, or int8 has no calibration images.
        MissingPackageError: The format needs a package.
        RunError: The model cannot be converted, the artifact cannot be run, or `target` contains
            other files.
        DataError: The labels of the dataset are not those of the model.
        DeviceError: The disk is full.
    """
    row = find_exporter(settings.format)
    title = row.describe(settings.quantize)
    check_exporter(row, settings.quantize)
    check_place(target)
    rejected = _name_rejected(target)
    if dataset is not None:  # checked before the conversion, which takes minutes
        check_labels(classifier.labels, dataset)
        dataset.select_split(settings.split)
    calibration = _draw_calibration(classifier, settings, dataset, progress)
    with staging_directory(target) as directory:
        with (
            reporting_full_disk(target, directory),
            progress.task(f"converting to {title}", 2, unit="steps") as task,
        ):
            content = _write_model(classifier, row, settings, directory, calibration)
            write_json_atomic(directory / CLASSIFIER_FILE, content)
            task.advance()
            artifact = _open_as_users_do(directory, title)
            task.advance()
        report = _compare(classifier, artifact, settings, dataset, progress)
        write_json_atomic(directory / PARITY_FILE, report.to_dict())
        place = rejected if report.verdict == REJECTED else target
        replace_directory_atomic(directory, place)
        if place == target and rejected.exists():
            shutil.rmtree(rejected)
    return replace(report, directory=place)


def check_place(target: Path) -> None:
    """Check that an artifact, verified or rejected, can be written to a directory.

    Raises:
        RunError: It contains anything but an earlier artifact, is closed to the user, or is a
            mount point or the current directory.
    """
    check_replaceable(target)
    check_writable(target)
    check_writable(follow_link(target).parent)  # where it is made
    for place in (target, _name_rejected(target)):
        if place.exists():
            _check_ours(place)


def _name_rejected(target: Path) -> Path:
    place = follow_link(target)
    return place.with_name(place.name + _REJECTED_SUFFIX)


def _check_ours(target: Path) -> None:
    names = sorted(entry.name for entry in target.iterdir()) if target.is_dir() else [target.name]
    others = names
    if {CLASSIFIER_FILE, PARITY_FILE} <= set(names):
        content = read_json(target / CLASSIFIER_FILE)
        ours = {content.get("model"), *content.get("files", ())}
        ours.add((content.get(FIELD) or {}).get("file"))
        ours |= {CLASSIFIER_FILE, PARITY_FILE, ENGINE_CACHE, EVALUATION}
        others = [name for name in names if name not in ours]
    if others:
        raise RunError(
            f"{target} contains {others[0]}, which is not part of an earlier export",
            "choose another directory with --out",
        )


def _draw_calibration(
    classifier: Classifier, settings: ExportConfig, dataset: Dataset | None, progress: Progress
) -> Pixels:
    """Draw training images for int8; the same ones for the same data."""
    if settings.quantize != "int8":
        return np.zeros((0, *classifier.input_spec.shape), np.uint8)
    if dataset is None:
        raise UsageError(
            "--quantize int8 needs training images to calibrate with",
            "use --data DATASET instead of --no-verify",
        )
    rows = dataset.select_split("train")
    rng = np.random.default_rng(_SEED)
    # In random order: some steps use the first few only, which must cover all classes.
    drawn = rng.permutation(rows)[:_CALIBRATION_IMAGES]
    pixels = open_pixels(dataset, classifier.input_spec, cache="ram", progress=progress, rows=drawn)
    readable = np.array([row for row in drawn.tolist() if row not in pixels.failed], np.intp)
    if not len(readable):
        raise DataError(
            f"none of the {len(drawn)} training images in {dataset.place} that int8 needs for "
            "calibration can be decoded",
            "import the source again, or choose another --data",
        )
    progress.note(f"calibrating on {len(readable)} training images; this takes a while")
    return pixels.gather(readable)


def _write_model(
    classifier: Classifier,
    row: ExporterRow,
    settings: ExportConfig,
    directory: Path,
    calibration: Pixels,
) -> dict[str, Any]:
    """Write the model in its format; return the content of classifier.json."""
    content = _describe(classifier, row, settings)
    job = ExportJob(
        model=_build_graph(classifier, probabilities=settings.probabilities),
        directory=directory,
        output=content["output"],
        quantize=settings.quantize,
        calibration=calibration,
        # Without the path on this machine, which means nothing to users of the model file.
        description=json_bytes(
            {name: value for name, value in content.items() if name != "exported_from"}
        ).decode(),
    )
    write: Callable[[ExportJob], tuple[str, ...]] = load_function(row.exporter)
    try:
        model, *files = write(job)
    except EngineRefusedError as error:
        hint = "try another --format" + (", or no --quantize" if settings.quantize else "")
        raise RunError(error.message, hint) from error
    return (
        content
        | _copy_calibration(classifier, directory, content=content)
        | {
            "model": model,
            "files": files,
            "sha256": hash_files(directory, [model, *files]),
        }
    )


def _copy_calibration(
    classifier: Classifier, directory: Path, *, content: dict[str, Any]
) -> dict[str, Any]:
    """Copy what sets of labels need, and the index where the export has features."""
    data = load_calibration(classifier.bundle, classifier.directory)
    if data is None:
        return {}
    familiarity = data.familiarity if can_compare(content) else None
    return {FIELD: save_calibration(directory, replace(data, familiarity=familiarity))}


def _build_graph(classifier: Classifier, *, probabilities: bool) -> "keras.Model":
    """Build the graph to export: uint8 input, computed in float32."""
    import keras

    from cnnclf.inference.engines.keras_engine import accept_uint8, set_precision

    model = set_precision(without_training(classifier.model), "float32")
    if probabilities:
        pixels = keras.Input(model.input_shape[1:])
        scaled = keras.layers.Rescaling(1 / classifier.temperature)(model(pixels))
        outputs = keras.layers.Softmax(name="probabilities")(scaled)
        model = keras.Model(pixels, outputs, name=model.name)
    return accept_uint8(model)


def _describe(classifier: Classifier, row: ExporterRow, settings: ExportConfig) -> dict[str, Any]:
    """Return the content of classifier.json, without the files of the model."""
    bundle = classifier.bundle
    kept = ("labels", "input_spec", "threshold", "promise", "parameters", "dataset", "extra")
    return {
        "schema_version": BUNDLE_VERSION,
        **{name: bundle[name] for name in kept if name in bundle},
        "format": row.name,
        "pixels": {"dtype": "uint8", "order": "NHWC", "range": [0, 255]},
        "output": "probabilities" if settings.probabilities else "logits",
        # With probabilities, the temperature is part of the graph.
        "temperature": 1.0 if settings.probabilities else classifier.temperature,
        "quantize": settings.quantize,
        "precision": "int8" if settings.quantize == "int8" else "float32",
        "exported_from": _name_source(classifier),
        "versions": read_versions(("keras", "tensorflow", *row.distributions)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _open_as_users_do(directory: Path, title: str) -> Classifier:
    try:
        return Classifier.load(directory)
    except RunError as error:
        raise RunError(
            f"{title} cannot run this model: {error.message}", "try another --format"
        ) from error


def _compare(
    classifier: Classifier,
    artifact: Classifier,
    settings: ExportConfig,
    dataset: Dataset | None,
    progress: Progress,
) -> ExportReport:
    parity = None
    if dataset is not None:
        parity = compare_models(
            classifier,
            artifact,
            dataset=dataset,
            settings=settings,
            sizes=(_measure(classifier), _measure(artifact)),
            progress=progress,
        )
    return ExportReport(
        directory=artifact.directory,
        settings=settings,
        verdict=UNVERIFIED if parity is None else REJECTED if parity.problems else VERIFIED,
        parity=parity,
        dataset=None if dataset is None else _name_data(classifier, dataset),
        source=_name_source(classifier),
        engine={"name": artifact.engine.name, "precision": artifact.engine.precision},
        versions=artifact.bundle["versions"],
    )


def _measure(classifier: Classifier) -> int:
    """Return the total size of the files of a model."""
    names = [classifier.bundle["model"], *classifier.bundle.get("files", ())]
    paths = [classifier.directory / name for name in names]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())


def _name_source(classifier: Classifier) -> dict[str, Any]:
    return {
        "directory": str(classifier.directory.absolute()),
        "sha256": classifier.bundle["sha256"],
    }


def _name_data(classifier: Classifier, dataset: Dataset) -> dict[str, Any]:
    trained = (classifier.bundle.get("dataset") or {}).get("fingerprint")
    return {
        "directory": str(dataset.directory.absolute()),
        "fingerprint": dataset.fingerprint,
        "trained_on": None if trained is None else trained == dataset.fingerprint,
    }
