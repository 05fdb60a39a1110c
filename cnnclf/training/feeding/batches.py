"""Batches for training: the order of images, their augmentation, and the input of Keras.

All randomness comes from (seed, epoch) and (seed, epoch, batch), never from the order in which
threads finish: the same seed gives the same batches with any number of threads, and a run resumed
at an epoch sees what an uninterrupted run would have seen.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.table import Augmenter
from cnnclf.data.store import keep_readable
from cnnclf.errors import CnnclfError, DataError, ImageError
from cnnclf.hardware import count_usable_cpus
from cnnclf.training.feeding.sampling import cut_batches, draw_balanced
from cnnclf.training.feeding.waits import Waits

Batch = tuple[npt.NDArray[Any], ...]
"""(images uint8 [n, H, W, C], labels float32 [n, K]) or these and (weights float32 [n])."""

# Other random streams have other numbers: NumPy pads short seeds, so (seed, epoch) alone would be
# the same as (seed, epoch, 0).
_ORDER_STREAM = 1
_FLIP_STREAM = 6

_BYTES_TOGETHER = 1 << 20
_MAX_TOGETHER = 16

_Task = tuple[int, int, npt.NDArray[np.intp]]  # epoch, batch, rows
_Made = TypeVar("_Made")


class PixelSource(Protocol):
    """A source of images for batches, such as `store.Pixels`.

    One with a `dtype` returns arrays of it instead of uint8, such as the outputs of frozen layers.
    """

    @property
    def failed(self) -> dict[int, str]:
        """Rows that cannot be decoded, with the reason."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of an image."""

    def gather(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Return the images of these rows, [n, H, W, C]."""


class Batches:
    """The images of one split as batches, epoch after epoch.

    An epoch is cut into as few batches as `batch_size` allows, all of the same size or one smaller:
    no image is dropped, and none is alone in a batch, which batch normalization could not use.

    Args:
        pixels: The decoded images.
        rows: Rows to use, int [n]; those that could not be decoded are skipped.
        class_indices: The class of every row of the dataset, int [N].
        num_classes: K, at least 1.
        batch_size: Maximum number of images of a batch, at least 1.
        seed: Random seed, at least 0.
        shuffle: Whether each epoch has its own random order of all images.
        augmenter: Changes images and labels; None: no augmentation.
        class_weights: float32 [K], the weight of a class in the loss; adds a third array to each
            batch. A mixed label has the weight of its mixture.
        balanced_sampling: Whether an epoch has equally many images of all classes, repeating rare
            ones and sampling frequent ones, rather than each image once.
        threads: Threads that prepare batches; None takes one per processor.
        prefetch: Batches prepared in advance, groups of them if they are small; None takes two more
            than threads.
        alternate_flips: Whether each image is flipped left and right in every second epoch, half of
            them in the even ones.
        devices: Devices that share each batch equally, as Keras requires; up to one less than this
            many images occur twice in an epoch.

    Attributes:
        error: The error that stopped the threads, if any: frameworks hide it in their own.

    Raises:
        DataError: There are no images.
    """

    def __init__(
        self,
        pixels: PixelSource,
        rows: npt.NDArray[Any],
        *,
        class_indices: npt.NDArray[Any],
        num_classes: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        augmenter: Augmenter | None = None,
        class_weights: npt.NDArray[np.float32] | None = None,
        balanced_sampling: bool = False,
        threads: int | None = None,
        prefetch: int | None = None,
        alternate_flips: bool = False,
        devices: int = 1,
    ) -> None:
        self.pixels = pixels
        self.rows = keep_readable(np.asarray(rows, np.intp), pixels.failed)
        if not len(self.rows):
            raise DataError(f"none of the {len(rows)} images for batches can be decoded")
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augmenter = augmenter
        self.class_weights = class_weights
        self.balanced_sampling = balanced_sampling
        self.threads = threads or count_usable_cpus()
        self.prefetch = prefetch or self.threads + 2
        self.alternate_flips = alternate_flips
        self._flip_first = np.random.default_rng((_FLIP_STREAM, seed)).integers(
            2, size=len(class_indices)
        )
        self.error: CnnclfError | None = None
        self._class_indices = np.asarray(class_indices)
        self._edges = cut_batches(len(self.rows), batch_size, devices=devices)
        self._waits = Waits()

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._edges) - 1

    @property
    def count(self) -> int:
        """Images of an epoch."""
        return len(self.rows)

    @property
    def wait_s(self) -> float:
        """Seconds, so far, that the consumer waited because a batch was not ready."""
        return self._waits.total_s()

    def order(self, epoch: int) -> npt.NDArray[np.intp]:
        """Return the rows of an epoch in its order, int [n].

        Args:
            epoch: Counted from 0.
        """
        rng = np.random.default_rng((_ORDER_STREAM, self.seed, epoch))
        positions = np.arange(len(self.rows))
        if self.balanced_sampling:
            positions = np.sort(draw_balanced(self._class_indices[self.rows], rng))
        return self.rows[rng.permutation(positions) if self.shuffle else positions]

    def gather(self, rows: npt.NDArray[np.intp]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
        """Fetch images and their rows; an image that only now turns out unreadable is skipped.

        Raises:
            ImageError: None of them can be decoded.
        """
        while True:
            try:
                return self.pixels.gather(rows), rows
            except ImageError:
                good = keep_readable(rows, self.pixels.failed)
                if len(good) in (0, len(rows)):
                    raise
                rows = good

    def draw_plain(
        self, count: int, *, stream: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Return images without augmentation and their labels, always the same ones.

        Args:
            count: Number of images; all if there are fewer. Unreadable ones are skipped.
            stream: Number of the random stream.

        Returns:
            Images [n, H, W, C] and labels float32 [n, K].
        """
        rng = np.random.default_rng((stream, self.seed))
        rows = np.sort(rng.permutation(self.rows)[:count])
        images, rows = self.gather(rows)
        return images, self._one_hot(rows)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch in order, prepared in advance by threads.

        Args:
            epoch: Counted from 0.
        """
        return self._generate((epoch,))

    def as_keras(self, first_epoch: int, epochs: int | None) -> Any:
        """Return the input of `model.fit`, with `steps_per_epoch=len(batches)` and `shuffle=False`.

        Args:
            first_epoch: The epoch to begin with, counted from 0.
            epochs: The epoch to end before; None: endless.

        Returns:
            On TensorFlow a `tf.data.Dataset` (which MirroredStrategy can split), elsewhere a
            generator.
        """
        import keras

        def chosen() -> Iterable[int]:
            return itertools.count(first_epoch) if epochs is None else range(first_epoch, epochs)

        if keras.backend.backend() == "tensorflow":
            return self._dataset(chosen)
        return self._generate(chosen())

    def step_begins(self) -> None:
        """Note that training now needs its next batch; call it in `on_train_batch_begin`.

        TensorFlow prefetches in a thread of its own, which always waits. With this, `wait_s` counts
        only the time in which training itself waited.
        """
        self._waits.ask()

    def _generate(self, epochs: Iterable[int]) -> Iterator[Batch]:
        for (batch,), waited_s in self._stream(epochs, self._make_all, batches=1):
            self._waits.add(waited_s)
            yield batch

    def _dataset(self, epochs: Callable[[], Iterable[int]]) -> Any:
        import tensorflow as tf

        # Handing an array from Python to TensorFlow costs more than gathering a batch of small
        # images: several of these are handed over as one, and taken apart by TensorFlow.
        dtype = np.dtype(getattr(self.pixels, "dtype", np.uint8))
        batch_bytes = self.batch_size * int(np.prod(self.pixels.shape)) * dtype.itemsize
        together = max(1, min(_MAX_TOGETHER, _BYTES_TOGETHER // batch_bytes))

        def generate() -> Iterator[Batch]:
            # Called again for each iteration: Keras may read one batch to build the model and start
            # over, and the batches of that iteration must not count for this one.
            given = self._waits.begin()
            taken_s = time.perf_counter()
            for stacks, _ in self._stream(epochs(), self._make_stacks, batches=together):
                for stack in stacks:
                    given.extend([(taken_s, time.perf_counter())] * len(stack[0]))
                    yield stack if together > 1 else tuple(array[0] for array in stack)
                    taken_s = time.perf_counter()

        stacked = (None,) if together > 1 else ()
        signature = [
            tf.TensorSpec((*stacked, None, *self.pixels.shape), tf.as_dtype(dtype)),
            tf.TensorSpec((*stacked, None, self.num_classes), tf.float32),
        ]
        if self.class_weights is not None:
            signature.append(tf.TensorSpec((*stacked, None), tf.float32))
        dataset = tf.data.Dataset.from_generator(generate, output_signature=tuple(signature))
        dataset = dataset.unbatch() if together > 1 else dataset
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        # There is nothing to tune here, and the tuning thread may sleep for 10, 20, 40 ms ...
        # without noticing that its iterator is being destroyed: before the next validation, Keras
        # would wait for as long as that iterator has lived (docs/decisions/0008).
        options.autotune.enabled = False
        return dataset.prefetch(2).with_options(options)

    def _stream(
        self, epochs: Iterable[int], make: Callable[[list[_Task]], _Made], *, batches: int
    ) -> Iterator[tuple[_Made, float]]:
        """Yield the results of threads for so many batches each, and the seconds waited for them.

        Continues into the next epoch before one ends.
        """
        tasks = self._tasks(epochs)
        ahead: deque[Future[_Made]] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="cnnclf-batches")
        try:
            while True:
                while len(ahead) < self.prefetch and (
                    several := list(itertools.islice(tasks, batches))
                ):
                    ahead.append(pool.submit(make, several))
                if not ahead:
                    return
                begin = time.perf_counter()
                made = ahead.popleft().result()
                yield made, time.perf_counter() - begin
        except CnnclfError as error:
            self.error = error
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _tasks(self, epochs: Iterable[int]) -> Iterator[_Task]:
        for epoch in epochs:
            rows = np.resize(self.order(epoch), self._edges[-1])  # from the beginning again
            parts = np.split(rows, self._edges[1:-1])
            yield from ((epoch, index, rows) for index, rows in enumerate(parts))

    def _make_all(self, tasks: list[_Task]) -> list[Batch]:
        return [self._make(*task) for task in tasks]

    def _make_stacks(self, tasks: list[_Task]) -> list[Batch]:
        """Make batches and stack those that follow each other and are of the same size."""
        stacks = []
        for _, same in itertools.groupby(self._make_all(tasks), key=lambda batch: len(batch[0])):
            batches = list(same)
            if len(batches) == 1:
                stacks.append(tuple(array[None] for array in batches[0]))
            else:
                stacks.append(tuple(np.stack(arrays) for arrays in zip(*batches, strict=True)))
        return stacks

    def _make(self, epoch: int, index: int, rows: npt.NDArray[np.intp]) -> Batch:
        x, rows = self.gather(rows)
        y = self._one_hot(rows)
        if self.alternate_flips:
            flipped = (self._flip_first[rows] + epoch) % 2 == 1
            x = np.where(flipped[:, None, None, None], x[:, :, ::-1], x)
        if self.augmenter is not None:
            x, y = self.augmenter(x, y, rng=self.augmenter.rng(epoch, index))
        return (x, y) if self.class_weights is None else (x, y, y @ self.class_weights)

    def _one_hot(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        labels = np.zeros((len(rows), self.num_classes), np.float32)
        labels[np.arange(len(rows)), self._class_indices[rows]] = 1
        return labels
