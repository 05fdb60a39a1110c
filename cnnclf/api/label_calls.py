"""Python interface: a trained model labels images."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.api.arguments import Logged, Settings, StrPath, resolve
from cnnclf.config import PredictConfig
from cnnclf.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cnnclf.inference.answer_rules import AnswerRules
    from cnnclf.inference.classifier import Classifier
    from cnnclf.prediction.rows import Prediction


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

    settings, _ = resolve(PredictConfig, config)
    progress = progress or Logged()
    classifier = (
        model
        if isinstance(model, Classifier)
        else load_classifier(model, config=settings, progress=progress)
    )
    if isinstance(images, np.ndarray):
        images = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, str | os.PathLike) or not isinstance(images, Iterable):
        images = [images]
    given = list(images)
    kinds = (str, os.PathLike, np.ndarray)
    if (other := next((each for each in given if not isinstance(each, kinds)), None)) is not None:
        raise TypeError(
            f"expected paths or arrays, received {type(other).__name__}; of an image of Pillow "
            'give the file, or np.asarray(image.convert("RGB"))'
        )
    if not given:
        return []
    arrays = [each for each in given if isinstance(each, np.ndarray)]
    if not arrays:
        paths = [os.fspath(each) for each in given if not isinstance(each, np.ndarray)]
        return _predict_paths(classifier, paths, settings, progress)
    if len(arrays) < len(given):
        raise TypeError("expected either paths or arrays, received both")
    return _predict_arrays(classifier, arrays, settings)


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

    from cnnclf.files import read_json
    from cnnclf.inference.answer_rules import read_rules
    from cnnclf.runs.run_names import CLASSIFIER_FILE

    rules = read_rules(
        read_json(classifier.directory / CLASSIFIER_FILE),  # it may be calibrated since it loaded
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
