"""Chunks: how a job is cut, how many processors a worker gets, and the queue of chunks."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from cnnclf.prediction.cluster.chunks import (
    Chunk,
    ChunkQueue,
    choose_chunk_size,
    choose_cpus,
    count_workers,
    cut_chunks,
)
from cnnclf.prediction.inputs import PAUSE, Found

A, B, C, D = (Found(f"{name}.jpg") for name in "abcd")


@given(st.lists(st.sampled_from([A, B, C, D, PAUSE])), st.integers(1, 5), st.integers(0, 9))
def test_every_path_is_in_one_chunk_in_order(found: list[Found], size: int, first: int) -> None:
    chunks = list(cut_chunks(found, size, first=first))
    assert [item for chunk in chunks for item in chunk.found] == [
        item for item in found if item is not PAUSE
    ]
    assert [chunk.index for chunk in chunks] == list(range(first, first + len(chunks)))
    assert all(1 <= len(chunk.found) <= size for chunk in chunks)


def test_nothing_is_held_back_where_the_source_pauses() -> None:
    given_so_far = []

    def source() -> object:
        yield A
        yield PAUSE
        given_so_far.append(len(chunks))
        yield B

    chunks: list[Chunk] = []
    for chunk in cut_chunks(source(), 100):  # type: ignore[arg-type]
        chunks.append(chunk)
    assert given_so_far == [1]
    assert [chunk.found for chunk in chunks] == [(A,), (B,)]


def test_the_first_chunk_is_cut_before_the_rest_is_listed() -> None:
    def source() -> object:
        yield from (A, B)
        raise AssertionError("listed too far")

    assert next(cut_chunks(source(), 2)).found == (A, B)  # type: ignore[arg-type]


def test_workers_are_few_and_use_most_processors() -> None:
    assert choose_cpus([1, 1]) == 1
    assert choose_cpus([2]) == 2
    assert choose_cpus([16]) == 8
    assert choose_cpus([12, 8]) == 4
    assert choose_cpus([64, 2]) == 2
    assert choose_cpus([]) == 8
    assert count_workers([12, 8, 3], 4) == 5


@given(st.lists(st.integers(0, 256), max_size=6))
def test_no_other_size_would_use_more_processors(nodes: list[int]) -> None:
    used = choose_cpus(nodes) * count_workers(nodes, choose_cpus(nodes))
    assert all(cpus * count_workers(nodes, cpus) <= used for cpus in range(1, 9))


def test_a_chunk_is_made_of_whole_batches() -> None:
    assert choose_chunk_size(1) == 64
    assert choose_chunk_size(8) == 512
    assert choose_chunk_size(1, 24) == 48
    assert choose_chunk_size(1, 1000) == 1000


def queue_of(*chunks: Chunk, max_paths: int = 100, patience_s: float = 0.01) -> ChunkQueue:
    queue = ChunkQueue(chunks[0].index if chunks else 0, max_paths=max_paths, patience_s=patience_s)
    assert all(queue.put(chunk) for chunk in chunks)
    return queue


def test_a_chunk_is_handed_out_until_its_rows_are_safe() -> None:
    queue = queue_of(Chunk(0, (A,)))
    assert queue.begin(0, worker="first", node="here") == (Chunk(0, (A,)), 1)
    assert queue.begin(0, worker="second", node="there") == (Chunk(0, (A,)), 2)
    assert queue.look().workers == {"second": "there"}
    assert queue.look().redone == 1
    queue.finish(0)
    assert queue.begin(0, worker="third", node="there") == (None, 0)
    assert queue.look().workers == {}
    queue.finish(0)  # told twice


def test_the_numbers_of_chunks_come_as_the_chunks_do() -> None:
    queue = queue_of(Chunk(7, (A,)))
    assert queue.wait_for(7) == "here"
    queue.finish(7)
    assert queue.wait_for(7) == "here"  # asked again by one who has lost the answer
    assert queue.wait_for(8) == "later"
    queue.put(Chunk(8, (B,)))
    assert queue.wait_for(8) == "here"
    queue.complete()
    assert queue.wait_for(8) == "here"
    assert queue.wait_for(9) == "never"


def test_who_waits_is_notified_when_the_chunk_comes() -> None:
    queue = queue_of(patience_s=30)
    threading.Timer(0.05, queue.put, [Chunk(0, (B,))]).start()
    assert queue.wait_for(0) == "here"
    threading.Timer(0.05, queue.complete).start()
    assert queue.wait_for(1) == "never"


def test_the_desk_holds_only_so_many_paths() -> None:
    queue = queue_of(Chunk(0, (A, B)), Chunk(1, (C,)), max_paths=3)
    assert not queue.put(Chunk(2, (D,)))
    queue.finish(1)
    assert queue.put(Chunk(2, (D,)))
    assert queue.wait_for(2) == "here"


def test_a_chunk_larger_than_the_desk_is_taken_alone() -> None:
    queue = queue_of(max_paths=1)
    assert queue.put(Chunk(0, (A, B)))
    assert not queue.put(Chunk(1, (C,)))
