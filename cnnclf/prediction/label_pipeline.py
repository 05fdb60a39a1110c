"""From paths to predictions as a line of stages that run at the same time, in constant memory.

list -> decode (threads) -> batch -> compute, each taking from the one before only what it can hold.
Images are decoded straight into the batch that will be computed; while batches are computed, the
next ones are decoded. Where the source pauses, nothing is held back.
"""

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.config import PredictConfig
from cnnclf.errors import ImageError
from cnnclf.hardware import count_usable_cpus
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.probabilities import find_top_classes
from cnnclf.prediction.inputs import PAUSE, Found
from cnnclf.prediction.rows import Prediction
from cnnclf.prediction.stage_times import StageClock

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

# Handing an image to a thread costs as much as decoding a tiny one, so a few go together.
_MOST_TOGETHER = 4
_BATCHES_AHEAD = 2


class Engine(Protocol):
    """What turns images into logits: a `Classifier`, or anything that acts like one.

    With a method `stream`, as of `engines.base.Engine`, it gets several batches at once.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """K labels in the order of the logits."""

    @property
    def input_spec(self) -> InputSpec:
        """What `logits` wants to see."""

    def decode(self, source: Path | bytes) -> npt.NDArray[np.uint8]:
        """Decode an image to uint8 [H, W, C]."""

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute float32 [n, K] of uint8 [n, H, W, C]."""

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Turn logits into probabilities, float64 [n, K]."""


_DEFAULTS = PredictConfig()


@dataclass(frozen=True)
class PredictOptions:
    """How to predict.

    Args:
        top_k: How many classes to name, at least 1; more than there are means all.
        threshold: Best probability below which the label is `unknown`, 0..1; None for never.
        batch_size: Images computed at once, at least 1.
        threads: Threads that decode; None means one per processor.
        first_batch: Images of the first batch, 1..batch_size; None means batch_size.
    """

    top_k: int = _DEFAULTS.top_k
    threshold: float | None = None
    batch_size: int = _DEFAULTS.batch_size
    threads: int | None = None
    first_batch: int | None = None

    def go_on_after(self, rows: int) -> "PredictOptions":
        """Cut batches as if so many rows had been predicted in this job before.

        Engines round differently in batches of different sizes; so the later digits stay the same.
        """
        return replace(self, first_batch=self.batch_size - rows % self.batch_size)


def iter_batches(
    engine: Engine,
    found: Iterable[Found],
    options: PredictOptions,
    clock: StageClock | None = None,
) -> Generator[list[Prediction], None, None]:
    """Give the predictions of each batch, in the order of the paths.

    A file that cannot be read becomes a prediction with an error. At most `in_flight(options)`
    paths are held at once, and what an engine that streams holds beyond that.

    Args:
        engine: The model.
        found: The paths; taken only as far as needed.
        options: How.
        clock: Is told what is waited for.
    """
    clock = clock or StageClock()
    batches = _decode_batches(found, engine, options, clock)
    results = _stream(engine, ((batch, batch.pixels) for batch in batches))
    with contextlib.closing(batches), contextlib.closing(results):
        for batch, logits in results:
            yield list(_name_predictions(engine, batch, logits, options))
            clock.enter("compute")


def predict_chunk(
    engine: Engine, paths: Sequence[str], options: PredictOptions
) -> list[Prediction]:
    """Predict a few paths: what a worker does that gets its paths from elsewhere.

    Returns:
        One prediction for each path, in order; failures have an error.
    """
    batches = iter_batches(engine, (Found(path) for path in paths), options)
    return [prediction for batch in batches for prediction in batch]


def in_flight(options: PredictOptions) -> int:
    """How many images are held at once: the batch computed and those decoded ahead."""
    return (_count_ahead(options) + 1) * options.batch_size


def _count_ahead(options: PredictOptions) -> int:
    """How many batches are decoded ahead: enough to keep many threads busy, too."""
    threads = options.threads or count_usable_cpus()
    return max(_BATCHES_AHEAD, -(-2 * threads // options.batch_size))


class _Crew(NamedTuple):
    """Who decodes.

    Args:
        engine: Knows how.
        pool: The threads.
        together: Images that one thread takes at once.
    """

    engine: Engine
    pool: ThreadPoolExecutor
    together: int

    def start_batch(self, size: int) -> "_Batch":
        """Give a batch with room for so many images."""
        return _Batch(np.empty((size, *self.engine.input_spec.shape), np.uint8), self)


class _Batch:
    """Images on their way: decoded straight into the array that will be computed.

    Args:
        pixels: uint8 [as many as there is room for, H, W, C]; once complete, only those decoded.
        crew: Who decodes.
    """

    def __init__(self, pixels: Pixels, crew: _Crew) -> None:
        self.pixels = pixels
        self.found: list[Found] = []
        self.errors: dict[int, str] = {}  # by place
        self._crew = crew
        self._some: list[Found] = []
        self._work: list[Future[float]] = []

    @property
    def is_full(self) -> bool:
        """Whether there is no more room."""
        return len(self.found) == len(self.pixels)

    def add(self, item: Found) -> None:
        """Take a path; a few together are handed to a thread."""
        self.found.append(item)
        self._some.append(item)
        if len(self._some) == self._crew.together or self.is_full:
            self.submit()

    def submit(self) -> None:
        """Hand over what has been taken so far."""
        if self._some:
            first = len(self.found) - len(self._some)
            self._work.append(self._crew.pool.submit(self._decode, self._some, first))
            self._some = []

    def complete(self, clock: StageClock) -> "_Batch":
        """Wait for the threads."""
        for work in self._work:
            clock.add_decoding(work.result())
        count = len(self.found)
        if self.errors:
            self.pixels = self.pixels[[at for at in range(count) if at not in self.errors]]
        else:
            self.pixels = self.pixels[:count]
        return self

    def _decode(self, some: list[Found], first: int) -> float:
        """Decode a few images; return the processor time it took, in seconds."""
        began = time.thread_time()
        for place, item in enumerate(some, first):
            error = item.error or _decode_into(self.pixels[place], item.path, self._crew.engine)
            if error:
                self.errors[place] = error
        return time.thread_time() - began


def _decode_into(pixels: Pixels, path: str, engine: Engine) -> str:
    """Decode one image into its place; return why it could not be done, or ""."""
    try:
        pixels[...] = engine.decode(Path(path))
    except ImageError as error:
        return error.message.removeprefix(f"{Path(path)}: ")  # the path has a column of its own
    except OSError as error:
        return error.strerror or str(error)
    except MemoryError:
        return "not enough memory to decode it"
    return ""


def _decode_batches(
    found: Iterable[Found], engine: Engine, options: PredictOptions, clock: StageClock
) -> Generator[_Batch, None, None]:
    """Decode in parallel, a few batches ahead, and give whole batches in order.

    Where the source pauses, all that it gave before is given, then a batch without images.
    """
    threads = options.threads or count_usable_cpus()
    together = max(1, min(_MOST_TOGETHER, options.batch_size // threads))
    ahead = _count_ahead(options)
    queue: deque[_Batch] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        clock.enter("list")
        for batch in _fill_batches(found, _Crew(engine, pool, together), options, clock):
            queue.append(batch)
            while len(queue) > (ahead if batch.found else 0):
                yield _complete_first(queue, clock)
            clock.enter("list")
        while queue:
            yield _complete_first(queue, clock)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _fill_batches(
    found: Iterable[Found], crew: _Crew, options: PredictOptions, clock: StageClock
) -> Iterator[_Batch]:
    """Hand paths to the threads as they come; give each batch when it has all its paths."""
    batch = crew.start_batch(options.first_batch or options.batch_size)
    is_paused = False
    for item in found:
        if is_paused:
            clock.enter("list")
        is_paused = item is PAUSE
        if not is_paused:
            batch.add(item)
        if batch.is_full or (is_paused and batch.found):
            batch.submit()
            yield batch
            batch = crew.start_batch(options.batch_size)
        if is_paused:
            yield crew.start_batch(0)
            clock.stop()  # what is waited for is the world, not a stage
    if batch.found:
        batch.submit()
        yield batch


def _complete_first(queue: deque[_Batch], clock: StageClock) -> _Batch:
    clock.enter("decode")
    batch = queue.popleft().complete(clock)
    clock.enter("compute")
    return batch


def _stream(
    engine: Engine, batches: Iterable[tuple[_Batch, Pixels]]
) -> Generator[tuple[_Batch, Logits], None, None]:
    """Compute batches in order, several at once if the engine can."""
    stream = getattr(engine, "stream", None)
    if stream is not None:
        with contextlib.closing(stream(batches)) as results:
            yield from results
        return
    for batch, pixels in batches:
        nothing = np.zeros((0, len(engine.labels)), np.float32)
        yield batch, engine.logits(pixels) if len(pixels) else nothing


def _name_predictions(
    engine: Engine, batch: _Batch, logits: Logits, options: PredictOptions
) -> Iterator[Prediction]:
    """Give the predictions of a batch; errors keep their places."""
    rankings = iter(_rank(engine, logits, options.top_k))
    for place, item in enumerate(batch.found):
        if place in batch.errors:
            yield Prediction(item.path, error=batch.errors[place])
            continue
        ranking = next(rankings)
        if not ranking:
            yield Prediction(item.path, error="the model's output is not a number")
            continue
        is_unknown = options.threshold is not None and ranking[0][1] < options.threshold
        yield Prediction(item.path, ranking, is_unknown=is_unknown)


def _rank(engine: Engine, logits: Logits, top_k: int) -> Iterator[tuple[tuple[str, float], ...]]:
    """Name the best classes of each image; none at all where an output is not finite."""
    if not len(logits):
        return
    is_finite: npt.NDArray[np.bool_] = np.all(np.isfinite(logits), axis=1)
    probabilities = engine.probabilities(np.where(is_finite[:, None], logits, 0.0))
    order = find_top_classes(probabilities, top_k)
    values = np.take_along_axis(probabilities, order, axis=1).tolist()
    for best, row, is_usable in zip(order.tolist(), values, is_finite.tolist(), strict=True):
        named = zip(best, row, strict=True)
        yield tuple((engine.labels[at], value) for at, value in named) if is_usable else ()
