"""How engines take a stream of batches: in pieces of a good size, several at once, in order.

A batch is cut because no engine gains from more than a few images at once on a CPU, while all of
them lose when their tensors no longer fit its caches.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np

from cnnclf.inference.engines.engine import Logits, Pixels, Tag

MOST_AT_ONCE = 8

Pieces = Generator[tuple[None, Logits], None, None]


def stream_in_pieces(
    compute: Callable[[Iterator[tuple[None, Pixels]]], Pieces],
    batches: Iterable[tuple[Tag, Pixels]],
    *,
    outputs: int,
) -> Generator[tuple[Tag, Logits], None, None]:
    """Stream with a function that streams, too, but is given small pieces of batches.

    Args:
        compute: Streams uint8 [n, H, W, C], 0 <= n <= MOST_AT_ONCE, to float32 [n, K] in order;
            an empty piece comes back after all before it.
        batches: As of `Engine.stream`.
        outputs: K.
    """
    waiting: deque[tuple[Tag, int]] = deque()  # and how many pieces

    def cut() -> Iterator[tuple[None, Pixels]]:
        for tag, pixels in batches:
            starts = range(0, max(len(pixels), 1), MOST_AT_ONCE)
            waiting.append((tag, len(starts)))
            for start in starts:
                yield None, pixels[start : start + MOST_AT_ONCE]

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
    """Stream with a function that computes one piece and may be called by several threads.

    Args:
        compute: uint8 [n, H, W, C], n >= 1, to float32 [n, K].
        pieces: As of `stream_in_pieces`.
        pool: Of so many threads.
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
            if len(waiting) > threads:  # one waits, so that no thread does
                yield None, waiting.popleft().result()
        yield from _drain(waiting)
    finally:
        _give_up(waiting)


def _drain(waiting: deque[Future[Any]]) -> Pieces:
    while waiting:
        yield None, waiting.popleft().result()


def _give_up(waiting: deque[Future[Any]]) -> None:
    """Wait for what is being computed: its pixels belong to the source again after this."""
    for future in waiting:
        if not future.cancel():
            future.exception()
