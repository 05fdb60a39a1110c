"""The Python interface: what the commands do, as functions. `import cnnclf` gives all of it.

Stability: the names in `cnnclf.__all__`, their parameters and the documented attributes of what
they return change only with a new minor version, and CHANGELOG.md says so. Everything else in the
package may change at any time.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cnnclf.config import (
    CalibrateConfig,
    CheckConfig,
    CommandConfig,
    ConvolveConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FinetuneConfig,
    ImportConfig,
    PredictConfig,
    TrainConfig,
    explicit_settings,
    load_config,
)
from cnnclf.progress import Progress, Silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cnnclf.data.manifest import Dataset
    from cnnclf.evaluation.deciding import CalibratedModel
    from cnnclf.evaluation.report import Report
    from cnnclf.explainers.convolved_image import ConvolvedImage
    from cnnclf.explainers.explaining import ExplainedImage
    from cnnclf.explainers.network_description import NetworkDescription
    from cnnclf.exporters.parity_report import ExportReport
    from cnnclf.inference.answer_rules import AnswerRules
    from cnnclf.inference.classifier import Classifier
    from cnnclf.planning.finetune_plan import FinetunePlan
    from cnnclf.planning.train_plan import TrainPlan
    from cnnclf.prediction.rows import Prediction
    from cnnclf.quality.checking import QualityReport
    from cnnclf.reporting.run_report import WrittenReport
    from cnnclf.runs import RunDirectory
    from cnnclf.training.epochs import EpochListener
    from cnnclf.training.extending import Extension
    from cnnclf.training.run import TrainResult

__all__ = [
    "calibrate",
    "check",
    "convolve",
    "describe",
    "evaluate",
    "explain",
    "export",
    "extend",
    "finetune",
    "import_dataset",
    "load_classifier",
    "load_dataset",
    "predict",
    "report",
    "train",
]

StrPath = str | os.PathLike[str]
"""A path as text, or an object that is one."""

Settings = Mapping[str, object]
"""Values by dotted key, such as {"training.epochs": 3}, as with --set on the command line."""

_Config = TypeVar("_Config", bound=CommandConfig)


def import_dataset(
    source: StrPath,
    out: StrPath,
    *,
    config: ImportConfig | Settings | None = None,
    progress: Progress | None = None,
) -> "Dataset":
    """Read images into a dataset directory: check every file, find duplicates, split.

    Args:
        source: A folder of class folders, an archive, a table of paths and labels, or arrays;
            never written to.
        out: The dataset directory; must not exist, or be empty.
        config: Settings of `cnnclf import`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        The dataset. Files that cannot be read are listed in its `skipped.csv`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        UsageError: `out` is in use.
        DataError: The source is not what it should be.
        RunError: `out` cannot be written.

    Example:
        >>> dataset = cnnclf.import_dataset("photos/", "data/photos")
        >>> dataset.labels
        ('cat', 'dog')
    """
    from cnnclf.importers import import_source

    settings, _ = _resolve(ImportConfig, config)
    import_source(source, Path(out), options=settings, progress=progress or _Logged())
    return load_dataset(out)


def load_dataset(directory: StrPath) -> "Dataset":
    """Load a dataset directory.

    Args:
        directory: What `import_dataset` or `cnnclf import` made.

    Returns:
        The dataset: `labels`, `counts()`, `manifest`, `file(row)`.

    Raises:
        DataError: It is not a dataset, is damaged or from a newer version, or its images are gone.

    Example:
        >>> cnnclf.load_dataset("data/photos").counts()["train"]
        {'cat': 70, 'dog': 70}
    """
    from cnnclf.data.manifest import load_dataset as load

    return load(Path(directory))


def check(
    dataset: "Dataset | StrPath",
    config: CheckConfig | Settings | None = None,
    *,
    run: StrPath | None = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> "QualityReport":
    """Find out what is wrong with the images of a dataset; no file is changed.

    Args:
        dataset: A dataset, or any source that can be imported.
        config: Settings of `cnnclf check`.
        run: A run, whose probabilities show which labels may be wrong.
        out: Directory of findings.csv and check.html; None writes nothing.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        The report: `findings`, the worst first, each with `severity`, `check`, `path` and
        `message`; `by_check()`; `failed`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: There is no such dataset or source, or it has no images.
        RunError: `out` cannot be written.

    Example:
        >>> [finding.path for finding in cnnclf.check("photos/").findings]
        ['cat/7.jpg']
    """
    from cnnclf.importers import open_dataset
    from cnnclf.quality.checking import check_dataset, write_report
    from cnnclf.training.witnesses import open_networks

    settings, _ = _resolve(CheckConfig, config)
    progress = progress or _Logged()
    data = (
        open_dataset(dataset, progress=progress)
        if isinstance(dataset, str | os.PathLike)
        else dataset
    )
    networks = open_networks(
        data, settings, run=None if run is None else Path(run), progress=progress
    )
    report, evidence = check_dataset(data, config=settings, networks=networks, progress=progress)
    if out is not None:
        write_report(Path(out), report, evidence=evidence, progress=progress)
    return report


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

    settings, given = _resolve(TrainConfig, config)
    progress = progress or _Logged()
    _check_out(out)
    check_settings(settings, given=given)
    data = _open_for_training(dataset, settings.runtime.seed, progress=progress)
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

    settings, given = _resolve(FinetuneConfig, config)
    progress = progress or _Logged()
    _check_out(out)
    check_settings(settings, given=given)
    data = _open_for_training(dataset, settings.runtime.seed, progress=progress)
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

    settings, given = _resolve(TrainConfig, config)
    progress = progress or _Logged()
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

    settings, _ = _resolve(EvaluateConfig, config)
    return measure_model(
        _path_of(model),
        None if dataset is None else _source_of(dataset),
        config=settings,
        out=None if out is None else Path(out),
        progress=progress or _Logged(),
        verbose=verbose,
    )


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

    settings, _ = _resolve(CalibrateConfig, config)
    return calibrate_model(
        _path_of(model),
        None if dataset is None else _source_of(dataset),
        config=settings,
        progress=progress or _Logged(),
        verbose=verbose,
    )


def load_classifier(
    model: StrPath,
    *,
    config: PredictConfig | Settings | None = None,
    progress: Progress | None = None,
    verbose: bool = False,
) -> "Classifier":
    """Load a trained model.

    Args:
        model: A run directory (its best checkpoint), a checkpoint, a bundle or an export.
        config: Settings of `cnnclf predict`; `engine`, `precision`, `device` and `threads` count.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.
        verbose: Do not silence libraries.

    Returns:
        The classifier: `labels`, `input_spec`, `decode`, `logits`, `probabilities`, `classify`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        RunError: There is no model, or it is damaged or from a newer version.
        MissingPackageError: The engine is not installed.

    Example:
        >>> classifier = cnnclf.load_classifier("runs/first")
        >>> classifier.labels
        ('cat', 'dog')
    """
    from cnnclf.files import read_json
    from cnnclf.inference.bundles import find_bundle
    from cnnclf.inference.calibration_data import count_features
    from cnnclf.inference.classifier import Classifier
    from cnnclf.runs import CLASSIFIER_FILE

    settings, _ = _resolve(PredictConfig, config)
    content = read_json(find_bundle(Path(model)) / CLASSIFIER_FILE)
    return Classifier.load(
        Path(model),
        engine=settings.engine,
        precision=settings.precision,
        device=settings.device,
        threads=settings.threads,
        features=0 if "format" in content else count_features(content),
        views=settings.views,
        verbose=verbose,
        progress=progress or _Logged(),
    )


def predict(
    model: "Classifier | StrPath",
    images: "StrPath | npt.NDArray[np.uint8] | Iterable[StrPath | npt.NDArray[np.uint8]]",
    *,
    config: PredictConfig | Settings | None = None,
    progress: Progress | None = None,
) -> "list[Prediction]":
    """Label images with a trained model.

    All answers are held in memory: `cnnclf predict` streams the rows of a million images to a file.

    Args:
        model: A loaded classifier; or the directory of one, which is then loaded each time.
        images: Files, folders and patterns as with `cnnclf predict`; or arrays, uint8 [H, W],
            [H, W, C] or [n, H, W, C] of any size, upright, colors last. One, or several.
        config: Settings of `cnnclf predict`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        One prediction per image, in order: `label`, `ranking` and `path` ("" for an array). A file
        that cannot be read has an `error` and no label.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: There are no images at a path.
        ImageError: An array has another shape or dtype.
        RunError: The model cannot be loaded.

    Example:
        >>> [prediction] = cnnclf.predict(classifier, "cat.jpg")
        >>> prediction.label, prediction.ranking[0][1]
        ('cat', 0.98)
    """
    import numpy as np

    from cnnclf.inference.classifier import Classifier

    settings, _ = _resolve(PredictConfig, config)
    progress = progress or _Logged()
    classifier = (
        model
        if isinstance(model, Classifier)
        else load_classifier(model, config=settings, progress=progress)
    )
    if isinstance(images, np.ndarray):
        images = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, str | os.PathLike):
        images = [images]
    given = list(images)
    arrays = [each for each in given if isinstance(each, np.ndarray)]
    if not arrays:
        paths = [os.fspath(each) for each in given if not isinstance(each, np.ndarray)]
        return _predict_paths(classifier, paths, settings, progress)
    if len(arrays) < len(given):
        raise TypeError("expected either paths or arrays, received both")
    return _predict_arrays(classifier, arrays, settings)


def explain(
    model: "Classifier | StrPath",
    images: "StrPath | npt.NDArray[np.uint8] | Iterable[StrPath | npt.NDArray[np.uint8]]" = (),
    *,
    show: Sequence[str] = (),
    classes: Sequence[str] = (),
    config: ExplainConfig | Settings | None = None,
    dataset: "Dataset | StrPath | None" = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> "list[ExplainedImage]":
    """Explain what a trained network sees in images.

    Args:
        model: A loaded classifier; or the directory of one.
        images: Files, folders and patterns, or arrays, as with `predict`; none for views of the
            network alone.
        show: Names of views, as `cnnclf explain --help` lists them; none for `evidence`.
        classes: Labels to explain; none for the most probable ones of each image.
        config: Settings of `cnnclf explain`.
        dataset: Training images, for views that need them; None for those of the run.
        out: Directory of the figures; None writes none.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        One outcome per image and view, in order: `figure`, `summary`, `scores` and `explanation`,
        whose `arrays` are the numbers. An image that cannot be read has an `error`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: There are no images at a path, or a view needs training images that are gone.
        RunError: The model cannot be loaded, or is an export and a view needs its layers.
        UsageError: A view, class or layer is unknown.

    Example:
        >>> [explained] = cnnclf.explain("runs/first", "cat.jpg")
        >>> explained.explanation.arrays["maps"].shape  # classes, height, width
        (2, 7, 7)
    """
    from cnnclf.explainers.explainer_table import find_explainers
    from cnnclf.explainers.explaining import ExplainRequest, explain_images, open_context
    from cnnclf.inference.classifier import Classifier

    settings, _ = _resolve(ExplainConfig, config)
    progress = progress or _Logged()
    views = find_explainers(show)
    classifier = (
        model
        if isinstance(model, Classifier)
        else Classifier.load(
            Path(model),
            engine=settings.engine,
            precision=settings.precision,
            device=settings.device,
            threads=settings.threads,
            progress=progress,
        )
    )
    context = open_context(
        classifier,
        _path_of(model),
        config=settings,
        data=None if dataset is None else _source_of(dataset),
        progress=progress,
    )
    request = ExplainRequest(views, tuple(classes), None if out is None else Path(out))
    found = _find_images(images, kind=classifier.input_spec.kind, progress=progress)
    return list(explain_images(context, found, request=request))


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

    settings, _ = _resolve(ExportConfig, config)
    return export_model(
        _path_of(model),
        config=settings,
        source=None if dataset is None else _source_of(dataset),
        out=None if out is None else Path(out),
        progress=progress or _Logged(),
        verbose=verbose,
    )


def describe(
    model: StrPath | None = None,
    config: TrainConfig | Settings | None = None,
    *,
    backbone: str | None = None,
    image_size: tuple[int, int] | None = None,
    classes: int | None = None,
) -> "NetworkDescription":
    """Describe a network: its layers, parameters, compute, memory and receptive fields.

    Loads no weights; a network of `cnnclf train` needs no Keras.

    Args:
        model: A run directory, a checkpoint or a bundle; or None.
        config: Without `model`: settings of `cnnclf train`, whose network is described.
        backbone: Without `model`: a backbone by name.
        image_size: Height and width of the backbone's images in pixels; None for what it was
            trained on.
        classes: Outputs; None for 10, and for a backbone without a head.

    Returns:
        The description: `anatomy` (`layers`, `parameters`, `macs`, `flops`), `input_shape`,
        `training_bytes`, `compare_dense()`.

    Raises:
        ConfigError: A setting is unknown or wrong, or the network does not fit the images.
        RunError: The run is damaged, or has no Keras graph.

    Example:
        >>> cnnclf.describe(config={"model.preset": "textbook"}).anatomy.parameters
        3938570
    """
    from cnnclf.explainers import network_sources

    others = [each for each in (config, backbone) if each is not None]
    if len(others) + (model is not None) > 1 or (model is not None and classes is not None):
        raise TypeError("expected one network: a model, or config, or backbone")
    if image_size is not None and backbone is None:
        raise TypeError("image_size is for a backbone; config has data.image_size")
    if model is not None:
        return network_sources.describe_run(Path(model))
    if backbone is not None:
        return network_sources.describe_backbone(backbone, image_size=image_size, classes=classes)
    settings, given = _resolve(TrainConfig, config)
    return network_sources.describe_cnn(
        settings, classes=classes or network_sources.DEFAULT_CLASSES, given=given
    )


def convolve(
    image: "StrPath | npt.NDArray[np.uint8]",
    config: ConvolveConfig | Settings | None = None,
    *,
    progress: Progress | None = None,
) -> "ConvolvedImage":
    """Slide a filter over an image, exactly as a layer of Keras does.

    Args:
        image: A file; or uint8 [H, W], [H, W, 1] or [H, W, 3].
        config: Settings of `cnnclf convolve`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        Each step: `convolved` (`image`, `kernel`, `per_channel`, `summed`,
        `arithmetic(row, column)`), `activated`, `result`, and `formulas()` of their sizes.

    Raises:
        ConfigError: A setting is unknown or wrong.
        UsageError: There is no such filter, or it does not fit the image.
        DataError: The image or the file of a kernel cannot be read.
        RunError: There is no network with the learned filter.

    Example:
        >>> cnnclf.convolve("photo.jpg", {"filter": "sobel-x", "padding": "same"}).result.shape
        (375, 500)
    """
    from cnnclf.explainers.convolved_image import convolve_image

    settings, _ = _resolve(ConvolveConfig, config)
    source = Path(image) if isinstance(image, str | os.PathLike) else image
    return convolve_image(source, settings, progress=progress or _Logged())


class _Logged(Silent):
    """Logs notes and warnings as `cnnclf`; by default Python shows only the warnings."""

    logger = logging.getLogger("cnnclf")

    def note(self, text: str) -> None:
        self.logger.info(text)

    def warn(self, text: str) -> None:
        self.logger.warning(text)


def report(
    *runs: StrPath,
    out: StrPath | None = None,
    evaluation: str | None = None,
    maps: bool = True,
    progress: Progress | None = None,
) -> "WrittenReport":
    """Write everything about a run, or a comparison of several, on one HTML page.

    Args:
        *runs: Run directories, finished or not.
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

    paths = [Path(run) for run in runs]
    if len(paths) == 1:
        return report_run(
            paths[0],
            out=None if out is None else Path(out),
            evaluation=evaluation,
            maps=maps,
            progress=progress or _Logged(),
        )
    return compare_runs(paths, out=Path(out or "comparison.html"))


