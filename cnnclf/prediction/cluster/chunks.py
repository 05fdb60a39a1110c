"""Cuts a job into chunks, and keeps each of them until its rows are safe.

A chunk is what one worker gets at once. All of them stand in one desk beside the driver, which
hands them out, as often as workers are lost, and takes no more paths than it may hold.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cnnclf.prediction.inputs import PAUSE, Found

_MOST_CPUS = 8  # of a worker; beyond it two workers are faster than one
_IMAGES_PER_CPU = 64  # a fraction of a second
_MOST_WAITING = 100_000  # paths on the desk
_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A few paths.

    Args:
        index: Its number, by which its rows are known.
        found: The paths, in order.
    """

    index: int
    found: tuple[Found, ...]


def cut_chunks(found: Iterable[Found], size: int, *, first: int = 0) -> Iterator[Chunk]:
    """Cut paths into chunks as they come; where the source pauses, nothing is held back.

    Args:
        found: The paths.
        size: Paths of a whole chunk, at least 1.
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
    """Choose how many processors a worker gets: as few workers as use most of the processors.

    Args:
        nodes: Processors of each node.

    Returns:
        1..8.
    """
    return max(range(1, _MOST_CPUS + 1), key=lambda cpus: (count_workers(nodes, cpus) * cpus, cpus))


def count_workers(nodes: Sequence[int], cpus: int) -> int:
    """Count the workers of so many processors each that fit on the nodes."""
    return sum(node // cpus for node in nodes)


def choose_chunk_size(cpus: int, batch_size: int | None = None) -> int:
    """Choose how many paths a chunk has: a fraction of a second of work, in whole batches.

    Args:
        cpus: Processors of a worker.
        batch_size: Images of a batch; None for a power of two.
    """
    size = _IMAGES_PER_CPU * cpus
    return size if batch_size is None else batch_size * max(1, size // batch_size)


@dataclass(frozen=True)
class DeskState:
    """What is known at the desk of those who work.

    Args:
        workers: Name of each worker that has a chunk to do, to the node it is on.
        redone: Chunks that were begun once more.
    """

    workers: dict[str, str] = field(default_factory=dict)
    redone: int = 0


class Desk:
    """Where chunks lie until they are done; all methods may be called by several threads.

    None of them waits for long, so that nobody who is gone keeps a thread busy.

    Args:
        first: Number of the first chunk.
        most: Paths that it holds.
        patience_s: How long at most somebody waits here.
    """

    def __init__(
        self, first: int = 0, *, most: int = _MOST_WAITING, patience_s: float = _PATIENCE_S
    ) -> None:
        self._chunks: dict[int, Chunk] = {}
        self._begun: dict[int, int] = {}  # how often
        self._holders: dict[int, tuple[str, str]] = {}
        self._next = first
        self._is_complete = False
        self._waiting = 0
        self._most = most
        self._patience_s = patience_s
        self._redone = 0
        self._changed = threading.Condition()

    def put(self, chunk: Chunk) -> bool:
        """Take the next chunk; return False if there is no room for it yet."""
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: not self._chunks or self._waiting + len(chunk.found) <= self._most,
                self._patience_s,
            )
            if has_room:
                self._chunks[chunk.index] = chunk
                self._waiting += len(chunk.found)
                self._next = chunk.index + 1
                self._changed.notify_all()
            return has_room

    def complete(self) -> None:
        """Take note that no chunk will follow."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def wait_for(self, index: int) -> Literal["here", "later", "never"]:
        """Tell whether a chunk has come."""
        with self._changed:
            self._changed.wait_for(
                lambda: index < self._next or self._is_complete, self._patience_s
            )
            if index < self._next:
                return "here"
            return "never" if self._is_complete else "later"

    def begin(self, index: int, worker: str, node: str) -> tuple[Chunk | None, int]:
        """Hand a chunk to a worker.

        Args:
            index: The chunk.
            worker: Who asks.
            node: Where it runs.

        Returns:
            The chunk, None if it is done; and how often it was begun, this time included.
        """
        with self._changed:
            chunk = self._chunks.get(index)
            if chunk is None:
                return None, 0
            times = self._begun[index] = self._begun.get(index, 0) + 1
            self._holders[index] = (worker, node)
            self._redone += times > 1
            return chunk, times

    def finish(self, index: int) -> None:
        """Forget a chunk whose rows are safe."""
        with self._changed:
            chunk = self._chunks.pop(index, None)
            self._begun.pop(index, None)
            self._holders.pop(index, None)
            if chunk is not None:
                self._waiting -= len(chunk.found)
                self._changed.notify_all()

    def look(self) -> DeskState:
        """Tell what is known of those who work."""
        with self._changed:
            return DeskState(dict(self._holders.values()), self._redone)
