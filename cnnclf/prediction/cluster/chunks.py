"""Cuts a job into chunks, and keeps each of them until its rows are safe.

A chunk is the unit of work of a worker. One queue next to the driver holds the chunks, hands them
out (again if a worker is lost) and limits how many paths are waiting.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cnnclf.prediction.inputs import PAUSE, Found

_MAX_CPUS = 8  # of a worker; above it two workers are faster than one
_IMAGES_PER_CPU = 64  # a fraction of a second
_MAX_WAITING = 100_000  # paths in the queue
_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """The paths that a worker gets at a time.

    Args:
        index: Its number, which identifies its rows.
        found: The paths, in order.
    """

    index: int
    found: tuple[Found, ...]


def cut_chunks(found: Iterable[Found], size: int, *, first: int = 0) -> Iterator[Chunk]:
    """Cut paths into chunks as they come; when the source pauses, a smaller chunk is yielded.

    Args:
        found: The paths.
        size: Paths in a full chunk, at least 1.
        first: Number of the first chunk.
    """
    index, some = first, list[Found]()
    for item in found:
        if item is not PAUSE:
            some.append(item)
        if len(some) == size or (item is PAUSE and some):
            yield Chunk(index, tuple(some))
            index, some = index + 1, []
    if some:
        yield Chunk(index, tuple(some))


def choose_cpus(nodes: Sequence[int]) -> int:
    """Choose the number of processors of a worker: few workers that together use most processors.

    Returns:
        1..8.
    """
    return max(range(1, _MAX_CPUS + 1), key=lambda cpus: (count_workers(nodes, cpus) * cpus, cpus))


def count_workers(nodes: Sequence[int], cpus: int) -> int:
    """Count how many workers with `cpus` processors each fit on the nodes."""
    return sum(node // cpus for node in nodes)


def choose_chunk_size(cpus: int, batch_size: int | None = None) -> int:
    """Choose the number of paths in a chunk: a fraction of a second of work, in full batches.

    Args:
        cpus: Processors of a worker.
        batch_size: Images per batch; None for a power of two.
    """
    size = _IMAGES_PER_CPU * cpus
    return size if batch_size is None else batch_size * max(1, size // batch_size)


@dataclass(frozen=True)
class QueueState:
    """The state of the workers, as seen by the queue.

    Args:
        workers: Name of each worker that has a chunk, to the node it runs on.
        redone: Chunks that were started more than once.
    """

    workers: dict[str, str] = field(default_factory=dict)
    redone: int = 0


class ChunkQueue:
    """Holds chunks until they are done; thread-safe.

    No method waits for long, so that a caller that is gone does not block a thread.

    Args:
        first: Number of the first chunk.
        max_paths: How many paths it holds.
        patience_s: How long a method waits at most.
    """

    def __init__(
        self, first: int = 0, *, max_paths: int = _MAX_WAITING, patience_s: float = _PATIENCE_S
    ) -> None:
        self._chunks: dict[int, Chunk] = {}
        self._attempts: dict[int, int] = {}
        self._holders: dict[int, tuple[str, str]] = {}
        self._next = first
        self._is_complete = False
        self._waiting = 0
        self._max_paths = max_paths
        self._patience_s = patience_s
        self._redone = 0
        self._changed = threading.Condition()

    def put(self, chunk: Chunk) -> bool:
        """Add the next chunk; return False if the queue is still full."""
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: not self._chunks or self._waiting + len(chunk.found) <= self._max_paths,
                self._patience_s,
            )
            if has_room:
                self._chunks[chunk.index] = chunk
                self._waiting += len(chunk.found)
                self._next = chunk.index + 1
                self._changed.notify_all()
            return has_room

    def complete(self) -> None:
        """Declare that no chunk will follow."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def wait_for(self, index: int) -> Literal["here", "later", "never"]:
        """Wait for a chunk; return whether it is here, may come later, or will never come."""
        with self._changed:
            self._changed.wait_for(
                lambda: index < self._next or self._is_complete, self._patience_s
            )
            if index < self._next:
                return "here"
            return "never" if self._is_complete else "later"

    def begin(self, index: int, *, worker: str, node: str) -> tuple[Chunk | None, int]:
        """Hand a chunk to a worker.

        Returns:
            The chunk, or None if it is done; and the number of attempts including this one.
        """
        with self._changed:
            chunk = self._chunks.get(index)
            if chunk is None:
                return None, 0
            attempts = self._attempts[index] = self._attempts.get(index, 0) + 1
            self._holders[index] = (worker, node)
            self._redone += attempts > 1
            return chunk, attempts

    def finish(self, index: int) -> None:
        """Remove a chunk whose rows are safe."""
        with self._changed:
            chunk = self._chunks.pop(index, None)
            self._attempts.pop(index, None)
            self._holders.pop(index, None)
            if chunk is not None:
                self._waiting -= len(chunk.found)
                self._changed.notify_all()

    def look(self) -> QueueState:
        """Return the state of the workers."""
        with self._changed:
            return QueueState(dict(self._holders.values()), self._redone)
