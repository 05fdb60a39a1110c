"""Predicts on a cluster: from paths to rows or parts, whatever becomes of single workers."""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cnnclf.errors import DeviceError, UsageError
from cnnclf.inference.bundles import Bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.choosing import choose_engines
from cnnclf.inference.engines.engine_table import find_engine
from cnnclf.prediction.cluster.chunks import (
    choose_chunk_size,
    choose_cpus,
    count_workers,
    cut_chunks,
)
from cnnclf.prediction.cluster.connecting import Cluster, Node
from cnnclf.prediction.cluster.parts import Parts
from cnnclf.prediction.cluster.ray_data import ChunkStream, Pool
from cnnclf.prediction.cluster.worker import ChunkResult, Computing, WorkOrder
from cnnclf.prediction.cluster.worker_counts import Watch, watching
from cnnclf.prediction.inputs import PAUSE, Found, ImageInputs
from cnnclf.prediction.path_set import leave_out
from cnnclf.prediction.predict import counting
from cnnclf.prediction.rows import Columns, RowWriter
from cnnclf.prediction.summary import PredictSummary, SoFar
from cnnclf.progress import Progress, Silent, Task


def predict_on_cluster(
    cluster: Cluster,
    bundle: Bundle,
    found: Iterable[Found],
    *,
    target: RowWriter | Parts,
    columns: Columns,
    threshold: float | None,
    computing: Computing,
    progress: Progress,
    inputs: ImageInputs | None = None,
    so_far: SoFar | None = None,
) -> PredictSummary:
    """Predict every path on some worker and write a row for it, once.

    Rows of a chunk are written together, in the order of its paths; chunks in the order in which
    they are done.

    Args:
        cluster: Where.
        bundle: The model, at a path that all nodes have.
        found: The paths, such as `inputs.first()`.
        target: Takes the rows here, or the parts that workers write.
        columns: Of the rows.
        threshold: As of `PredictOptions`.
        computing: What with.
        progress: Shows the count, the rate and how many workers there are.
        inputs: Counted in the background, so that progress knows how many there are.
        so_far: What was done before; those paths are left out.

    Raises:
        CnnclfError: Whatever a worker cannot do, with the name of its node.
    """
    from ray.exceptions import RayError

    so_far = so_far or SoFar()
    summary = so_far.summary
    nodes = cluster.nodes()
    device = choose_device(nodes, computing, bundle.model.format)
    pool = choose_pool(nodes, device, computing.threads)
    sample, found = _take_sample(found)
    order = WorkOrder(
        bundle=bundle.directory.absolute(),
        checksum=bundle.content["sha256"],
        computing=replace(computing, device=device, threads=pool.cpus),
        top_k=columns.top_k,
        threshold=threshold,
        folder=str(Path.cwd()),
        sample=sample,
        parts=target.writer if isinstance(target, Parts) else None,
    )
    _prepare_engine(bundle, replace(computing, device=device), progress)
    progress.note(_describe(cluster, pool))
    size = choose_chunk_size(pool.cpus, computing.batch_size)
    first = target.first if isinstance(target, Parts) else 0
    chunks = cut_chunks(leave_out(found, so_far.done), size, first=first)
    stream = ChunkStream(chunks, order, pool, first=first)
    began, heard = time.monotonic(), set[str]()
    try:
        with (
            progress.task("predict", None, unit="images") as task,
            counting(inputs, task, summary.earlier),
            watching(Watch(cluster.nodes, stream.look, task, progress), RayError),
        ):
            for result in stream.results():
                _take(result, target, summary)
                _tell(result, heard, progress)
                task.advance(result.files)
    finally:
        summary.seconds = time.monotonic() - began
    return summary


