"""From a run and labeled images to a bundle that keeps a promise: what `cnnclf calibrate` does."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.config import CalibrateConfig
from cnnclf.data.manifest import Dataset, is_dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import DataError, UsageError
from cnnclf.evaluation.predictions import check_labels, look_up_classes, stream_logits
from cnnclf.evaluation.promises import Target, find_threshold
from cnnclf.evaluation.selective import RiskCoverage, trace_risk
from cnnclf.files import read_json, write_json_atomic
from cnnclf.inference.bundles import check_order
from cnnclf.inference.classifier import Classifier, find_bundle
from cnnclf.inference.origins import find_origin, quote, warn_of_unfinished
from cnnclf.inference.promise import Promise, score_confidence
from cnnclf.progress import Progress
from cnnclf.runs import CLASSIFIER_FILE

_OFFERED = (0.8, 0.9, 0.95, 0.98)  # precisions that are shown if none is asked for
_NORMS = (2, 3, 4, 5, 6, 8, 10)
_MIN_TO_CHOOSE = 600  # with fewer images, a third of them says too little about scores
_MIN_GAIN = 0.95  # of the AURC: a score that ranks no better is not worth explaining
_SEED = 0


@dataclass(frozen=True)
class CalibratedModel:
    """What was chosen, and on what.

    Args:
        bundle: The bundle that was changed.
        split: The split that was used.
        promise: The promise that is stored; None if none was asked for.
        offers: Promises that could be stored instead; () if one was asked for.
        curve: Risk and coverage on the images.
    """

    bundle: Path
    split: str
    promise: Promise | None
    offers: tuple[Promise, ...]
    curve: RiskCoverage

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "bundle": self.bundle,
            "split": self.split,
            "promise": self.promise and self.promise.to_dict(),
            "offers": [each.to_dict() for each in self.offers],
            "risk_coverage": asdict(self.curve),
        }


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a model says of labeled images: logits float32 [n, K], and the true classes int [n]."""

    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth)

    def __len__(self) -> int:
        return len(self.truth)

    def select(self, rows: npt.NDArray[np.intp]) -> "_Answers":
        return _Answers(self.logits[rows], self.probabilities[rows], self.truth[rows])

    def scores(self, norm: int | None) -> npt.NDArray[np.float64]:
        return score_confidence(self.logits, self.probabilities, norm=norm)


def calibrate_model(
    model: Path,
    source: Path | None = None,
    *,
    config: CalibrateConfig,
    progress: Progress,
    verbose: bool = False,
) -> CalibratedModel:
    """Choose a threshold that keeps a promise on new images, and store it in the bundle.

    Args:
        model: A run directory, a checkpoint, a bundle or an export.
        source: A dataset or any source that can be imported; None for the dataset of the training.
        config: The promise, and what computes.
        progress: Receives tasks, notes and warnings.
        verbose: Do not silence libraries.

    Returns:
        What was stored.

    Raises:
        UsageError: Several promises at once, or training images would be used.
        DataError: The images cannot support the promise, with the number needed; the dataset is
            missing, has other labels, or images of one class only.
        RunError: The model cannot be loaded, or its outputs are not finite.
    """
    target = _read_target(config)
    check_order(model, [source])
    bundle = find_bundle(model)
    origin = find_origin(model, bundle)
    data = origin.open_data(source, progress, command=quote("cnnclf", "calibrate", model))
    split = _choose_split(data, source, asked=config.split, bundle=bundle)
    rows = data.select_split(split)
    if origin.run is not None and origin.run.path == model:
        warn_of_unfinished(origin.run.path, use="calibrated", progress=progress)
    classifier = Classifier.load(
        bundle, engine=config.engine, device=config.device, verbose=verbose, progress=progress
    )
    check_labels(classifier.labels, data)
    pixels = open_pixels(
        data, classifier.input_spec, cache=config.cache, progress=progress, rows=rows
    )
    with progress.task("calibrating", len(rows), unit="images") as task:
        found, logits = [], []
        for batch, some in stream_logits(
            classifier, data, rows=rows, pixels=pixels, batch_size=config.batch_size
        ):
            found.append(batch)
            logits.append(some)
            task.advance(len(batch))
    answers = _collect(classifier, data, found, logits, split=split)
    norm, rest = _choose_score(answers, config.score, progress)
    promise = None if target is None else _promise(rest, target, norm=norm, split=split)
    offers = () if target else tuple(_offer(rest, config.confidence, norm=norm, split=split))
    if promise is not None:
        _store(bundle, promise)
    curve = trace_risk(answers.scores(norm), answers.is_correct)
    return CalibratedModel(bundle, split, promise, offers, curve)


