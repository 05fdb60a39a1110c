"""What a worker does: opens the classifier once, then makes rows of chunks, or a part of them.

Nothing here knows of Ray; whatever runs it tells it where it is.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnnclf import __version__
from cnnclf.config import PredictConfig
from cnnclf.errors import CnnclfError, DataError, DeviceError, MissingPackageError, RunError
from cnnclf.inference.classifier import Classifier
from cnnclf.prediction.cluster.chunks import Chunk
from cnnclf.prediction.cluster.parts import PartWriter
from cnnclf.prediction.inputs import Found
from cnnclf.prediction.label_pipeline import PredictOptions, iter_batches
from cnnclf.prediction.rows import Prediction
from cnnclf.prediction.summary import PredictSummary
from cnnclf.progress import Silent

# A chunk that ended so many workers would end all others, too.
_MOST_TIMES = 5
_SHARED = "give all nodes the same disk, mounted at the same place"


_DEFAULTS = PredictConfig()


@dataclass(frozen=True)
class Computing:
    """What workers compute with.

    Args:
        engine: As of `Classifier.load`.
        precision: As of `Classifier.load`.
        device: auto, cpu or gpu.
        threads: Processors of a worker; None for what suits the nodes.
        batch_size: Images computed at once; None for what suits the engine.
        verbose: Let libraries print what they like.
    """

    engine: str = _DEFAULTS.engine
    precision: str = _DEFAULTS.precision
    device: str = _DEFAULTS.device
    threads: int | None = None
    batch_size: int | None = None
    verbose: bool = False


@dataclass(frozen=True)
class WorkOrder:
    """What every worker is told.

    Args:
        bundle: An absolute path, the same on all nodes.
        checksum: Of the bundle's model.
        computing: What with; device and threads are settled.
        top_k: How many classes to name.
        threshold: As of `PredictOptions`.
        folder: What relative paths are relative to.
        sample: An image that is there, by which a worker sees whether it has the same disk.
        parts: Takes the rows; None if they are to be given back.
        version: Of cnnclf.
    """

    bundle: Path
    checksum: str
    computing: Computing
    top_k: int = _DEFAULTS.top_k
    threshold: float | None = None
    folder: str = ""
    sample: str = ""
    parts: PartWriter | None = None
    version: str = __version__

    def locate(self, path: str) -> str:
        """Say where a path of the driver is."""
        return os.path.join(self.folder, path)  # noqa: PTH118 (as it is spelled)


@dataclass(frozen=True)
class ChunkResult:
    """What became of a chunk.

    Args:
        index: Its number.
        files: How many paths it had.
        predictions: In the order of the paths; empty if the worker wrote them as a part.
        summary: What came out in all, if it did.
        notes: What the worker has to say, each once.
        warnings: The same, that a user may have to act on.
        problem: Why there is no result; it would be the same on the next try.
        worker: Who made it.
    """

    index: int
    files: int = 0
    predictions: tuple[Prediction, ...] = ()
    summary: PredictSummary | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: CnnclfError | None = None
    worker: str = ""


class ChunkWorker:
    """Makes rows of chunks with an engine of its own.

    What a user has to mend is never raised but given back with every chunk, since whatever runs the
    worker would try it again and again.

    Args:
        order: What to do.
        node: Where this is, for messages.
    """

    def __init__(self, order: WorkOrder, node: str) -> None:
        self._order = order
        self._node = node
        self._progress = Silent()
        self._classifier: Classifier | None = None
        self._problem: CnnclfError | None = None
        try:
            self._classifier = _open_classifier(order, self._progress)
        except CnnclfError as error:
            self._problem = _on_node(node, error)

    def run(self, chunk: Chunk, times: int = 1) -> ChunkResult:
        """Make the rows of a chunk.

        Args:
            chunk: The paths.
            times: How often the chunk was begun, this time included.
        """
        if self._classifier is None:
            return ChunkResult(chunk.index, problem=self._problem)
        if times > _MOST_TIMES:
            return ChunkResult(chunk.index, problem=_deadly(chunk, times - 1))
        try:
            predictions = self._predict(self._classifier, chunk)
            return self._hand_over(chunk, predictions)
        except CnnclfError as error:
            return ChunkResult(chunk.index, problem=_on_node(self._node, error))
        except MemoryError:
            full = DeviceError("memory does not suffice", "a smaller --batch-size needs less")
            return ChunkResult(chunk.index, problem=_on_node(self._node, full))

    def _predict(self, classifier: Classifier, chunk: Chunk) -> list[Prediction]:
        order = self._order
        options = PredictOptions(
            order.top_k,
            order.threshold,
            order.computing.batch_size or PredictOptions.batch_size,
            order.computing.threads,
        )
        here = (Found(order.locate(path), error) for path, error in chunk.found)
        batches = iter_batches(classifier, here, options)
        predictions = (prediction for batch in batches for prediction in batch)
        return [
            replace(prediction, path=path)
            for prediction, (path, _) in zip(predictions, chunk.found, strict=True)
        ]

    def _hand_over(self, chunk: Chunk, predictions: Sequence[Prediction]) -> ChunkResult:
        notes, warnings = tuple(self._progress.notes), tuple(self._progress.warnings)
        self._progress.notes.clear()
        self._progress.warnings.clear()
        if self._order.parts is None:
            return ChunkResult(
                chunk.index, len(predictions), tuple(predictions), notes=notes, warnings=warnings
            )
        self._order.parts.write(chunk.index, predictions)
        summary = PredictSummary()
        for prediction in predictions:
            summary.add(prediction)
        return ChunkResult(
            chunk.index, len(predictions), summary=summary, notes=notes, warnings=warnings
        )


def _open_classifier(order: WorkOrder, progress: Silent) -> Classifier:
    """Check that everything is where it is on the driver, and open the classifier."""
    if order.version != __version__:
        raise MissingPackageError(
            f"expected cnnclf {order.version}, as where the job was started, found {__version__}",
            f"on every node: python -m pip install 'cnnclf[ray]=={order.version}'",
        )
    if not order.bundle.exists():
        raise RunError(f"expected the bundle at {order.bundle}, found nothing", _SHARED)
    if order.sample and not os.path.lexists(order.locate(order.sample)):
        raise DataError(f"expected the image {order.locate(order.sample)}, found nothing", _SHARED)
    if order.parts is not None:
        order.parts.check()
    classifier = Classifier.load(
        order.bundle,
        engine=order.computing.engine,
        precision=order.computing.precision,
        device=order.computing.device,
        threads=order.computing.threads,
        verbose=order.computing.verbose,
        progress=progress,
    )
    if classifier.bundle["sha256"] != order.checksum:
        raise RunError(f"expected the same bundle at {order.bundle}, found another one", _SHARED)
    return classifier


def _on_node(node: str, error: CnnclfError) -> CnnclfError:
    return type(error)(f"on the node {node}: {error.message}", error.hint)


def _deadly(chunk: Chunk, times: int) -> DeviceError:
    first, last = chunk.found[0].path, chunk.found[-1].path
    return DeviceError(
        f"{times} workers ended one after the other at the same {len(chunk.found)} images, "
        f"{first} to {last}",
        "try these without --ray; a worker that needs more memory than its node has is ended, too",
    )
