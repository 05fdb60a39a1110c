"""Batches cut into pieces come back whole, in order, whatever their sizes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.inference.engines.batch_streams import (
    MAX_PIECE,
    Pieces,
    stream_in_pieces,
    stream_in_threads,
)
from cnnclf.inference.engines.engine import Logits, Pixels


def first_pixels(pixels: Pixels) -> Logits:
    assert 1 <= len(pixels) <= MAX_PIECE
    return pixels[:, 0, 0, :2].astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 4))
def test_batches_of_any_size_come_back_whole(counts: list[int], threads: int) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (count, 2, 2, 3), np.uint8) for count in counts]
    with ThreadPoolExecutor(threads) as pool:
        results = list(
            stream_in_pieces(
                lambda pieces: stream_in_threads(first_pixels, pieces, pool=pool, threads=threads),
                enumerate(batches),
                outputs=2,
            )
        )
    assert [tag for tag, _ in results] == list(range(len(counts)))
    for (_, logits), batch in zip(results, batches, strict=True):
        np.testing.assert_array_equal(logits, batch[:, 0, 0, :2])
        assert logits.shape == (len(batch), 2)


def test_an_error_of_a_thread_is_raised_where_the_stream_is_read() -> None:
    def fail(pixels: Pixels) -> Logits:
        raise MemoryError("no room")

    batches = [(0, np.zeros((20, 1, 1, 3), np.uint8))]
    with ThreadPoolExecutor(2) as pool:

        def compute(pieces: Iterator[tuple[None, Pixels]]) -> Pieces:
            return stream_in_threads(fail, pieces, pool=pool, threads=2)

        with pytest.raises(MemoryError, match="no room"):
            list(stream_in_pieces(compute, batches, outputs=2))
