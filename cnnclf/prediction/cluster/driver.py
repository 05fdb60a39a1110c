"""Predicts on a cluster and writes rows or parts, also when single workers are lost."""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cnnclf.config import PredictConfig
from cnnclf.errors import DeviceError, UsageError
from cnnclf.inference.bundles import Bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.choosing import choose_engines
from cnnclf.inference.engines.engine_table import find_engine
from cnnclf.names import count_of
from cnnclf.prediction.cluster.chunks import (
    choose_chunk_size,
    choose_cpus,
    count_workers,
    cut_chunks,
)
from cnnclf.prediction.cluster.connecting import Cluster, Node
from cnnclf.prediction.cluster.parts import Parts
from cnnclf.prediction.cluster.ray_data import ChunkStream, Pool
from cnnclf.prediction.cluster.worker import ChunkResult, WorkOrder
from cnnclf.prediction.cluster.worker_counts import Watch, watching
from cnnclf.prediction.inputs import PAUSE, Found, ImageInputs, skip_done
from cnnclf.prediction.label_pipeline import PredictOptions
from cnnclf.prediction.predict import counting
from cnnclf.prediction.rows import RowWriter
from cnnclf.prediction.summary import PredictSummary, SoFar
from cnnclf.progress import Progress, Silent, Task


def predict_on_cluster(
    cluster: Cluster,
    bundle: Bundle,
    *,
    found: Iterable[Found],
    target: RowWriter | Parts,
    options: PredictOptions,
    config: PredictConfig,
    progress: Progress,
    inputs: ImageInputs | None = None,
    so_far: SoFar | None = None,
    verbose: bool = False,
) -> PredictSummary:
    """Predict every path on a worker and write exactly one row for it.

    Rows of a chunk are written together in the order of its paths, chunks in the order of
    completion.

    Args:
        cluster: The cluster.
        bundle: The model, at a path that exists on all nodes.
        found: The paths, such as `inputs.first()`.
        target: Writes the rows on this machine, or names the parts that workers write.
        options: How answers are made.
        config: Engine, precision, device, threads and batch size.
        progress: Shows the count, the rate and the number of workers.
        inputs: Counted in the background, so that progress can show the total.
        so_far: The rows of the interrupted job; their paths are skipped.
        verbose: Whether libraries are not silenced.

    Raises:
        CnnclfError: A worker failed; the message names its node.
    """
    from ray.exceptions import RayError

    so_far = so_far or SoFar()
    summary = so_far.summary
    summary.unsure_below = options.unsure_below
    nodes = cluster.nodes()
    device = choose_device(nodes, config, form=bundle.model.format)
    pool = choose_pool(nodes, device, threads=config.threads)
    sample, found = _take_sample(found)
    order = WorkOrder(
        bundle=bundle.directory.absolute(),
        checksum=bundle.content["sha256"],
        config=config | {"device": device, "threads": pool.cpus},
        options=options,
        folder=str(Path.cwd()),
        sample=sample,
        parts=target.writer if isinstance(target, Parts) else None,
        verbose=verbose,
    )
    _prepare_engine(order, bundle, progress)
    progress.note(_describe(cluster, pool))
    size = choose_chunk_size(pool.cpus, config.batch_size)
    first = target.first if isinstance(target, Parts) else 0
    chunks = cut_chunks(skip_done(found, so_far.done), size, first=first)
    stream = ChunkStream(chunks, order, pool=pool, first=first)
    began, reported = time.monotonic(), set[str]()
    try:
        with (
            progress.task("predict", None, unit="images") as task,
            counting(inputs, task, earlier=summary.earlier),
            watching(Watch(cluster.nodes, stream.look, task, progress), RayError),
        ):
            for result in stream.results():
                _take(result, target, summary)
                _report(result, reported, progress)
                task.advance(result.files)
    finally:
        summary.seconds = time.monotonic() - began
    return summary


def choose_device(nodes: Sequence[Node], config: PredictConfig, *, form: str = "keras") -> str:
    """Choose the device of all workers.

    Args:
        nodes: The nodes of the cluster.
        config: `auto` selects GPUs if there are any and the engine can use them.
        form: Format of the model.

    Raises:
        UsageError: The device is one particular GPU.
        DeviceError: The device is gpu, but the cluster has none.
    """
    gpus = sum(node.gpus for node in nodes)
    if config.device.startswith("gpu:"):
        raise UsageError(
            f"expected --device auto, cpu or gpu with --ray, received {config.device}",
            "with --device gpu each worker gets one GPU",
        )
    if config.device == "gpu" and not gpus:
        raise DeviceError("the cluster has no GPU", "use --device cpu")
    can_use_gpu = config.engine in {"auto", "keras"} and form in find_engine("keras").opens
    is_gpu = config.device == "gpu" or (config.device == "auto" and can_use_gpu)
    return "gpu" if is_gpu and gpus else "cpu"


def choose_pool(nodes: Sequence[Node], device: str, *, threads: int | None = None) -> Pool:
    """Choose the workers: one per GPU, or as many as use most of the processors.

    Args:
        nodes: The nodes of the cluster.
        device: cpu or gpu.
        threads: Processors of a worker; None to choose by the nodes.
    """
    if device == "gpu":
        with_gpu = [node for node in nodes if node.gpus]
        cpus = threads or choose_cpus([node.cpus // node.gpus for node in with_gpu])
        return Pool(sum(node.gpus for node in with_gpu), cpus, gpus=1)
    counts = [node.cpus for node in nodes]
    cpus = threads or choose_cpus(counts)
    return Pool(count_workers(counts, cpus), cpus)


def _describe(cluster: Cluster, pool: Pool) -> str:
    workers = count_of(pool.workers, "worker") if pool.workers else "no workers"
    each = count_of(pool.cpus, "processor")
    gpu = " and a GPU" if pool.gpus else ""
    return f"{workers} with {each}{gpu} on {cluster.title}"


def _take_sample(found: Iterable[Found]) -> tuple[str, Iterable[Found]]:
    """Return the first path if it exists, else "", and an iterator over all paths."""
    rest = iter(found)
    head = list(itertools.islice(rest, 1))
    exists = bool(head) and head[0] is not PAUSE and not head[0].error
    return head[0].path if exists else "", itertools.chain(head, rest)


def _prepare_engine(order: WorkOrder, bundle: Bundle, progress: Progress) -> None:
    """Check the engine early, and convert the model once instead of once per worker."""
    choice = choose_engines(
        bundle.model.format,
        own_precision=bundle.model.precision,
        engine=order.config.engine,
        precision=order.config.precision,
        device=order.config.device,
    )[0]
    if bundle.model.format not in choice.row.opens:
        Classifier.load(
            bundle.directory,
            engine=order.config.engine,
            precision=order.config.precision,
            device="cpu",
            features=order.options.rules.features,
            verbose=order.verbose,
            progress=_Steps(progress),
        )


class _Steps(Silent):
    """Shows tasks and warnings; the workers report notes themselves."""

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
    """Write the rows of a chunk, or count the rows of its part."""
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


def _report(result: ChunkResult, reported: set[str], progress: Progress) -> None:
    """Show the notes and warnings of workers, each text once."""
    for show, texts in ((progress.note, result.notes), (progress.warn, result.warnings)):
        for text in texts:
            if text not in reported:
                reported.add(text)
                show(text)