def choose_device(nodes: Sequence[Node], computing: Computing, form: str = "keras") -> str:
    """Choose what all workers compute on.

    Args:
        nodes: Of the cluster.
        computing: With `auto` GPUs are taken if there are any and the engine can use them.
        form: Format of the model.

    Returns:
        cpu or gpu.

    Raises:
        UsageError: A certain GPU is asked for.
        DeviceError: There is no GPU.
    """
    gpus = sum(node.gpus for node in nodes)
    if computing.device.startswith("gpu:"):
        raise UsageError(
            f"expected --device auto, cpu or gpu with --ray, received {computing.device}",
            "with --device gpu each worker gets one GPU",
        )
    if computing.device == "gpu" and not gpus:
        raise DeviceError("expected a GPU in the cluster, it has none", "use --device cpu")
    is_able = computing.engine in {"auto", "keras"} and form in find_engine("keras").opens
    wants_gpu = computing.device == "gpu" or (computing.device == "auto" and is_able)
    return "gpu" if wants_gpu and gpus else "cpu"


def choose_pool(nodes: Sequence[Node], device: str, threads: int | None = None) -> Pool:
    """Choose the workers: one for each GPU, or those that use most of the processors.

    Args:
        nodes: Of the cluster.
        device: cpu or gpu.
        threads: Processors of a worker; None for what suits the nodes.
    """
    if device == "gpu":
        with_gpu = [node for node in nodes if node.gpus]
        cpus = threads or choose_cpus([node.cpus // node.gpus for node in with_gpu])
        return Pool(sum(node.gpus for node in with_gpu), cpus, gpus=1)
    counts = [node.cpus for node in nodes]
    cpus = threads or choose_cpus(counts)
    return Pool(count_workers(counts, cpus), cpus)


def _describe(cluster: Cluster, pool: Pool) -> str:
    workers = "1 worker" if pool.workers == 1 else f"{pool.workers or 'no'} workers"
    each = "1 processor" if pool.cpus == 1 else f"{pool.cpus} processors"
    gpu = " and a GPU" if pool.gpus else ""
    return f"{workers} with {each}{gpu} on {cluster.title}"


def _take_sample(found: Iterable[Found]) -> tuple[str, Iterable[Found]]:
    """Look at the first path; give it if it is there, and all paths."""
    rest = iter(found)
    head = list(itertools.islice(rest, 1))
    is_there = bool(head) and head[0] is not PAUSE and not head[0].error
    return head[0].path if is_there else "", itertools.chain(head, rest)


def _prepare_engine(bundle: Bundle, computing: Computing, progress: Progress) -> None:
    """Refuse what no worker can do, and convert once what each would convert at the same time."""
    choice = choose_engines(
        bundle.model.format,
        own_precision=bundle.model.precision,
        engine=computing.engine,
        precision=computing.precision,
        device=computing.device,
    )[0]
    if bundle.model.format not in choice.row.opens:
        Classifier.load(
            bundle.directory,
            engine=computing.engine,
            precision=computing.precision,
            device="cpu",
            verbose=computing.verbose,
            progress=_Steps(progress),
        )


class _Steps(Silent):
    """Shows what takes long and warnings; all else the workers say themselves."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> Iterator[Task]:
        """Show a task."""
        with self._progress.task(name, total, unit=unit, since=since) as task:
            yield task

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._progress.warn(text)


def _take(result: ChunkResult, target: RowWriter | Parts, summary: PredictSummary) -> None:
    """Write the rows of a chunk, or count those of its part."""
    if result.problem is not None:
        raise result.problem
    if isinstance(target, Parts):
        target.add(result.index)
        if result.summary is not None:
            summary.include(result.summary)
        return
    for prediction in result.predictions:
        target.write(prediction)
        summary.add(prediction)
    target.flush()


def _tell(result: ChunkResult, heard: set[str], progress: Progress) -> None:
    """Pass on what workers say; many say the same."""
    for say, texts in ((progress.note, result.notes), (progress.warn, result.warnings)):
        for text in texts:
            if text not in heard:
                heard.add(text)
                say(text)
