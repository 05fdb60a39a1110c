"""What the order of pixels is worth: a CNN on images, and on the same with their pixels permuted.

Nothing of it is kept. A network whose columns can be swapped without harm needs no convolutions.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.decoding import Images
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels
from cnnclf.evaluation.paired_statistics import Interval, difference_interval
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress, Task
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.feeding.ahead import PixelsAhead
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting.fit import build_loss
from cnnclf.training.fitting.optimizers import build_optimizer
from cnnclf.training.scratch import build_batches, open_net
from cnnclf.training.work import Work

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

_STREAM = 9
_SHOWN = 6  # classes in the figure


@dataclass(frozen=True)
class OrderValue:
    """What the order of pixels is worth.

    Args:
        split: The images that were judged: test and val, as far as there are any, or train.
        images: How many they are.
        epochs: Of each training.
        ordered: Accuracy with the pixels in order, 0..1.
        permuted: Accuracy with the pixels permuted.
        difference: Ordered minus permuted.
        interval: 95 % interval of the difference, paired.
    """

    split: str
    images: int
    epochs: int
    ordered: float
    permuted: float
    difference: float
    interval: Interval

    @property
    def figures(self) -> str:
        """The result in numbers."""
        low, high = (f"{100 * end:+.1f}" for end in self.interval)
        return (
            f"{100 * self.difference:+.1f} points of accuracy (95 % interval {low} to {high}): "
            f"{100 * self.ordered:.1f} % in order, {100 * self.permuted:.1f} % permuted, "
            f"{self.images:,} {self.split} images"
        )

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self.interval[0] > 0:
            return f"The order of pixels is worth {self.figures}."
        return (
            f"No value of the order of pixels was shown: {self.figures}. Where columns can be "
            "swapped, a CNN is of no help; more images or --epochs may show one."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"sentence": self.sentence}


class PermutedPixels(Pixels):
    """Images whose pixels are all moved to other places, the same for all of them."""

    def __init__(self, pixels: Pixels, *, seed: int) -> None:
        height, width, _ = self.shape = pixels.shape
        self.failed = pixels.failed
        self._pixels = pixels
        self._order = np.random.default_rng((_STREAM, seed)).permutation(height * width)

    def gather(self, rows: npt.NDArray[Any]) -> Images:
        """Return images by row, [n, H, W, C]."""
        images = self._pixels.gather(rows)
        flat = images.reshape(len(images), -1, self.shape[2])
        return flat[:, self._order].reshape(images.shape)


def measure_order(
    plan: TrainPlan, dataset: Dataset, *, runtime: "RuntimeInfo", progress: Progress
) -> tuple[OrderValue, list[tuple[str, Images]]]:
    """Train on the images as they are and on the same with permuted pixels, and compare.

    Args:
        plan: Of both trainings.
        dataset: The dataset the plan was made for.
        runtime: Device, precision and seed, already set.
        progress: Receives the epochs.

    Returns:
        The comparison; label and [2, H, W, C], an image and the same permuted, of some classes.

    Raises:
        DataError: No training image can be decoded.
    """
    manifest = dataset.manifest
    # Nothing is chosen on val here, so its images count, too.
    judged = [name for name in ("test", "val") if plan.counts[name]] or ["train"]
    work = Work(plan, dataset, RunDirectory(Path()), runtime, progress=progress)
    plain, rows = work.pixels, np.concatenate([manifest.select(each) for each in judged])
    both = (plain, PermutedPixels(plain, seed=plan.config.runtime.seed))
    right = _train_both([replace(work, ahead=_give(each)) for each in both], rows)
    gained, lost = (int((right[a] & ~right[b]).sum()) for a, b in ((0, 1), (1, 0)))
    count = len(right[0])
    value = OrderValue(
        " and ".join(judged),
        count,
        epochs=int(plan.config.training.epochs),
        ordered=float(right[0].mean()),
        permuted=float(right[1].mean()),
        difference=(gained - lost) / count,
        interval=difference_interval(gained, lost, total=count),
    )
    readable = work.rows["train"]
    classes, firsts = np.unique(manifest.class_indices[readable], return_index=True)
    shown = zip(classes[:_SHOWN].tolist(), readable[firsts[:_SHOWN]], strict=True)
    return value, [
        (plan.labels[index], np.concatenate([pixels.gather(row[None]) for pixels in both]))
        for index, row in shown
    ]


def _give(pixels: Pixels) -> PixelsAhead:
    return lambda _progress: pixels


def _train_both(
    works: Sequence[Work[TrainPlan]], rows: npt.NDArray[Any]
) -> list[npt.NDArray[np.bool_]]:
    """Train a network from the same start for each work; return which rows each labels correctly.

    It is one network whose variables are put back, so that it is compiled once.
    """
    import keras

    plan, runtime = works[0].plan, works[0].runtime
    epochs = int(plan.config.training.epochs)
    with runtime.scope():
        net = open_net(works[0])
        steps = len(build_batches(works[0])[0])
        optimizer = build_optimizer(plan.config.optimizer, total_steps=steps * epochs)
        loss = build_loss(plan.config.training)
        net.compile(optimizer, loss=loss, jit_compile=runtime.jit_compile)
        net.optimizer.build(net.trainable_variables)
    variables = [*net.variables, *net.optimizer.variables]
    start = [np.array(keras.ops.convert_to_numpy(each)) for each in variables]
    right = []
    for work, name in zip(works, ("pixels in order", "pixels permuted"), strict=True):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        _fit(net, work, name=name, epochs=epochs)
        right.append(_judge(net, work, rows))
    return right


def _fit(net: Any, work: Work[TrainPlan], *, name: str, epochs: int) -> None:
    import keras

    batches, _ = build_batches(work)
    with ExitStack() as stack:
        tasks: list[Task] = []

        def begin(*_: Any, **_logs: Any) -> None:
            if not tasks:  # after the first step, which compiles: it says nothing of the others
                tasks.append(stack.enter_context(work.progress.task(name, epochs, unit="epochs")))

        def advance(*_: Any, **_logs: Any) -> None:
            tasks[0].advance()

        listener = keras.callbacks.LambdaCallback(on_train_batch_end=begin, on_epoch_end=advance)
        net.fit(
            batches.as_keras(0, epochs),
            steps_per_epoch=len(batches),
            epochs=epochs,
            verbose=0,
            shuffle=False,
            callbacks=[listener],
        )


def _judge(net: Any, work: Work[TrainPlan], rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    indices = work.dataset.manifest.class_indices
    judged = Batches(work.pixels, rows, class_indices=indices, shuffle=False, **work.batch_settings)
    parts = [
        np.argmax(net.predict_on_batch(images), axis=1) == np.argmax(labels, axis=1)
        for images, labels in judged.epoch(0)
    ]
    return np.concatenate(parts)
