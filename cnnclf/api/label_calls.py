"""Python interface: a trained model labels images."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.api.arguments import Logged, Settings, StrPath, list_images, resolve
from cnnclf.config import PredictConfig
from cnnclf.errors import ImageError, UsageError
from cnnclf.progress import Progress
from cnnclf.runtime import keeping_policy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cnnclf.api.arguments import OneImage
    from cnnclf.inference.answer_rules import AnswerRules
    from cnnclf.inference.classifier import Classifier
    from cnnclf.prediction.rows import Prediction


@keeping_policy()
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
        config: Settings of `cnnclf predict`; `engine`, `precision`, `device`, `threads` and `views`
            count.
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
    from cnnclf.inference.bundle_paths import find_bundle
    from cnnclf.inference.calibration_data import count_features
    from cnnclf.inference.classifier import Classifier
    from cnnclf.runs.run_names import CLASSIFIER_FILE

    settings, _ = resolve(PredictConfig, config)
    content = read_json(find_bundle(Path(model)) / CLASSIFIER_FILE)
    return Classifier.load(
        Path(model),
        engine=settings.engine,
        precision=settings.precision,
        device=settings.device,
        threads=settings.threads,
        features=count_features(content),
        views=settings.views,
        verbose=verbose,
        progress=progress or Logged(),
    )


@keeping_policy()
def predict(
    model: "Classifier | StrPath",
    images: "OneImage | Iterable[OneImage]",
    *,
    config: PredictConfig | Settings | None = None,
    progress: Progress | None = None,
) -> "list[Prediction]":
    """Label images with a trained model.

    All answers are held in memory: `cnnclf predict` streams the rows of a million images to a file.

    Args:
        model: A loaded classifier; or the directory of one, which is then loaded each time.
        images: Files, folders and patterns as with `cnnclf predict`; or contents of files, as
            bytes, and arrays, uint8 [H, W], [H, W, C] or [n, H, W, C] of any size, upright, colors
            last. One, or several.
        config: Settings of `cnnclf predict`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        One prediction per image, in order: `label`, `ranking` and `path` ("" if none was given).
        A file that cannot be read has an `error` and no label.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: There are no images at a path.
        ImageError: An array has another shape or dtype.
        RunError: The model cannot be loaded.
        UsageError: `views` of a classifier that was loaded without, or before the process forked.

    Example:
        >>> [prediction] = cnnclf.predict(classifier, "cat.jpg")
        >>> prediction.label, prediction.ranking[0][1]
        ('cat', 0.98)
    """
    from cnnclf.inference.classifier import Classifier

    settings, _ = resolve(PredictConfig, config)
    progress = progress or Logged()
    classifier = (
        model
        if isinstance(model, Classifier)
        else load_classifier(model, config=settings, progress=progress)
    )
    if settings.views not in {"none", loaded := getattr(classifier.engine, "kind", "none")}:
        raise UsageError(
            f"views = {settings.views}: the classifier was loaded with views = {loaded}",
            "give the setting to load_classifier",
        )
    given = list_images(images)
    if not given:
        return []
    paths = [each for each in given if isinstance(each, str)]
    contents = [each for each in given if not isinstance(each, str)]
    if paths and contents:
        raise TypeError("expected either paths, or contents of files and arrays, received both")
    if paths:
        return _predict_paths(classifier, paths, settings, progress)
    return _predict_contents(classifier, contents, settings)


def _predict_paths(
    classifier: "Classifier", paths: list[str], settings: PredictConfig, progress: Progress
) -> "list[Prediction]":
    from cnnclf.inference.promise import read_cutoff
    from cnnclf.prediction.inputs import ImageInputs
    from cnnclf.prediction.label_pipeline import PredictOptions, iter_batches

    kind = classifier.input_spec.kind
    # A column of a table may name a file twice, and its rows must stay in step.
    found = ImageInputs(paths, progress=progress, kind=kind, keep_repeated=True).first()
    threshold, norm = read_cutoff(classifier.bundle, settings.threshold)
    options = PredictOptions(
        settings.count_named(len(classifier.labels)),
        threshold,
        settings.batch_size,
        settings.threads,
        norm,
        _read_rules(classifier, settings),
    )
    return [each for batch in iter_batches(classifier, found, options=options) for each in batch]


def _predict_contents(
    classifier: "Classifier", images: "list[bytes | npt.NDArray[np.uint8]]", settings: PredictConfig
) -> "list[Prediction]":
    import numpy as np

    from cnnclf.images.decode import fit_pixels
    from cnnclf.prediction.rows import Prediction

    spec, rules = classifier.input_spec, _read_rules(classifier, settings)
    predictions: list[Prediction] = []
    for start in range(0, len(images), settings.batch_size):
        batch: list[npt.NDArray[np.uint8]] = []
        failed: dict[int, Prediction] = {}
        for at, image in enumerate(images[start : start + settings.batch_size], start):
            if isinstance(image, np.ndarray):
                batch.append(fit_pixels(image, spec))
                continue
            try:
                batch.append(classifier.decode(image))
            except ImageError as error:
                failed[at] = Prediction("", error=error.message)
        answers = iter(
            classifier.classify(
                np.array(batch, np.uint8).reshape(-1, *spec.shape),
                top_k=settings.count_named(len(classifier.labels)),
                threshold=settings.threshold,
                rules=rules,
            )
        )
        predictions += [
            failed.get(at) or Prediction.of_answer("", next(answers))
            for at in range(start, start + len(batch) + len(failed))
        ]
    return predictions


def _read_rules(classifier: "Classifier", settings: PredictConfig) -> "AnswerRules":
    from dataclasses import replace

    from cnnclf.files import read_json
    from cnnclf.inference.answer_rules import read_rules
    from cnnclf.runs.run_names import CLASSIFIER_FILE

    rules = read_rules(
        read_json(classifier.directory / CLASSIFIER_FILE),  # it may be calibrated since it loaded
        classifier.directory,
        config=settings,
    )
    return rules if classifier.features == rules.features else replace(rules, familiarity=None)
