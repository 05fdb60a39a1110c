"""Predicts any number of images in constant memory: from paths to rows and sorted files."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from cnnclf.errors import DeviceError
from cnnclf.files import write_error
from cnnclf.prediction.inputs import Found, ImageInputs
from cnnclf.prediction.label_pipeline import Engine, PredictOptions, iter_batches
from cnnclf.prediction.new_files import FolderWatch
from cnnclf.prediction.path_set import leave_out
from cnnclf.prediction.placing import Placer
from cnnclf.prediction.rows import Prediction, RowWriter
from cnnclf.prediction.stage_times import STAGES, StageClock
from cnnclf.prediction.summary import PredictSummary, SoFar
from cnnclf.progress import Progress, Task
from cnnclf.signals import deferring_signals

# A time too short to tell where it went.
_LEAST_S = 1.0


def predict_images(
    engine: Engine,
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

    Rows are flushed after each batch, those of sorted files one by one, and whatever ends the work.

    Args:
        engine: The model.
        found: The paths, such as `inputs.first()`.
        rows: Takes the rows in the order of the paths.
        options: How.
        progress: Shows the count, the rate and the stage that is the limit.
        inputs: Counted in the background, so that progress knows how many there are.
        placer: Sorts the files into class folders.
        so_far: What was done before; those paths are left out, each as often as it has a row.

    Raises:
        DataError: There is nothing to predict.
        DeviceError: The disk is full.
    """
    so_far = so_far or SoFar()
    is_moving = placer is not None and placer.mode == "move" and not placer.dry_run
    counted = None if is_moving else inputs  # files move away while they are counted
    line = _Line(engine, rows, options.go_on_after(so_far.summary.earlier), placer)
    with (
        progress.task("predict", None, unit="images") as task,
        counting(counted, task, so_far.summary.earlier),
    ):
        line.run(leave_out(found, so_far.done), so_far.summary, task)
    return so_far.summary


def watch_images(
    engine: Engine,
    inputs: ImageInputs,
    *,
    rows: RowWriter,
    options: PredictOptions,
    progress: Progress,
    placer: Placer | None = None,
    so_far: SoFar | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Predict what is there and then what comes, until interrupted; see `FolderWatch`.

    Args:
        engine: The model.
        inputs: Folders and patterns, with `may_be_empty`.
        rows: Takes the rows; flushed before each wait.
        options: How.
        progress: Shows the count.
        placer: Sorts the files into class folders.
        so_far: What was done before, and is added to; those paths are left out.
        sleep: Waits so many seconds.
    """
    so_far = so_far or SoFar()
    is_moving = placer is not None and placer.mode == "move" and not placer.dry_run
    watch = FolderWatch(inputs, so_far.done, is_moving=is_moving, sleep=sleep)
    with progress.task("predict", None, unit="images") as task:
        line = _Line(engine, rows, options, placer, watch.accept)
        line.run(watch.find(), so_far.summary, task)


@contextlib.contextmanager
def counting(inputs: ImageInputs | None, task: Task, earlier: int) -> Iterator[None]:
    """Count the paths in a thread of its own and tell the task how many are to be done.

    Args:
        inputs: What to count; None counts nothing.
        task: Is told.
        earlier: How many of them are done.
    """
    if inputs is None:
        yield
        return
    stop = threading.Event()

    def count() -> None:
        total = inputs.count(stop)
        if total is not None:
            task.expect(max(0, total - earlier))

    thread = threading.Thread(target=count, name="count", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class _Line:
    """From paths to rows; see `predict_images`.

    Args:
        accept: Is asked before a row is written; what it refuses gets none.
    """

    engine: Engine
    rows: RowWriter
    options: PredictOptions
    placer: Placer | None = None
    accept: Callable[[Prediction], bool] | None = None

    def run(self, found: Iterable[Found], summary: PredictSummary, task: Task) -> None:
        clock, told_s = StageClock(), 0.0
        try:
            with contextlib.closing(iter_batches(self.engine, found, self.options, clock)) as all_:
                for batch in all_:
                    clock.enter("write")
                    for prediction in batch:
                        self._take(prediction, summary)
                    self.rows.flush()
                    task.advance(len(batch))
                    if clock.seconds - told_s >= _LEAST_S:
                        told_s = clock.seconds
                        task.describe(f"limit: {STAGES[clock.limit().stage]}")
        finally:
            self.rows.flush()
            clock.stop()
            summary.seconds = clock.seconds
            summary.limit = clock.limit() if clock.seconds >= _LEAST_S else None

    def _take(self, prediction: Prediction, summary: PredictSummary) -> None:
        if self.placer is None:
            self._write(prediction, summary)
            return
        with deferring_signals():  # what was moved must not be forgotten
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
