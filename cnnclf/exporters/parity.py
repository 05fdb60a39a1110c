"""The comparison of an artifact with Keras on the same images, and the verdict.

Float formats must reproduce the logits of Keras up to rounding. int8 changes logits visibly; only
its accuracy counts.
"""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError, RunError
from cnnclf.evaluation.metrics import wilson_interval
from cnnclf.evaluation.predictions import check_labels, look_up_classes, stream_logits
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.engine_table import Tolerance
from cnnclf.inference.engines.keras_comparison import compare_logits
from cnnclf.progress import Progress, Task

# Maximum difference of the outputs as a fraction of their spread, and the minimum fraction of
# images that must keep their label.
FLOAT_TOLERANCES = {None: Tolerance(1e-3, 0.999), "float16": Tolerance(1e-2, 0.999)}
# If the two best outputs of Keras differ by less than this fraction of the spread, rounding decides
# the label: of float32 sums, and of weights with 11 bits. These limits are 10 to 100 times smaller
# than those of the outputs, so that labels are an independent check.
FLOAT_TIES = {None: 1e-5, "float16": 1e-3}

_BATCH = 32
_SINGLES = 50
_SINGLES_S = 1.0


@dataclass(frozen=True)
class Side:
    """The results of one model.

    Args:
        correct: Number of images that were classified correctly.
        accuracy: Accuracy, 0..1.
        low: Lower end of its Wilson 95 % interval.
        high: Upper end.
        size_bytes: Size of its files.
        images_per_s: Throughput on this machine, from decoded images.
        image_ms: Median time of one image alone on this machine, from decoded pixels, in ms.
    """

    correct: int
    accuracy: float
    low: float
    high: float
    size_bytes: int
    images_per_s: float
    image_ms: float


@dataclass(frozen=True)
class Parity:
    """The comparison of an artifact with the Keras model it was made from.

    Args:
        split: Split of the images.
        images: Number of compared images.
        failed: Number of images that cannot be decoded.
        output: Compared output: logits or probabilities.
        difference: Maximum absolute difference of the outputs.
        spread: Range of the outputs of Keras, maximum minus minimum.
        agreement: Fraction of the images that keep their label, 0..1.
        ties: Images with another label whose two best outputs are equal up to rounding; accepted
            in float formats, not counted for int8.
        before: Results of Keras.
        after: Results of the artifact.
        limits: The limits of the verdict.
        problems: Exceeded limits, in words; empty if there are none.
    """

    split: str
    images: int
    failed: int
    output: str
    difference: float
    spread: float
    agreement: float
    ties: int
    before: Side
    after: Side
    limits: dict[str, float]
    problems: tuple[str, ...] = field(default=())

    @property
    def drop(self) -> float:
        """Loss of accuracy in percentage points; negative for a gain."""
        return 100 * (self.before.accuracy - self.after.accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"drop_points": self.drop}


def compare_models(
    source: Classifier,
    artifact: Classifier,
    *,
    dataset: Dataset,
    settings: ExportConfig,
    sizes: tuple[int, int],
    progress: Progress,
) -> Parity:
    """Run both models on a split and compare their outputs.

    Args:
        source: The Keras model.
        artifact: The exported model, in its own runtime.
        dataset: Dataset with the same labels.
        settings: The quantization of the artifact, the split, and the limit of the loss.
        sizes: Size of both models in bytes.
        progress: Reports processed images.

    Raises:
        DataError: The labels differ, or no image can be decoded.
        RunError: One of the models returns values that are not finite.
    """
    check_labels(source.labels, dataset)
    rows = dataset.select_split(settings.split)
    pixels = open_pixels(dataset, source.input_spec, progress=progress, rows=rows)
    with progress.task("comparing with Keras", 2 * len(rows), unit="images") as task:
        before = _run(source, dataset, rows, pixels, task)
        try:
            after = _run(artifact, dataset, rows, pixels, task)
        except RunError as error:
            raise RunError(
                f"the exported model does not work: {error.message}",
                "try another --format, or no --quantize",
            ) from error
    if not len(before.rows):
        raise DataError(
            f"none of the images in the {settings.split} split of {dataset.place} can be decoded",
            "import the source again, or choose another --data",
        )
    return _judge(
        before,
        after,
        truth=look_up_classes(source.labels, dataset, rows=before.rows),
        failed=len(rows) - len(before.rows),
        output=str(artifact.bundle["output"]),
        settings=settings,
        sizes=sizes,
    )


@dataclass(frozen=True)
class _Answers:
    rows: NDArray[np.intp]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    images_per_s: float
    image_ms: float


