"""What an export changed: the artifact beside Keras on the same images, and the verdict.

Formats that keep float numbers must give the logits of Keras but for rounding. 8 bits change logits
visibly; what counts then is how many images are labeled rightly.
"""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError, RunError
from cnnclf.evaluation.metrics import wilson_interval
from cnnclf.evaluation.predictions import check_labels, look_up_classes, stream_logits
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.engine_table import Tolerance
from cnnclf.inference.engines.keras_comparison import compare_logits
from cnnclf.progress import Progress, Task

# Largest part of the spread by which outputs may differ, and the share of images that must keep
# their label.
FLOAT_TOLERANCES = {None: Tolerance(1e-3, 0.999), "float16": Tolerance(1e-2, 0.999)}
# Where Keras' two best lie within this part of the spread, rounding says which wins: of float32
# sums, and of weights with 11 bits. Ten to a hundred times less than outputs may differ by, so that
# labels are a check of their own.
FLOAT_TIES = {None: 1e-5, "float16": 1e-3}

_BATCH = 32


@dataclass(frozen=True)
class Side:
    """How a model did on the images.

    Args:
        correct: Images that were labeled rightly.
        accuracy: As a part of all, 0..1.
        low: Lower end of its Wilson 95 % interval.
        high: Upper end.
        size_bytes: Of its files.
        images_per_s: On this machine, from decoded images.
    """

    correct: int
    accuracy: float
    low: float
    high: float
    size_bytes: int
    images_per_s: float


@dataclass(frozen=True)
class Parity:
    """An artifact beside the Keras model it was made of.

    Args:
        split: Of the images.
        images: How many.
        failed: How many more cannot be decoded.
        output: What was compared: logits or probabilities.
        difference: Largest |difference| of an output.
        spread: Of Keras' outputs, from the smallest to the largest.
        agreement: Part of the images that keep their label, 0..1.
        ties: Images with another label whose two best are equal but for rounding; not held
            against float formats, not counted for others.
        before: Keras.
        after: The artifact.
        limits: What was allowed.
        problems: What is beyond the limits, in words; none if all is well.
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
        """Points of accuracy that were lost; below 0 if any were won."""
        return 100 * (self.before.accuracy - self.after.accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"drop_points": self.drop}


def compare_models(
    source: Classifier,
    artifact: Classifier,
    dataset: Dataset,
    *,
    split: str,
    quantize: str | None,
    max_drop: float,
    sizes: tuple[int, int],
    progress: Progress,
) -> Parity:
    """Run both over a split and compare what they say.

    Args:
        source: The Keras model.
        artifact: What was made of it, in its own runtime.
        dataset: With the same labels.
        split: Which images.
        quantize: How the artifact was quantized; None, float16 or int8.
        max_drop: Points of accuracy that may be lost, 0..100.
        sizes: Bytes of the model before and after.
        progress: Is told of images done.

    Raises:
        DataError: The labels are others, or no image can be decoded.
        RunError: One of the models gives values that are not numbers.
    """
    check_labels(source.labels, dataset)
    rows = dataset.select_split(split)
    pixels = open_pixels(dataset, source.input_spec, progress=progress, rows=rows)
    with progress.task("comparing with Keras", 2 * len(rows), unit="images") as task:
        before = _run(source, dataset, rows, pixels, task)
        try:
            after = _run(artifact, dataset, rows, pixels, task)
        except RunError as error:
            raise RunError(
                f"the model that was written does not work: {error.message}",
                "try another --format, or leave --quantize out",
            ) from error
    if not len(before.rows):
        raise DataError(
            f"expected images in the split {split} of {dataset.directory}, none can be decoded",
            "import the source again, or give another --data",
        )
    return _judge(
        before,
        after,
        truth=look_up_classes(source.labels, dataset, before.rows),
        split=split,
        failed=len(rows) - len(before.rows),
        output=str(artifact.bundle["output"]),
        quantize=quantize,
        max_drop=max_drop,
        sizes=sizes,
    )


@dataclass(frozen=True)
class _Answers:
    rows: NDArray[np.intp]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    images_per_s: float


def _run(
    classifier: Classifier,
    dataset: Dataset,
    rows: NDArray[np.intp],
    pixels: Pixels,
    task: Task,
) -> _Answers:
    # The first batch compiles, packs weights and fills caches.
    for _ in stream_logits(classifier, dataset, rows[:_BATCH], pixels=pixels, batch_size=_BATCH):
        pass
    done: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
    logits = [np.zeros((0, len(classifier.labels)), np.float32)]
    start = time.perf_counter()
    for batch, values in stream_logits(classifier, dataset, rows, pixels=pixels, batch_size=_BATCH):
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
    )


def _judge(
    before: _Answers,
    after: _Answers,
    *,
    truth: NDArray[np.int64],
    split: str,
    failed: int,
    output: str,
    quantize: str | None,
    max_drop: float,
    sizes: tuple[int, int],
) -> Parity:
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
            f"{drop:.2f} points of accuracy are lost, {lost:,} of {len(truth):,} images "
            f"(allowed {max_drop:g})"
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
                f"(allowed {tolerance.difference:g})"
            )
        ties = int((~keeps & _find_ties(theirs, FLOAT_TIES[quantize])).sum())
        kept = (int(keeps.sum()) + ties) / len(keeps)
        if kept < tolerance.agreement:
            problems.append(
                f"{100 * kept:.2f} % of the images keep their label "
                f"{'or are ties ' if ties else ''}(expected {100 * tolerance.agreement:g} %)"
            )
    return Parity(
        split=split,
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
    """Tell for each image whether its two best lie within a part of the spread of all."""
    if outputs.shape[1] < 2:
        return np.ones(len(outputs), np.bool_)
    ranked = np.sort(outputs.astype(np.float64), axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2] <= margin * np.ptp(ranked))


def _describe_side(answers: _Answers, truth: NDArray[np.int64], size_bytes: int) -> Side:
    correct = int((answers.logits.argmax(axis=1) == truth).sum())
    low, high = wilson_interval(correct, len(truth))
    return Side(correct, correct / len(truth), low, high, size_bytes, answers.images_per_s)
