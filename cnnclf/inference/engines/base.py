"""What an engine is: uint8 pictures in, float32 logits out, one batch or a stream of them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Tag = TypeVar("Tag")


class Engine(Protocol):
    """Computes what a model says of decoded pictures."""

    @property
    def name(self) -> str:
        """Its row in the table: keras, openvino, onnxruntime or litert."""

    @property
    def precision(self) -> str:
        """What it computes in, float32, bfloat16 or int8."""

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch: uint8 [n, H, W, C], n >= 1, to float32 [n, K]."""

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches in their order, several at once where the engine can.

        A bounded number of batches is taken before their logits are given, so memory stays
        constant. A batch without pictures is given back only after all before it: a source that
        has to wait sends one so that nothing is held back meanwhile. Errors of the source pass
        through.

        Args:
            batches: Anything that tells the batch, and uint8 [n, H, W, C], n >= 0.

        Yields:
            The same thing, and float32 [n, K].
        """


@dataclass(frozen=True)
class ModelFile:
    """A model as it lies on the disk.

    Args:
        path: The file, or the directory of a format that is one.
        format: A key of `FORMATS`: keras, openvino, onnx, litert, savedmodel.
        checksum: What identifies its content.
        shape: (height, width, channels) of a picture.
        outputs: How many numbers come out for each picture.
    """

    path: Path
    format: str
    checksum: str
    shape: tuple[int, int, int]
    outputs: int


class KerasSource(Protocol):
    """Gives the Keras model of a bundle, for the engine of Keras and to convert it for others."""

    @property
    def jit_compile(self) -> bool:
        """Whether XLA shall compile its graph; asked after `load`."""

    def load(self) -> Any:
        """Load the model, or give the one that is loaded already."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine shall compute.

    Args:
        keras: Gives the Keras model.
        precision: One of those that its row names; None for what the model file has.
        threads: Threads of the CPU; None for all that the process may use.
    """

    keras: KerasSource
    precision: str | None = None
    threads: int | None = None


class EngineRefusedError(RunError):
    """An engine computes something else than Keras does."""


def stream_in_threads(
    compute: Callable[[Pixels], Logits],
    batches: Iterable[tuple[Tag, Pixels]],
    *,
    threads: int,
    outputs: int,
) -> Generator[tuple[Tag, Logits], None, None]:
    """Stream with a function that computes one batch and may be called by several threads.

    Args:
        compute: uint8 [n, H, W, C], n >= 1, to float32 [n, K].
        batches: As of `Engine.stream`.
        threads: How many batches are computed at once, at least 1.
        outputs: K.
    """
    waiting: deque[tuple[Tag, Future[Logits]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")
    try:
        for tag, pixels in batches:
            if not len(pixels):
                yield from _drain(waiting)
                yield tag, no_logits(outputs)
                continue
            waiting.append((tag, pool.submit(compute, pixels)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from _drain(waiting)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def no_logits(outputs: int) -> Logits:
    """The logits of no pictures."""
    return np.zeros((0, outputs), np.float32)


def _drain(waiting: deque[tuple[Any, Future[Logits]]]) -> Iterator[tuple[Any, Logits]]:
    while waiting:
        tag, future = waiting.popleft()
        yield tag, future.result()
