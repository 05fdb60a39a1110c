"""Predicts any number of pictures in constant memory, as a chain of generators.

paths -> decoded in parallel, in order -> batches -> logits -> predictions -> rows, placed files.

While a batch is computed, threads decode the next ones. Each stage takes an iterator and gives one,
so that another source of paths, another engine or another sink fits in.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from cnnclf.data.input_spec import InputSpec
from cnnclf.errors import DeviceError, ExitCode, ImageError
from cnnclf.files import write_error
from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.inputs import Found, ImageInputs
from cnnclf.inference.placing import Placer
from cnnclf.inference.rows import Prediction, RowWriter
from cnnclf.progress import Progress, Task

_EXAMPLES = 5


class Engine(Protocol):
    """What turns pixels into logits: `Classifier`, or another runtime of the same bundle."""

    @property
    def labels(self) -> tuple[str, ...]:
        """K labels in the order of the logits."""

    @property
    def input_spec(self) -> InputSpec:
        """What `logits` wants to see."""

    def decode(self, source: Path | bytes) -> np.ndarray:
        """Decode a picture to uint8 [H, W, C]."""

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute float32 [n, K] of uint8 [n, H, W, C]."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits into probabilities, float64 [n, K]."""


@dataclass(frozen=True)
class PredictOptions:
    """How to predict.

    Args:
        top_k: How many classes to name, at least 1; more than there are means all.
        threshold: Best probability below which the label is `unknown`, 0..1; None for never.
        batch_size: Pictures computed at once, at least 1.
        threads: Threads that decode; None means one per processor.
    """

    top_k: int = 3
    threshold: float | None = None
    batch_size: int = 32
    threads: int | None = None


