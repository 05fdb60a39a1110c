"""From a run and labeled images to a bundle that keeps a promise: what `cnnclf calibrate` does."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.preview import choose_rows
from cnnclf.config import CalibrateConfig
from cnnclf.data.manifest import Dataset, is_dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError, UsageError
from cnnclf.evaluation.predictions import check_labels, find_seen, look_up_classes, stream_logits
from cnnclf.evaluation.promises import Target, find_threshold
from cnnclf.evaluation.selective import RiskCoverage, trace_risk
from cnnclf.evaluation.set_sizes import MeasuredSets, measure_sets
from cnnclf.files import read_json, write_json_atomic
from cnnclf.full_disks import check_writable
from cnnclf.inference.bundle_paths import check_order, find_bundle
from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.calibration_data import (
    FIELD,
    CalibrationData,
    can_compare,
    remove_other_calibrations,
    save_calibration,
)
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.familiarity import Familiarity, count_index, find_distances, quantize
from cnnclf.inference.label_sets import score_truth
from cnnclf.inference.origins import find_origin, is_trained_on, quote, warn_of_unfinished
from cnnclf.inference.promise import Promise, score_confidence
from cnnclf.progress import Progress
from cnnclf.runs.run_names import CLASSIFIER_FILE

_OFFERED = (0.8, 0.9, 0.95, 0.98)  # precisions that are shown if none is asked for
LOWEST_OFFER = _OFFERED[0]
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
        sets: Sets of labels on the images, by each method, as far as these have enough images.
        has_index: Whether images can be compared with training images.
    """

    bundle: Path
    split: str
    promise: Promise | None
    offers: tuple[Promise, ...]
    curve: RiskCoverage
    sets: tuple[MeasuredSets, ...]
    has_index: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "bundle": self.bundle,
            "split": self.split,
            "promise": self.promise and self.promise.to_dict(),
            "offers": [each.to_dict() for each in self.offers],
            "risk_coverage": asdict(self.curve),
            "sets": [asdict(each) for each in self.sets],
            "has_index": self.has_index,
        }


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a model says of labeled images.

    Args:
        logits: float32 [n, K].
        probabilities: float64 [n, K].
        truth: True classes, int64 [n].
        features: Of length 1, float32 [n, d]; d = 0 with exports.
    """

    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth)

    def __len__(self) -> int:
        return len(self.truth)

    def select(self, rows: npt.NDArray[np.intp]) -> "_Answers":
        return _Answers(
            self.logits[rows], self.probabilities[rows], self.truth[rows], self.features[rows]
        )

    def scores(self, norm: int | None) -> npt.NDArray[np.float64]:
        return score_confidence(self.logits, self.probabilities, norm=norm)


def calibrate_model(
    model: Path,
    source: str | Path | None = None,
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

    Raises:
        UsageError: Several promises at once, or training images would be used.
        DataError: The images cannot support the promise, with the number needed; the dataset is
            missing, has other labels, or images of one class only.
        RunError: The model cannot be loaded, or its outputs are not finite.
    """
    target = _read_target(config)
    check_order(model, [source], command="calibrate")
    bundle = find_bundle(model)
    check_writable(bundle, "the threshold is stored in the model: calibrate a copy of it")
    origin = find_origin(model, bundle)
    data = origin.open_data(source, progress, command=quote("cnnclf", "calibrate", model))
    split = _choose_split(data, source, asked=config.split, bundle=bundle)
    training = data if is_trained_on(bundle, data) else origin.find_training_data()
    rows = _exclude_seen(data, data.select_split(split), training, progress)
    warn_of_unfinished(model, use="calibrated", progress=progress)
    facts = read_bundle(bundle)
    check_labels(facts.labels, data)  # before a library is loaded
    classifier = Classifier.load(
        bundle,
        engine=config.engine,
        device=config.device,
        features=None if can_compare(facts.content) else 0,
        verbose=verbose,
        progress=progress,
    )
    worker = _Worker(classifier, config, progress)
    answers = worker.answer(data, rows, split=split)
    norm, rest = _choose_score(answers, config.score, progress)
    promise = None if target is None else _promise(rest, target, norm=norm, split=split)
    offers = () if target else tuple(_offer(rest, config.confidence, norm=norm, split=split))
    stored = worker.measure(training, answers)
    _store(bundle, promise, stored)
    return CalibratedModel(
        bundle=bundle,
        split=split,
        promise=promise,
        offers=offers,
        curve=trace_risk(answers.scores(norm), answers.is_correct),
        sets=tuple(measure_sets(stored, answers.probabilities, truth=answers.truth)),
        has_index=stored.familiarity is not None,
    )


def index_training(
    classifier: Classifier,
    data: Dataset,
    *,
    rows: npt.NDArray[np.intp],
    pixels: Pixels,
    progress: Progress,
) -> CalibrationData:
    """Store in the bundle of a run what sets of labels and familiarity need; no threshold.

    Args:
        classifier: A trained model with all its features.
        data: The dataset of the training.
        rows: Images of val, int [n].
        pixels: Of the dataset, for the classifier's input spec.
        progress: Receives tasks.

    Raises:
        DataError: The images of val are of fewer than two classes.
    """
    worker = _Worker(classifier, CalibrateConfig(), progress, pixels)
    title = "measuring val images for the index"
    found = worker.measure(data, worker.answer(data, rows, split="val", title=title))
    _store(classifier.directory, None, found)
    return found


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