def _read_target(config: CalibrateConfig) -> Target | None:
    given = {
        "precision": config.precision_target,
        "coverage": config.coverage,
        "error_rate": config.error_rate,
    }
    targets = [
        Target(kind, value, config.confidence) for kind, value in given.items() if value is not None
    ]
    if len(targets) > 1:
        first, second = (f"--{each.kind.replace('_', '-')}" for each in targets[:2])
        raise UsageError(
            f"{first} and {second} cannot be combined: one threshold keeps one promise",
            "choose one of them",
        )
    return targets[0] if targets else None


def _choose_split(data: Dataset, source: Path | None, *, asked: str | None, bundle: Path) -> str:
    """Choose val, or all images of a source without splits of its own."""
    trained = (read_json(bundle / CLASSIFIER_FILE).get("dataset") or {}).get("fingerprint")
    is_known = source is None or is_dataset(source) or data.source.get("split") != "made"
    split = asked or ("val" if is_known or trained == data.fingerprint else "all")
    if split == "all" and trained == data.fingerprint:
        raise UsageError(
            "--split all includes training images, on which every promise would be too good",
            "use --split val, or other images",
        )
    return split


def _collect(
    classifier: Classifier,
    data: Dataset,
    found: list[npt.NDArray[np.intp]],
    logits: list[npt.NDArray[np.float32]],
    *,
    split: str,
) -> _Answers:
    rows = np.concatenate(found) if found else np.zeros(0, np.intp)
    truth = look_up_classes(classifier.labels, data, rows=rows)
    if len(np.unique(truth)) < 2:
        only = f"only of {classifier.labels[int(truth[0])]!r}" if len(truth) else "none"
        raise DataError(
            f"the {split} split of {data.directory} has readable images of too few classes "
            f"({only}): they say nothing about images of other classes",
            "calibrate on images of all classes: cnnclf calibrate RUN DATASET",
        )
    outputs = np.concatenate(logits)
    return _Answers(outputs, classifier.probabilities(outputs), truth)


def _choose_score(answers: _Answers, score: str, progress: Progress) -> tuple[int | None, _Answers]:
    """Choose a score on a third of the images; return it and the images for the threshold.

    A bound does not hold for a score that was chosen on the same images.
    """
    if score == "probability" or (score == "auto" and len(answers) < _MIN_TO_CHOOSE):
        return None, answers
    if len(answers) < 3:
        raise DataError(f"{len(answers)} images are too few to choose a score on", "--score auto")
    order = np.random.default_rng(_SEED).permutation(len(answers))
    some, rest = np.split(order, [len(answers) // 3])
    sample = answers.select(some)
    areas = {
        norm: trace_risk(sample.scores(norm), sample.is_correct).aurc for norm in (None, *_NORMS)
    }
    best = min(_NORMS, key=lambda norm: areas[norm])
    if score == "auto" and areas[best] >= _MIN_GAIN * areas[None]:
        return None, answers.select(rest)
    progress.note(
        f"confidence is the largest logit over the {best}-norm of all: AURC {areas[best]:.4f}, "
        f"{areas[None]:.4f} with the probability (on {len(some):,} images)"
    )
    return best, answers.select(rest)


def _promise(answers: _Answers, target: Target, *, norm: int | None, split: str) -> Promise:
    scores, is_correct = answers.scores(norm), answers.is_correct
    threshold = find_threshold(scores, is_correct, target=target)
    is_answered = scores >= threshold
    return Promise(
        kind=target.kind,
        target=target.value,
        confidence=target.confidence,
        threshold=threshold,
        norm=norm,
        images=len(answers),
        answered=int(is_answered.sum()),
        correct=int((is_answered & is_correct).sum()),
        split=split,
    )


def _offer(
    answers: _Answers, confidence: float, *, norm: int | None, split: str
) -> Iterator[Promise]:
    for value in _OFFERED:
        try:
            yield _promise(answers, Target("precision", value, confidence), norm=norm, split=split)
        except DataError:
            continue  # cannot be promised on these images


def _store(bundle: Path, promise: Promise) -> None:
    """Write the promise; `threshold` is a probability for every reader of the file."""
    path = bundle / CLASSIFIER_FILE
    threshold = promise.threshold if promise.norm is None else None
    changed = {"threshold": threshold, "promise": promise.to_dict()}
    write_json_atomic(path, read_json(path) | changed)