def _resolve(
    kind: type[_Config], config: CommandConfig | Settings | None
) -> tuple[_Config, dict[str, str]]:
    """Return all settings, presets applied, and where each given one came from."""
    if isinstance(config, CommandConfig) and not isinstance(config, kind):
        raise TypeError(f"expected {kind.__name__}, received {type(config).__name__}")
    given = explicit_settings(config) if isinstance(config, CommandConfig) else config
    return load_config(arguments=given, kind=kind)


def _path_of(thing: "Classifier | Dataset | StrPath") -> Path:
    return Path(thing) if isinstance(thing, str | os.PathLike) else thing.directory


def _source_of(dataset: "Dataset | StrPath") -> str | Path:
    """Return a source as it was given: hf://user/name is no path."""
    if isinstance(dataset, str | os.PathLike):
        return os.fspath(dataset)
    return dataset.directory


def _check_out(out: StrPath | None) -> None:
    from cnnclf.runs import check_new_run

    if out is not None:  # before images are read
        check_new_run(Path(out))


def _open_for_training(dataset: "Dataset | StrPath", seed: int, *, progress: Progress) -> "Dataset":
    from cnnclf.data.checks import check_trainable
    from cnnclf.importers import open_dataset

    data = (
        open_dataset(dataset, options=ImportConfig(seed=seed), progress=progress)
        if isinstance(dataset, str | os.PathLike)
        else dataset
    )
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
    from cnnclf.runs import create_run, next_run_path
    from cnnclf.training.run import execute_plan

    def make_run() -> "RunDirectory":
        run = create_run(
            next_run_path(dataset.name) if out is None else Path(out),
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


def _find_images(
    images: "StrPath | npt.NDArray[np.uint8] | Iterable[StrPath | npt.NDArray[np.uint8]]",
    *,
    kind: str,
    progress: Progress,
) -> "Iterator[tuple[str, str] | npt.NDArray[np.uint8]]":
    """Yield the path and error of each file, or each array, in order."""
    import numpy as np

    from cnnclf.prediction.inputs import ImageInputs

    if isinstance(images, np.ndarray):
        images = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, str | os.PathLike):
        images = [images]
    for _, group in groupby(images, lambda each: isinstance(each, np.ndarray)):
        paths = []
        for each in group:
            if isinstance(each, np.ndarray):
                yield each
            else:
                paths.append(os.fspath(each))
        if paths:
            yield from ImageInputs(paths, progress=progress, kind=kind).find()