def _choose_split(
    data: Dataset, source: str | Path | None, *, asked: str | None, bundle: Path
) -> str:
    """Choose val, or all images of a source without splits of its own."""
    knows_data = is_trained_on(bundle, data)
    has_splits = source is None or is_dataset(Path(source)) or data.source.get("split") != "made"
    split = asked or ("val" if has_splits or knows_data else "all")
    if split == "all" and knows_data:
        raise UsageError(
            "--split all includes training images, on which every promise would be too good",
            "use --split val, or other images",
        )
    return split


def _exclude_seen(
    data: Dataset, rows: npt.NDArray[np.intp], training: Dataset | None, progress: Progress
) -> npt.NDArray[np.intp]:
    """Exclude images with the bytes of a training image, on which promises would be too good."""
    if training is None or training is data:
        return rows
    new = rows[~find_seen(data, rows, training=training)]
    if not len(new):
        raise DataError(
            f"all {len(rows):,} images were in training: every promise would be too good",
            "calibrate on other images: cnnclf calibrate RUN DATASET",
        )
    if len(new) < len(rows):
        count = len(rows) - len(new)
        progress.warn(f"{count:,} of the {len(rows):,} images were in training, and are excluded")
    return new


@dataclass(frozen=True)
class _Worker:
    """Runs the classifier on rows of a dataset."""

    classifier: Classifier
    config: CalibrateConfig
    progress: Progress
    pixels: Pixels | None = None  # of images that are decoded already

    def answer(
        self,
        data: Dataset,
        rows: npt.NDArray[np.intp],
        *,
        split: str,
        title: str = "calibrating",
    ) -> _Answers:
        """Compute logits and features for labeled images.

        Raises:
            DataError: They are of fewer than two classes.
        """
        found, outputs = self._compute(data, rows, title)
        truth = look_up_classes(self.classifier.labels, data, rows=found)
        if len(np.unique(truth)) < 2:
            only = f"only of {self.classifier.labels[int(truth[0])]!r}" if len(truth) else "none"
            raise DataError(
                f"the {split} split of {data.place} has readable images of too few classes "
                f"({only}): they say nothing about images of other classes",
                "calibrate on images of all classes: cnnclf calibrate RUN DATASET",
            )
        logits, features = np.split(outputs, [len(self.classifier.labels)], axis=1)
        return _Answers(logits, self.classifier.probabilities(logits), truth, features)

    def measure(self, training: Dataset | None, answers: _Answers) -> CalibrationData:
        """Measure what sets need, index training images, and measure how far val is from them."""
        scores = score_truth(answers.probabilities, answers.truth)
        return CalibrationData(
            answers.truth.astype(np.int32), scores, self._index(training, answers)
        )

    def _index(self, training: Dataset | None, answers: _Answers) -> Familiarity | None:
        features = self.classifier.features
        if not features:
            self.progress.note("an export has no features: familiarity needs the run")
            return None
        if training is None:
            self.progress.warn(
                "the training images are gone or changed: without them there is no index, and "
                "predict cannot tell which images are unlike anything learned"
            )
            return None
        chosen = choose_rows(training, training.select_split("train"), seed=_SEED)
        rows = np.sort(np.array(chosen[: count_index(features)], np.intp))
        _, outputs = self._compute(training, rows, "indexing training images")
        index = quantize(outputs[:, -features:])
        return Familiarity(index, np.sort(find_distances(index, answers.features)))

    def _compute(
        self, data: Dataset, rows: npt.NDArray[np.intp], title: str
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        spec, cache = self.classifier.input_spec, self.config.cache
        pixels = self.pixels or open_pixels(
            data, spec, cache=cache, progress=self.progress, rows=rows
        )
        width = len(self.classifier.labels) + self.classifier.features
        found, outputs = [np.zeros(0, np.intp)], [np.zeros((0, width), np.float32)]
        with self.progress.task(title, len(rows), unit="images") as task:
            for batch, some in stream_logits(
                self.classifier,
                data,
                rows=rows,
                pixels=pixels,
                batch_size=self.config.batch_size,
                with_features=True,
            ):
                found.append(batch)
                outputs.append(some)
                task.advance(len(batch))
        return np.concatenate(found), np.concatenate(outputs)


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


def _store(bundle: Path, promise: Promise | None, data: CalibrationData) -> None:
    """Write what was measured; `threshold` is a probability for every reader of the file."""
    path = bundle / CLASSIFIER_FILE
    changed: dict[str, Any] = {FIELD: save_calibration(bundle, data)}
    if promise is not None:
        changed["threshold"] = promise.threshold if promise.norm is None else None
        changed["promise"] = promise.to_dict()
    write_json_atomic(path, read_json(path) | changed)
    remove_other_calibrations(bundle, changed[FIELD]["file"])
