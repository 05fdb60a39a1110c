"""How sure a network was of the label of each training image, on average over epochs: margins.csv.

Wrong labels are learned late or never, so the logit of the label minus the best other one, averaged
over epochs, is low for them (Pleiss et al., "Identifying mislabeled data using the area under the
margin ranking", 2020). `cnnclf check --run` asks for it.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import read_table
from cnnclf.errors import ImageError
from cnnclf.files import write_csv_atomic

if TYPE_CHECKING:
    import keras

    from cnnclf.training.feeding.batches import Batches

_FIRST, _EVERY = 5, 5  # epochs that are measured: the first ones, then some


@dataclass(eq=False)
class MarginMeter:
    """Measures the margin of every training image after some epochs, without augmentation.

    Args:
        batches: Training batches, whose images are taken; this takes a third of an epoch.
        class_indices: The class of every row of the dataset, int [N].
        paths: The path of every row, by which images are found again in another order.
        file: Where the means are written, after each measurement.
    """

    batches: "Batches"
    class_indices: npt.NDArray[Any]
    _: KW_ONLY
    paths: Sequence[str]
    file: Path
    _sums: dict[str, tuple[float, int]] = field(default_factory=dict, init=False)

    def as_callback(self, trainer: "keras.Model", *, done: int) -> "keras.callbacks.Callback":
        """Return what measures while a model is trained.

        Args:
            trainer: From pixels to logits.
            done: Epochs before this process; their margins are read from the file.
        """
        import keras

        if done and self.file.exists():
            self._sums = {
                path: (mean * epochs, epochs) for path, (mean, epochs) in _read(self.file).items()
            }

        def end_epoch(epoch: int, logs: Any = None) -> None:  # noqa: ARG001
            if epoch < _FIRST or epoch % _EVERY == 0:
                self.measure(trainer)

        return keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)

    def measure(self, trainer: "keras.Model") -> None:
        """Add the margins of all training images under the weights of now, and write the file."""
        rows, size = self.batches.rows, self.batches.batch_size
        for start in range(0, len(rows), size):
            try:
                images, some = self.batches.gather(rows[start : start + size])
            except ImageError:  # none of them can be read now; the training skips them, too
                continue
            logits = np.array(trainer.predict_on_batch(images), np.float64)
            places = np.arange(len(some)), self.class_indices[some]
            own = logits[places]
            logits[places] = -np.inf
            for row, margin in zip(some.tolist(), own - logits.max(axis=1), strict=True):
                before, epochs = self._sums.get(self.paths[row], (0.0, 0))
                self._sums[self.paths[row]] = (before + float(margin), epochs + 1)
        means = ((path, f"{sum_ / n:.6g}", n) for path, (sum_, n) in self._sums.items())
        write_csv_atomic(self.file, [("path", "margin", "epochs"), *means])


def read_margins(file: Path) -> dict[str, float]:
    """Return the mean margin by path; {} for a run without `train --trace`."""
    return {path: mean for path, (mean, _) in _read(file).items()} if file.exists() else {}


def _read(file: Path) -> dict[str, tuple[float, int]]:
    def parse(row: dict[str, str]) -> tuple[str, tuple[float, int]]:
        return row["path"], (float(row["margin"]), int(row["epochs"]))

    return dict(read_table(file, parse))
