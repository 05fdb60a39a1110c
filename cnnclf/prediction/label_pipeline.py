"""From paths to predictions: a pipeline whose stages run concurrently, in constant memory.

list -> decode (threads) -> batch -> compute; each stage takes only what it can hold. Images are
decoded straight into the batch that will be computed, and the next batches are decoded while one is
computed. When the source pauses, everything it gave so far is computed and returned.
"""

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.config import PredictConfig
from cnnclf.errors import ImageError
from cnnclf.hardware import count_usable_cpus
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.answer_rules import AnswerRules
from cnnclf.inference.ranking import NO_RULES, rank_labels
from cnnclf.prediction.inputs import PAUSE, Found
from cnnclf.prediction.rows import Prediction
from cnnclf.prediction.stage_times import StageClock

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

# Handing an image to a thread costs as much as decoding a tiny one, so threads get a few at a time.
_MAX_TOGETHER = 4
_BATCHES_AHEAD = 2


class ImageClassifier(Protocol):
    """What predicts: a `Classifier`, or anything with the same methods.

    If it also has a method `stream_outputs` or `stream` like those of `Classifier`, it gets several
    batches at once.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """K labels in the order of the logits."""

    @property
    def input_spec(self) -> InputSpec:
        """The input that `logits` expects."""

    def decode(self, source: Path | bytes) -> npt.NDArray[np.uint8]:
        """Decode an image to uint8 [H, W, C]."""

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute float32 [n, K] of uint8 [n, H, W, C]."""

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Turn logits into probabilities, float64 [n, K]."""


_DEFAULTS = PredictConfig()


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction.

    Args:
        top_k: How many classes to name, at least 1; more than there are means all.
        threshold: Confidence below which the label is `unknown`, 0..1; None for never.
        batch_size: Images per batch, at least 1.
        threads: Decoding threads; None for one per processor.
        norm: How confidence is scored, as in `score_confidence`; None: the best probability.
        rules: Sets and familiarity.
        first_batch: Images in the first batch, 1..batch_size; None for batch_size.
        unsure_below: See `PredictSummary`.
    """

    top_k: int = _DEFAULTS.top_k
    threshold: float | None = None
    batch_size: int = _DEFAULTS.batch_size
    threads: int | None = None
    norm: int | None = None
    rules: AnswerRules = field(default=NO_RULES, compare=False)
    first_batch: int | None = None
    unsure_below: float = 0.0

    def continue_after(self, rows: int) -> "PredictOptions":
        """Return options that cut batches as if `rows` rows of this job were done already.

        Engines round differently in batches of different sizes. With the same batches, a resumed
        job gives the same digits as an uninterrupted one.
        """
        return replace(self, first_batch=self.batch_size - rows % self.batch_size)


def iter_batches(
    classifier: ImageClassifier,
    found: Iterable[Found],
    *,
    options: PredictOptions,
    clock: StageClock | None = None,
) -> Generator[list[Prediction], None, None]:
    """Yield the predictions batch by batch, in the order of the paths.

    A file that cannot be read becomes a prediction with an error. In memory are the
    batch that is computed, those decoded ahead, and those that a streaming engine holds.

    Args:
        classifier: The model.
        found: The paths; consumed lazily.
        options: Batch size, top-k, threshold and threads.
        clock: Measures how long each stage is waited for.
    """
    clock = clock or StageClock()
    batches = _decode_batches(found, classifier, options, clock)
    results = _stream(classifier, ((batch, batch.pixels) for batch in batches))
    with contextlib.closing(batches), contextlib.closing(results):
        for batch, logits in results:
            yield list(_name_predictions(classifier, batch, logits, options))
            clock.enter("compute")


def predict_files(
    classifier: ImageClassifier, paths: Sequence[str], *, options: PredictOptions | None = None
) -> list[Prediction]:
    """Predict a few files that are known by path.

    Returns:
        One prediction for each path, in order; failures have an error.
    """
    found = (Found(path) for path in paths)
    batches = iter_batches(classifier, found, options=options or PredictOptions())
    return [prediction for batch in batches for prediction in batch]