def _predict_paths(
    classifier: "Classifier", paths: list[str], settings: PredictConfig, progress: Progress
) -> "list[Prediction]":
    from cnnclf.inference.promise import read_cutoff
    from cnnclf.prediction.inputs import ImageInputs
    from cnnclf.prediction.label_pipeline import PredictOptions, iter_batches

    kind = classifier.input_spec.kind
    found = ImageInputs(paths, progress=progress, kind=kind).first()
    threshold, norm = read_cutoff(classifier.bundle, settings.threshold)
    options = PredictOptions(
        _count_named(classifier, settings),
        threshold,
        settings.batch_size,
        settings.threads,
        norm,
        _read_rules(classifier, settings),
    )
    return [each for batch in iter_batches(classifier, found, options=options) for each in batch]


def _predict_arrays(
    classifier: "Classifier", arrays: "list[npt.NDArray[np.uint8]]", settings: PredictConfig
) -> "list[Prediction]":
    import numpy as np

    from cnnclf.images.decode import fit_pixels
    from cnnclf.prediction.rows import Prediction

    predictions, rules = [], _read_rules(classifier, settings)
    for start in range(0, len(arrays), settings.batch_size):
        batch = arrays[start : start + settings.batch_size]
        pixels = np.stack([fit_pixels(each, classifier.input_spec) for each in batch])
        answers = classifier.classify(
            pixels,
            top_k=_count_named(classifier, settings),
            threshold=settings.threshold,
            rules=rules,
        )
        predictions += [Prediction.of_answer("", each) for each in answers]
    return predictions


def _read_rules(classifier: "Classifier", settings: PredictConfig) -> "AnswerRules":
    from dataclasses import replace

    from cnnclf.inference.answer_rules import read_rules

    rules = read_rules(
        classifier.bundle,
        classifier.directory,
        level=settings.sets,
        method=settings.set_method,
        unknown_by=settings.unknown_by,
        min_familiar=settings.min_familiar,
    )
    return rules if classifier.features == rules.features else replace(rules, familiarity=None)


def _count_named(classifier: "Classifier", settings: PredictConfig) -> int:
    """Return how many labels each prediction names."""
    count = len(classifier.labels)
    return count if settings.all_probabilities else min(settings.top_k, count)