def _run(
    classifier: Classifier,
    dataset: Dataset,
    rows: NDArray[np.intp],
    pixels: Pixels,
    task: Task,
) -> _Answers:
    # Not measured: the first batch compiles, packs weights and fills caches.
    for _ in stream_logits(
        classifier, dataset, rows=rows[:_BATCH], pixels=pixels, batch_size=_BATCH
    ):
        pass
    done: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
    logits = [np.zeros((0, len(classifier.labels)), np.float32)]
    start = time.perf_counter()
    for batch, values in stream_logits(
        classifier, dataset, rows=rows, pixels=pixels, batch_size=_BATCH
    ):
        done.append(batch)
        logits.append(values)
        task.advance(len(batch))
    seconds = time.perf_counter() - start
    joined = np.concatenate(logits)
    return _Answers(
        np.concatenate(done),
        joined,
        classifier.probabilities(joined) if len(joined) else joined.astype(np.float64),
        len(joined) / max(seconds, 1e-9),
        1000 * _time_one(classifier),
    )


def _time_one(classifier: Classifier) -> float:
    """Return the median of the seconds that one image takes: an image of noise, many times."""
    image = np.random.default_rng(0).integers(0, 256, (1, *classifier.input_spec.shape), np.uint8)
    classifier.logits(image)  # the first one compiles
    start, seconds = time.perf_counter(), list[float]()
    while len(seconds) < _SINGLES and time.perf_counter() - start < _SINGLES_S:
        begin = time.perf_counter()
        classifier.logits(image)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def _judge(
    before: _Answers,
    after: _Answers,
    *,
    truth: NDArray[np.int64],
    failed: int,
    output: str,
    settings: ExportConfig,
    sizes: tuple[int, int],
) -> Parity:
    quantize, max_drop = settings.quantize, settings.max_drop
    ours, theirs = (
        (after.logits, before.logits)
        if output == "logits"
        else (after.probabilities, before.probabilities)
    )
    sides = [
        _describe_side(answers, truth, size)
        for answers, size in zip((before, after), sizes, strict=True)
    ]
    drop = 100 * (sides[0].correct - sides[1].correct) / len(truth)
    limits, problems, ties = {"max_drop": max_drop}, [], 0
    if drop > max_drop:
        lost = sides[0].correct - sides[1].correct
        problems.append(
            f"accuracy is {drop:.2f} points lower, {lost:,} of {len(truth):,} images "
            f"(limit {max_drop:g})"
        )
    keeps = after.logits.argmax(axis=1) == before.logits.argmax(axis=1)
    tolerance = FLOAT_TOLERANCES.get(quantize)
    if tolerance is not None:
        limits |= vars(tolerance) | {"tie": FLOAT_TIES[quantize]}
        found = compare_logits(
            np.asarray(ours, np.float32), np.asarray(theirs, np.float32), tolerance=tolerance
        )
        if found.difference > tolerance.difference:
            problems.append(
                f"{output} differ by {found.difference:.2g} of their spread "
                f"(limit {tolerance.difference:g})"
            )
        ties = int((~keeps & _find_ties(theirs, FLOAT_TIES[quantize])).sum())
        kept = (int(keeps.sum()) + ties) / len(keeps)
        if kept < tolerance.agreement:
            problems.append(
                f"{100 * kept:.2f} % of the images keep their label "
                f"{'or are ties ' if ties else ''}(limit {100 * tolerance.agreement:g} %)"
            )
    return Parity(
        split=settings.split,
        images=len(truth),
        failed=failed,
        output=output,
        difference=float(np.abs(ours.astype(np.float64) - theirs).max()),
        spread=float(np.ptp(theirs)),
        agreement=float(keeps.mean()),
        ties=ties,
        before=sides[0],
        after=sides[1],
        limits=limits,
        problems=tuple(problems),
    )


def _find_ties(outputs: NDArray[np.floating[Any]], margin: float) -> NDArray[np.bool_]:
    """Return for each image whether its two best outputs differ by a fraction of the spread."""
    if outputs.shape[1] < 2:
        return np.ones(len(outputs), np.bool_)
    ranked = np.sort(outputs.astype(np.float64), axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2] <= margin * np.ptp(ranked))


def _describe_side(answers: _Answers, truth: NDArray[np.int64], size_bytes: int) -> Side:
    correct = int((answers.logits.argmax(axis=1) == truth).sum())
    low, high = wilson_interval(correct, len(truth))
    return Side(
        correct,
        correct / len(truth),
        low,
        high,
        size_bytes,
        images_per_s=answers.images_per_s,
        image_ms=answers.image_ms,
    )
