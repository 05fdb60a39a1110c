"""Reports how many workers there are, and when one is lost, while the job runs."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cnnclf.names import count_of
from cnnclf.prediction.cluster.chunks import QueueState
from cnnclf.prediction.cluster.connecting import Node
from cnnclf.prediction.predict import in_background
from cnnclf.progress import Progress, Task

_LOOK_S = 1.0
_PATIENCE_S = 60.0


@dataclass
class Watch:
    """Compares the state of the cluster with its previous state.

    Args:
        nodes: Lists the nodes that are alive.
        state: Returns the state of the workers.
        task: Shows the number of workers.
        progress: Receives notes about lost and new nodes.
        now: Returns the time in seconds.
    """

    nodes: Callable[[], Sequence[Node]]
    state: Callable[[], QueueState]
    task: Task
    progress: Progress
    now: Callable[[], float] = time.monotonic
    _known: dict[str, str] | None = field(default=None, repr=False)
    _redone: int = field(default=0, repr=False)
    _idle_since: float | None = field(default=None, repr=False)

    def look(self) -> None:
        """Report what has changed."""
        nodes = {node.name: node.address for node in self.nodes()}
        lost = [address for name, address in (self._known or {}).items() if name not in nodes]
        for address in lost:
            self.progress.warn(f"lost the node {address}; its unfinished chunks are computed again")
        for name, address in nodes.items():
            if self._known is not None and name not in self._known:
                self.progress.note(f"the node {address} joined")
        self._known = nodes
        state = self.state()
        if state.redone > self._redone and not lost:
            many = state.redone - self._redone
            verb = "is" if many == 1 else "are"
            self.progress.note(f"{count_of(many, 'chunk')} of a lost worker {verb} computed again")
        self._redone = state.redone
        self._count(sum(node in nodes for node in state.workers.values()))

    def _count(self, workers: int) -> None:
        if workers:
            self.task.describe(count_of(workers, "worker"))
            self._idle_since = None
        elif self._idle_since is None:
            self.task.describe("waiting for workers")
            self._idle_since = self.now()
        elif self.now() - self._idle_since > _PATIENCE_S:
            self._idle_since = float("inf")
            self.progress.warn(
                "no worker has started: the processors of the cluster are busy, or too few for a "
                "worker (reduce --threads); ray status shows them"
            )


@contextlib.contextmanager
def watching(watch: Watch, errors: type[Exception], *, every_s: float = _LOOK_S) -> Iterator[None]:
    """Look at regular intervals, in a thread, while the block runs.

    Args:
        watch: Compares the states.
        errors: Raised by looking when the cluster is gone; the results then raise a better error.
        every_s: The interval.
    """

    def look(is_over: threading.Event) -> None:
        with contextlib.suppress(errors):
            while not is_over.wait(every_s):
                watch.look()

    with in_background(look, name="watch"):
        yield
