"""Predicts any number of images in constant memory and writes a row for each."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from cnnclf.errors import DeviceError
from cnnclf.full_disks import write_error
from cnnclf.prediction.inputs import Found, ImageInputs, skip_done
from cnnclf.prediction.label_pipeline import ImageClassifier, PredictOptions, iter_batches
from cnnclf.prediction.new_files import FolderWatch
from cnnclf.prediction.placing import Placer
from cnnclf.prediction.rows import Prediction, RowWriter
from cnnclf.prediction.stage_times import STAGES, StageClock
from cnnclf.prediction.summary import PredictSummary, SoFar
from cnnclf.progress import Progress, Task
from cnnclf.signals import deferring_signals

_MIN_S = 1.0  # below this, the shares of the stages say nothing


def predict_images(
    classifier: ImageClassifier,
    found: Iterable[Found],
    *,
    rows: RowWriter,
    options: PredictOptions,
    progress: Progress,
    inputs: ImageInputs | None = None,
    placer: Placer | None = None,
    so_far: SoFar | None = None,
) -> PredictSummary:
    """Predict every path and write a row for it.

    Rows are flushed after each batch, after each sorted file, and when the work ends or fails.

    Args:
        classifier: The model.
        found: The paths, such as `inputs.first()`.
        rows: Writes the rows, in the order of the paths.
        options: Batch size, top-k, threshold and threads.
        progress: Shows the count, the rate and the slowest stage.
        inputs: Counted in the background, so that progress can show the total.
        placer: Sorts the files into class folders.
        so_far: The rows of the interrupted job; their paths are skipped.

    Raises:
        DataError: No image was found.
        DeviceError: The disk is full.
    """
    so_far = so_far or SoFar()
    # files would move away while they are counted
    counted = None if placer is not None and placer.is_moving else inputs
    run = _Run(classifier, rows, options.continue_after(so_far.summary.earlier), placer)
    with (
        progress.task("predict", None, unit="images") as task,
        counting(counted, task, earlier=so_far.summary.earlier),
    ):
        run.run(skip_done(found, so_far.done), so_far.summary, task)
    return so_far.summary


def watch_images(
    classifier: ImageClassifier,
    inputs: ImageInputs,
    *,
    rows: RowWriter,
    options: PredictOptions,
    progress: Progress,
    placer: Placer | None = None,
    so_far: SoFar | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Predict existing files and then new ones until interrupted; else as `predict_images`."""
    so_far = so_far or SoFar()
    is_moving = placer is not None and placer.is_moving
    watch = FolderWatch(inputs, so_far.done, is_moving=is_moving, sleep=sleep)
    with progress.task("predict", None, unit="images") as task:
        run = _Run(classifier, rows, options, placer, watch.accept)
        run.run(watch.find(), so_far.summary, task)


@contextlib.contextmanager
def counting(inputs: ImageInputs | None, task: Task, *, earlier: int) -> Iterator[None]:
    """Count the paths in a background thread and report the total to the task.

    Args:
        inputs: The inputs to count; None to count nothing.
        task: Receives the number of paths that remain.
        earlier: How many paths are done already.
    """
    if inputs is None:
        yield
        return

    def count(stop: threading.Event) -> None:
        total = inputs.count(stop)
        if total is not None:
            task.expect(max(0, total - earlier))

    with in_background(count, name="count"):
        yield


@contextlib.contextmanager
def in_background(work: Callable[[threading.Event], None], *, name: str) -> Iterator[None]:
    """Run a function in a thread while the block runs; the event says that the block is over."""
    is_over = threading.Event()
    thread = threading.Thread(target=work, args=(is_over,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@dataclass(frozen=True)
class _Run:
    """From paths to rows; see `predict_images`.

    Args:
        accept: Returns whether to write the row of a prediction; None to write all.
    """

    classifier: ImageClassifier
    rows: RowWriter
    options: PredictOptions
    placer: Placer | None = None
    accept: Callable[[Prediction], bool] | None = None

    def run(self, found: Iterable[Found], summary: PredictSummary, task: Task) -> None:
        clock, reported_s = StageClock(), 0.0
        batches = iter_batches(self.classifier, found, options=self.options, clock=clock)
        try:
            with contextlib.closing(batches):
                for batch in batches:
                    clock.enter("write")
                    for prediction in batch:
                        self._take(prediction, summary)
                    self.rows.flush()
                    if batch:  # nothing new while watching
                        task.advance(len(batch))
                    if clock.seconds - reported_s >= _MIN_S:
                        reported_s = clock.seconds
                        task.describe(f"bottleneck: {STAGES[clock.limit().stage]}")
        finally:
            self.rows.flush()
            clock.stop()
            summary.seconds = clock.seconds
            summary.limit = clock.limit() if clock.seconds >= _MIN_S else None

    def _take(self, prediction: Prediction, summary: PredictSummary) -> None:
        if self.placer is None:
            self._write(prediction, summary)
            return
        with deferring_signals():  # a file that was moved needs its row
            self._write(_place(self.placer, prediction), summary)
            self.rows.flush()

    def _write(self, prediction: Prediction, summary: PredictSummary) -> None:
        if self.accept is None or self.accept(prediction):
            self.rows.write(prediction)
            summary.add(prediction)


def _place(placer: Placer, prediction: Prediction) -> Prediction:
    if not prediction.label:
        return prediction
    try:
        return replace(prediction, placed=placer.place(prediction.path, prediction.label))
    except OSError as error:
        problem = write_error(placer.directory, error)
        if isinstance(problem, DeviceError):
            raise problem from error
        return replace(prediction, error=f"cannot {placer.mode} it: {error.strerror or error}")
