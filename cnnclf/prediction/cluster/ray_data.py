"""Runs chunks through Ray Data: their numbers stream to a pool of workers, their results back.

The queue is an actor on the driver's node. A read task yields the number of each chunk as it comes;
the pool grows and shrinks with the cluster, and if a worker is lost, Ray reassigns its number.
"""

import pickle
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cnnclf.errors import CnnclfError
from cnnclf.prediction.cluster.chunks import Chunk, ChunkQueue, QueueState
from cnnclf.prediction.cluster.worker import ChunkResult, ChunkWorker, WorkOrder

_IN_FLIGHT = 2  # chunks of a worker: one is computed, one waits
_QUEUE_THREADS = 16


@dataclass(frozen=True)
class Pool:
    """The size of the pool: workers at the start, and processors and GPUs of each."""

    workers: int
    cpus: int
    gpus: int = 0


class ChunkStream:
    """Streams chunks through the cluster.

    Args:
        chunks: Consumed in a background thread, as far as the queue has room.
        order: The order for the workers.
        pool: The size of the pool.
        first: Number of the first chunk.
    """

    def __init__(
        self, chunks: Iterable[Chunk], order: WorkOrder, *, pool: Pool, first: int = 0
    ) -> None:
        import ray

        self._queue = _open_queue(first)
        self._order = order
        self._pool = pool
        self._first = first
        self._chunks = chunks
        self._error: BaseException | None = None
        self._is_listed = False
        self._is_over = threading.Event()
        self._open: set[int] = set()
        self._get = ray.get
        self.look()  # raises if cnnclf is not installed on the node of the queue

    def results(self) -> Iterator[ChunkResult]:
        """Yield the result of each chunk once, in the order of completion.

        An error while listing the paths is raised after all chunks before it are done.
        """
        with self._fed():
            for result in self._run():
                if result.index in self._open:
                    yield result
                    self._open.discard(result.index)
                    self._queue.finish.remote(result.index)
        if self._error is not None:
            raise self._error
        if not self._is_listed:
            raise RuntimeError("the paths were not listed to their end")

    def look(self) -> QueueState:
        """Return the state of the workers."""
        state: QueueState = self._get(self._queue.look.remote())
        return state

    def _run(self) -> Iterator[ChunkResult]:
        import ray.data

        _set_context(ray.data.DataContext.get_current())
        numbers = ray.data.read_datasource(
            _make_source(self._queue, self._first), override_num_blocks=1, num_cpus=0
        )
        results = numbers.map_batches(
            _PoolWorker,
            batch_size=1,  # Ray takes no None beside GPUs
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                initial_size=max(1, self._pool.workers),
                max_tasks_in_flight_per_actor=_IN_FLIGHT,
            ),
            fn_constructor_args=(self._order, self._queue),
            num_cpus=self._pool.cpus,
            num_gpus=self._pool.gpus or None,
        )
        for table in results.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            for data in table.column("result").to_pylist():
                yield pickle.loads(data)  # noqa: S301 (our own workers wrote it)

    @contextmanager
    def _fed(self) -> Iterator[None]:
        """Put chunks into the queue while the block runs."""
        thread = threading.Thread(target=self._feed, name="list", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()

    def _feed(self) -> None:
        from ray.exceptions import RayError

        try:
            for chunk in self._chunks:
                self._open.add(chunk.index)
                while not self._is_over.is_set() and not self._get(self._queue.put.remote(chunk)):
                    pass
                if self._is_over.is_set():
                    return
            self._is_listed = True
        except (CnnclfError, OSError, RayError) as error:
            self._error = error
        if not self._is_over.is_set():
            self._queue.complete.remote()


class _PoolWorker:
    """A `ChunkWorker` in an actor of Ray Data."""

    def __init__(self, order: WorkOrder, queue: Any) -> None:
        import ray

        context = ray.get_runtime_context()
        self._queue = queue
        self._name, self._node = context.get_actor_id(), context.get_node_id()
        self._get = ray.get
        self._worker = ChunkWorker(order, ray.util.get_node_ip_address())

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa

        results = [self._run(index) for index in batch.column("chunk").to_pylist()]
        return pa.table({"result": pa.array([pickle.dumps(each) for each in results], pa.binary())})

    def _run(self, index: int) -> ChunkResult:
        begin = self._queue.begin.remote(index, worker=self._name, node=self._node)
        chunk, attempts = self._get(begin)
        if chunk is None:
            return ChunkResult(index)
        return replace(self._worker.run(chunk, attempts), worker=self._name)


def _open_queue(first: int) -> Any:
    """Create the queue on the driver's node, so that it lives as long as the driver."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_concurrency=_QUEUE_THREADS, scheduling_strategy=here)(
        ChunkQueue
    )
    return actor.remote(first)


def _make_source(queue: Any, first: int) -> Any:
    """Create a Ray Data source that yields the numbers of chunks as they enter the queue."""
    import pyarrow as pa
    import ray
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def read() -> Iterator[Any]:
        index = first
        while (answer := ray.get(queue.wait_for.remote(index))) != "never":
            if answer == "here":
                yield pa.table({"chunk": [index]})
                index += 1

    class Chunks(Datasource):  # type: ignore[misc]
        supports_distributed_reads = False  # on the driver's node, so that only workers can be lost

        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            nothing = BlockMetadata(
                num_rows=None, size_bytes=None, input_files=None, exec_stats=None
            )
            return [ReadTask(read, nothing)]

        def estimate_inmemory_data_size(self) -> int | None:
            return None

    return Chunks()


def _set_context(context: Any) -> None:
    """Change the defaults of Ray Data."""
    context.enable_progress_bars = False
    # By default it collects numbers until they fill a block of many megabytes.
    context.target_max_block_size = 1
    # A list on stdin may arrive slowly.
    context.execution_no_progress_timeout_s = -1