@dataclass
class PredictSummary:
    """What came out in all.

    Args:
        files: Rows written.
        failed: Rows with an error.
        placed: Files copied, linked or moved, or that would be in a dry run.
        counts: Label (or `unknown`) to number of files.
        examples: (path, error) of the first failed ones.
        seconds: Time from the first path to the last row.
    """

    files: int = 0
    failed: int = 0
    placed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """`SOME_FAILED` if a file failed."""
        return ExitCode.SOME_FAILED if self.failed else ExitCode.OK

    @property
    def images_per_s(self) -> float:
        """Files per second; 0 if there was no time to measure."""
        return self.files / self.seconds if self.seconds else 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one row."""
        self.files += 1
        self.placed += bool(prediction.placed)
        if prediction.label:
            self.counts[prediction.label] += 1
        if prediction.error:
            self.failed += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append((prediction.path, prediction.error))


class Decoded(NamedTuple):
    """A path with its pixels, or with the reason why there are none."""

    path: str
    pixels: np.ndarray | None
    error: str = ""


def predict_images(
    engine: Engine,
    found: Iterable[Found],
    *,
    rows: RowWriter,
    options: PredictOptions,
    progress: Progress,
    inputs: ImageInputs | None = None,
    placer: Placer | None = None,
) -> PredictSummary:
    """Predict every path and write a row for it.

    Args:
        engine: The model.
        found: The paths, such as `inputs.first()`.
        rows: Takes the rows in the order of the paths.
        options: How.
        progress: Shows the count and the rate.
        inputs: Counted in the background, so that progress knows how many there are.
        placer: Sorts the files into class folders.

    Raises:
        DataError: There is nothing to predict.
        DeviceError: The disk is full.
    """
    summary = PredictSummary()
    started = time.perf_counter()
    with progress.task("predict", None, "images") as task, _counted(inputs, placer, task):
        predictions = iter_predictions(engine, found, options)
        with contextlib.closing(predictions):
            for each in predictions:
                prediction = each if placer is None else _place(placer, each)
                rows.write(prediction)
                summary.add(prediction)
                task.advance()
    summary.seconds = time.perf_counter() - started
    return summary


def iter_predictions(
    engine: Engine, found: Iterable[Found], options: PredictOptions
) -> Generator[Prediction, None, None]:
    """Give a prediction for each path, in order; a file that cannot be read becomes an error.

    At most `in_flight(options)` paths are taken before their predictions are given.
    """
    decoded = decode_in_order(
        found,
        engine.decode,
        threads=options.threads or count_usable_cpus(),
        ahead=2 * options.batch_size,
    )
    with contextlib.closing(decoded):
        batch: list[Decoded] = []
        for item in decoded:
            batch.append(item)
            if len(batch) == options.batch_size:
                yield from predict_batch(engine, batch, options)
                batch = []
        if batch:
            yield from predict_batch(engine, batch, options)


def in_flight(options: PredictOptions) -> int:
    """How many pictures are held at once: the batch computed and those decoded ahead."""
    return 3 * options.batch_size


def decode_in_order(
    found: Iterable[Found],
    decode: Callable[[Path], np.ndarray],
    *,
    threads: int,
    ahead: int,
) -> Generator[Decoded, None, None]:
    """Decode in parallel, give in order.

    Args:
        found: The paths; taken only as far as needed.
        decode: Gives the pixels of a file or raises ImageError or OSError.
        threads: At least 1.
        ahead: How many paths may be taken beyond the one given, at least 1.
    """

    def work(item: Found) -> Decoded:
        if item.error:
            return Decoded(item.path, None, item.error)
        try:
            return Decoded(item.path, decode(Path(item.path)))
        except ImageError as error:
            # The path has a column of its own.
            return Decoded(item.path, None, error.message.removeprefix(f"{Path(item.path)}: "))
        except OSError as error:
            return Decoded(item.path, None, error.strerror or str(error))
        except MemoryError:
            return Decoded(item.path, None, "not enough memory to decode it")

    queue: deque[Future[Decoded]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for item in found:
            queue.append(pool.submit(work, item))
            if len(queue) >= ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def predict_batch(
    engine: Engine, batch: Sequence[Decoded], options: PredictOptions
) -> Iterator[Prediction]:
    """Predict the readable pictures of a batch at once; errors keep their places."""
    pixels = [item.pixels for item in batch if item.pixels is not None]
    rankings = iter(_rank(engine, np.stack(pixels), options) if pixels else ())
    for item in batch:
        if item.pixels is None:
            yield Prediction(item.path, error=item.error)
            continue
        ranking = next(rankings)
        if not ranking:
            yield Prediction(item.path, error="the model's output is not a number")
            continue
        is_unknown = options.threshold is not None and ranking[0][1] < options.threshold
        yield Prediction(item.path, ranking, is_unknown=is_unknown)


def _rank(
    engine: Engine, pixels: np.ndarray, options: PredictOptions
) -> Iterator[tuple[tuple[str, float], ...]]:
    """Name the best classes of each picture; none at all where an output is not finite."""
    logits = engine.logits(pixels)
    is_finite = np.isfinite(logits).all(axis=1)
    probabilities = engine.probabilities(np.where(is_finite[:, None], logits, 0.0))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : options.top_k]
    for row, best, is_usable in zip(probabilities, order, is_finite, strict=True):
        yield tuple((engine.labels[i], float(row[i])) for i in best) if is_usable else ()


def _place(placer: Placer, prediction: Prediction) -> Prediction:
    if not prediction.label:
        return prediction
    try:
        return replace(prediction, placed=placer.place(prediction.path, prediction.label))
    except OSError as error:
        problem = write_error(placer.directory, error)
        if isinstance(problem, DeviceError):
            raise problem from error
        return replace(prediction, error=f"cannot {placer.mode} it: {error.strerror or error}")


@contextlib.contextmanager
def _counted(inputs: ImageInputs | None, placer: Placer | None, task: Task) -> Iterator[None]:
    """Count the paths in a thread of its own and tell the task how many there are."""
    is_moving = placer is not None and placer.mode == "move" and not placer.dry_run
    if inputs is None or is_moving:  # files that move away while they are counted
        yield
        return
    stop = threading.Event()

    def count() -> None:
        total = inputs.count(stop)
        if total is not None:
            task.expect(total)

    thread = threading.Thread(target=count, name="count", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
