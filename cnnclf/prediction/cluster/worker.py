"""The worker: loads the classifier once, then predicts chunks and returns rows or writes parts.

Nothing here depends on Ray; the caller passes in the name of the node.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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

# A chunk that crashed this many workers would crash all others, too.
_MAX_ATTEMPTS = 5
_SHARED = "mount the same disk at the same path on all nodes"


@dataclass(frozen=True)
class WorkOrder:
    """The order that every worker receives.

    Args:
        bundle: An absolute path, the same on all nodes.
        checksum: Checksum of the bundle's model.
        config: How to compute; device and threads are resolved.
        options: How answers are made.
        folder: The directory that relative paths refer to.
        sample: An existing image, which tells a worker whether it has the same disk.
        parts: Writes the rows; None to return them.
        verbose: Whether libraries are not silenced.
        version: Version of cnnclf.
    """

    bundle: Path
    checksum: str
    config: PredictConfig
    options: PredictOptions = field(default_factory=PredictOptions)
    folder: str = ""
    sample: str = ""
    parts: PartWriter | None = None
    verbose: bool = False
    version: str = __version__

    def locate(self, path: str) -> str:
        """Return where a path of the driver is on this node."""
        return os.path.join(self.folder, path)  # noqa: PTH118 (keeps the spelling)


@dataclass(frozen=True)
class ChunkResult:
    """The result of a chunk.

    Args:
        index: Number of the chunk.
        files: How many paths it had.
        predictions: In the order of the paths; empty if the worker wrote a part.
        summary: Counts of the rows, if the worker wrote a part.
        notes: Notes of the worker, each once.
        warnings: Warnings of the worker, each once.
        problem: Why there is no result; another attempt would fail the same way.
        worker: Name of the worker.
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
    """Predicts chunks with a classifier of its own.

    Errors that a user can fix are not raised but returned with every chunk, since Ray would retry
    them again and again.

    Args:
        order: The order.
        node: Name of this node, for messages.
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

    def run(self, chunk: Chunk, attempts: int = 1) -> ChunkResult:
        """Predict a chunk.

        Args:
            chunk: The paths.
            attempts: How often the chunk was started, including this time.
        """
        if self._classifier is None:
            return ChunkResult(chunk.index, problem=self._problem)
        if attempts > _MAX_ATTEMPTS:
            return ChunkResult(chunk.index, problem=_crashing(chunk, attempts - 1))
        try:
            predictions = self._predict(self._classifier, chunk)
            return self._deliver(chunk, predictions)
        except CnnclfError as error:
            return ChunkResult(chunk.index, problem=_on_node(self._node, error))
        except MemoryError:
            full = DeviceError("not enough memory", "use a smaller --batch-size")
            return ChunkResult(chunk.index, problem=_on_node(self._node, full))

    def _predict(self, classifier: Classifier, chunk: Chunk) -> list[Prediction]:
        order = self._order
        options = replace(order.options, threads=order.config.threads)
        local = (Found(order.locate(path), error) for path, error in chunk.found)
        batches = iter_batches(classifier, local, options=options)
        predictions = (prediction for batch in batches for prediction in batch)
        return [
            replace(prediction, path=path)
            for prediction, (path, _) in zip(predictions, chunk.found, strict=True)
        ]

    def _deliver(self, chunk: Chunk, predictions: Sequence[Prediction]) -> ChunkResult:
        notes, warnings = tuple(self._progress.notes), tuple(self._progress.warnings)
        self._progress.notes.clear()
        self._progress.warnings.clear()
        if self._order.parts is None:
            return ChunkResult(
                chunk.index, len(predictions), tuple(predictions), notes=notes, warnings=warnings
            )
        self._order.parts.write(chunk.index, predictions)
        summary = PredictSummary(unsure_below=self._order.options.unsure_below)
        for prediction in predictions:
            summary.add(prediction)
        return ChunkResult(
            chunk.index, len(predictions), summary=summary, notes=notes, warnings=warnings
        )


def _open_classifier(order: WorkOrder, progress: Silent) -> Classifier:
    """Check that this node has the same files as the driver, and load the classifier."""
    if order.version != __version__:
        raise MissingPackageError(
            f"cnnclf {__version__} is installed, but the job was started with {order.version}",
            f"on every node: python -m pip install 'cnnclf[ray]=={order.version}'",
        )
    if not order.bundle.exists():
        raise RunError(f"the bundle {order.bundle} does not exist", _SHARED)
    if order.sample and not os.path.lexists(order.locate(order.sample)):
        raise DataError(f"the image {order.locate(order.sample)} does not exist", _SHARED)
    if order.parts is not None:
        order.parts.check()
    classifier = Classifier.load(
        order.bundle,
        engine=order.config.engine,
        precision=order.config.precision,
        device=order.config.device,
        threads=order.config.threads,
        features=order.options.rules.features,
        views=order.config.views,
        verbose=order.verbose,
        progress=progress,
    )
    if classifier.bundle["sha256"] != order.checksum:
        raise RunError(f"there is another model at {order.bundle} than on the driver", _SHARED)
    return classifier


def _on_node(node: str, error: CnnclfError) -> CnnclfError:
    return type(error)(f"on the node {node}: {error.message}", error.hint)


def _crashing(chunk: Chunk, attempts: int) -> DeviceError:
    first, last = chunk.found[0].path, chunk.found[-1].path
    return DeviceError(
        f"{attempts} workers crashed one after the other on the same {len(chunk.found)} images, "
        f"{first} to {last}",
        "try these images without --ray; workers are also killed if their node runs out of memory",
    )
