"""Says how many workers there are, and when one is lost, while the results come."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cnnclf.prediction.cluster.chunks import DeskState
from cnnclf.prediction.cluster.connecting import Node
from cnnclf.progress import Progress, Task

_LOOK_S = 1.0
_PATIENCE_S = 60.0


@dataclass
class Watch:
    """Compares the cluster with what it was at the last look.

    Args:
        nodes: Lists the nodes that are alive.
        state: Tells what is known of the workers.
        task: Shows how many there are.
        progress: Is told what was lost.
        now: The time in seconds.
    """

    nodes: Callable[[], Sequence[Node]]
    state: Callable[[], DeskState]
    task: Task
    progress: Progress
    now: Callable[[], float] = time.monotonic
    _known: dict[str, str] | None = field(default=None, repr=False)
    _redone: int = field(default=0, repr=False)
    _idle_since: float | None = field(default=None, repr=False)

    def look(self) -> None:
        """Say what has changed."""
        nodes = {node.name: node.address for node in self.nodes()}
        lost = [address for name, address in (self._known or {}).items() if name not in nodes]
        for address in lost:
            self.progress.warn(f"lost the node {address}; what it had begun is done again")
        for name, address in nodes.items():
            if self._known is not None and name not in self._known:
                self.progress.note(f"the node {address} joined")
        self._known = nodes
        state = self.state()
        if state.redone > self._redone and not lost:
            many = state.redone - self._redone
            chunks = (
                "1 chunk of a lost worker is"
                if many == 1
                else f"{many} chunks of a lost worker are"
            )
            self.progress.note(f"{chunks} begun again")
        self._redone = state.redone
        self._count(sum(node in nodes for node in state.workers.values()))

    def _count(self, workers: int) -> None:
        if workers:
            self.task.describe("1 worker" if workers == 1 else f"{workers} workers")
            self._idle_since = None
        elif self._idle_since is None:
            self.task.describe("waiting for workers")
            self._idle_since = self.now()
        elif self.now() - self._idle_since > _PATIENCE_S:
            self._idle_since = float("inf")
            self.progress.warn(
                "no worker has begun: the processors of the cluster are taken, or too few for one "
                "(fewer with --threads); ray status shows them"
            )


@contextlib.contextmanager
def watching(watch: Watch, errors: type[Exception], *, every_s: float = _LOOK_S) -> Iterator[None]:
    """Look now and then, in a thread, while the block runs.

    Args:
        watch: Looks.
        errors: What looking raises when the cluster is gone; the results say so, too, and better.
        every_s: How often.
    """
    is_over = threading.Event()

    def look() -> None:
        with contextlib.suppress(errors):
            while not is_over.wait(every_s):
                watch.look()

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