def _count_ahead(options: PredictOptions) -> int:
    """Return how many batches are decoded ahead: enough to keep all threads busy."""
    threads = options.threads or count_usable_cpus()
    return max(_BATCHES_AHEAD, -(-2 * threads // options.batch_size))


class _Decoders(NamedTuple):
    """The threads that decode, each some images together."""

    classifier: ImageClassifier
    pool: ThreadPoolExecutor
    together: int

    def start_batch(self, size: int) -> "_Batch":
        """Create a batch for up to `size` images."""
        return _Batch(np.empty((size, *self.classifier.input_spec.shape), np.uint8), self)


class _Batch:
    """Images decoded straight into the array that will be computed.

    Args:
        pixels: uint8 [capacity, H, W, C]; once complete, only the images that were decoded.
        decoders: The threads that decode.
    """

    def __init__(self, pixels: Pixels, decoders: _Decoders) -> None:
        self.pixels = pixels
        self.found: list[Found] = []
        self.errors: dict[int, str] = {}  # by position in the batch
        self._decoders = decoders
        self._some: list[Found] = []
        self._work: list[Future[float]] = []

    @property
    def is_full(self) -> bool:
        """Whether the batch is full."""
        return len(self.found) == len(self.pixels)

    def add(self, item: Found) -> None:
        """Add a path; threads get a few at a time."""
        self.found.append(item)
        self._some.append(item)
        if len(self._some) == self._decoders.together or self.is_full:
            self.submit()

    def submit(self) -> None:
        """Hand all paths added so far to the threads."""
        if self._some:
            first = len(self.found) - len(self._some)
            self._work.append(self._decoders.pool.submit(self._decode, self._some, first))
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
        classifier = self._decoders.classifier
        for index, item in enumerate(some, first):
            error = item.error or _decode_into(self.pixels[index], item.path, classifier)
            if error:
                self.errors[index] = error
        return time.thread_time() - began


def _decode_into(pixels: Pixels, path: str, classifier: ImageClassifier) -> str:
    """Decode one image into `pixels`; return the error, or ""."""
    try:
        pixels[...] = classifier.decode(Path(path))
    except ImageError as error:
        # The path has a column of its own; the decoder names it, in front of the reason.
        reason = error.__cause__ if isinstance(error.__cause__, ImageError) else error
        return reason.message.removeprefix(f"{Path(path)}: ")
    except OSError as error:
        return error.strerror or str(error)
    except MemoryError:
        return "not enough memory to decode it"
    return ""


def _decode_batches(
    found: Iterable[Found],
    classifier: ImageClassifier,
    options: PredictOptions,
    clock: StageClock,
) -> Generator[_Batch, None, None]:
    """Decode in parallel, a few batches ahead, and yield complete batches in order.

    When the source pauses, all batches so far are yielded, then an empty one.
    """
    threads = options.threads or count_usable_cpus()
    together = max(1, min(_MAX_TOGETHER, options.batch_size // threads))
    ahead = _count_ahead(options)
    queue: deque[_Batch] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        clock.enter("list")
        for batch in _fill_batches(found, _Decoders(classifier, pool, together), options, clock):
            queue.append(batch)
            while len(queue) > (ahead if batch.found else 0):
                yield _complete_first(queue, clock)
            clock.enter("list")
        while queue:
            yield _complete_first(queue, clock)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _fill_batches(
    found: Iterable[Found], decoders: _Decoders, options: PredictOptions, clock: StageClock
) -> Iterator[_Batch]:
    """Hand paths to the threads as they come; yield each batch when it has all its paths."""
    batch = decoders.start_batch(options.first_batch or options.batch_size)
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
            batch = decoders.start_batch(options.batch_size)
        if is_paused:
            yield decoders.start_batch(0)
            clock.stop()  # waiting for new files is not the time of any stage
    if batch.found:
        batch.submit()
        yield batch


def _complete_first(queue: deque[_Batch], clock: StageClock) -> _Batch:
    clock.enter("decode")
    batch = queue.popleft().complete(clock)
    clock.enter("compute")
    return batch


def _stream(
    classifier: ImageClassifier, batches: Iterable[tuple[_Batch, Pixels]]
) -> Generator[tuple[_Batch, Logits], None, None]:
    """Compute batches in order, several at once if the classifier can."""
    stream = getattr(classifier, "stream_outputs", getattr(classifier, "stream", None))
    if stream is not None:
        with contextlib.closing(stream(batches)) as results:
            yield from results
        return
    for batch, pixels in batches:
        empty = np.zeros((0, len(classifier.labels)), np.float32)
        yield batch, classifier.logits(pixels) if len(pixels) else empty


def _name_predictions(
    classifier: ImageClassifier, batch: _Batch, logits: Logits, options: PredictOptions
) -> Iterator[Prediction]:
    """Yield the predictions of a batch; failed images keep their positions."""
    answers = rank_labels(
        classifier,
        logits,
        top_k=options.top_k,
        threshold=options.threshold,
        norm=options.norm,
        rules=options.rules,
    )
    for index, item in enumerate(batch.found):
        if index in batch.errors:
            yield Prediction(item.path, error=batch.errors[index])
            continue
        yield Prediction.of_answer(item.path, next(answers))
