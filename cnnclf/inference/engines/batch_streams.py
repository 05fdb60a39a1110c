"""Streams batches through an engine: in pieces of a good size, several at once, in order.

Batches are cut into pieces because on a CPU no engine gains from more than a few images at once,
while all of them slow down when their tensors no longer fit its caches.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from cnnclf.inference.engines.engine import Logits, Pixels, Tag

MAX_PIECE = 8

Pieces = Generator[tuple[None, Logits], None, None]
ComputePieces = Callable[[Iterator[tuple[None, Pixels]]], Pieces]


@dataclass(eq=False)
class PieceEngine:
    """An engine that computes several pieces at once.

    Args:
        name: The name of its row.
        precision: The precision of the graph.
        outputs: K.
        compute: See `stream_in_pieces`.
    """

    name: str
    precision: str
    _: KW_ONLY
    outputs: int
    compute: ComputePieces

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch."""
        [(_, logits)] = self.stream([(None, pixels)])
        return logits

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches in order."""
        return stream_in_pieces(self.compute, batches, outputs=self.outputs)


def in_threads(compute: Callable[[Pixels], Logits], threads: int, *, name: str) -> ComputePieces:
    """Return what streams pieces through a thread-safe function, in threads of its own.

    Args:
        compute: See `stream_in_threads`.
        threads: How many pieces are computed at once, at least 1.
        name: Of the threads.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    return lambda pieces: stream_in_threads(compute, pieces, pool=pool, threads=threads)


def stream_in_pieces(
    compute: ComputePieces,
    batches: Iterable[tuple[Tag, Pixels]],
    *,
    outputs: int,
) -> Generator[tuple[Tag, Logits], None, None]:
    """Cut batches into pieces, stream the pieces through a function and join the results.

    Args:
        compute: Streams uint8 [n, H, W, C], 0 <= n <= MAX_PIECE, to float32 [n, K] in order;
            an empty piece is returned after all pieces before it.
        batches: See `Engine.stream`.
        outputs: K.
    """
    waiting: deque[tuple[Tag, int]] = deque()  # with the number of pieces

    def cut() -> Iterator[tuple[None, Pixels]]:
        for tag, pixels in batches:
            starts = range(0, max(len(pixels), 1), MAX_PIECE)
            waiting.append((tag, len(starts)))
            for start in starts:
                yield None, pixels[start : start + MAX_PIECE]

    done: list[Logits] = []
    with closing(compute(cut())) as results:
        for _, logits in results:
            done.append(logits.reshape(-1, outputs))
            if len(done) == waiting[0][1]:
                yield waiting.popleft()[0], np.concatenate(done)
                done = []


def stream_in_threads(
    compute: Callable[[Pixels], Logits],
    pieces: Iterable[tuple[None, Pixels]],
    *,
    pool: ThreadPoolExecutor,
    threads: int,
) -> Pieces:
    """Stream pieces through a thread-safe function, one piece per thread.

    Args:
        compute: Computes uint8 [n, H, W, C], n >= 1, to float32 [n, K].
        pieces: See `stream_in_pieces`.
        pool: A pool with this many threads.
        threads: How many pieces are computed at once, at least 1.
    """
    waiting: deque[Future[Logits]] = deque()
    try:
        for _, pixels in pieces:
            if not len(pixels):
                yield from _drain(waiting)
                yield None, np.zeros(0, np.float32)
                continue
            waiting.append(pool.submit(compute, pixels))
            if len(waiting) > threads:  # one piece is queued, so that no thread is idle
                yield None, waiting.popleft().result()
        yield from _drain(waiting)
    finally:
        _abandon(waiting)


def _drain(waiting: deque[Future[Any]]) -> Pieces:
    while waiting:
        yield None, waiting.popleft().result()


def _abandon(waiting: deque[Future[Any]]) -> None:
    """Wait for pieces that are being computed: afterwards the source may reuse their pixels."""
    for future in waiting:
        if not future.cancel():
            future.exception()
