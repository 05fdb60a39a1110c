"""A few checkpoints of the trained weights of a run, for `explain --show descent`: descent.npz."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnclf.files import atomic_path
from cnnclf.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    import keras

_MOST, _LEAST = 9, 3  # checkpoints
_MAX_BYTES = 16_000_000


class WeightPath:
    """Keeps the weights before the first epoch, after some of them, and after the last.

    When there are too many, every second is dropped. In float16, at most 16 MB or three.

    Args:
        model: What is trained.
        run: Where descent.npz goes.
        done: Epochs before this process; what was kept of later ones is dropped.
    """

    def __init__(self, model: "keras.Model", run: RunDirectory, *, done: int) -> None:
        self._variables = model.trainable_variables
        self._file = run.descent
        count = sum(int(np.prod(each.shape)) for each in self._variables)
        self._most = max(_LEAST, min(_MOST, _MAX_BYTES // (2 * max(1, count))))
        self._kept: dict[int, npt.NDArray[np.float16]] = {}
        if done and self._file.exists():
            with np.load(self._file) as arrays:
                kept = zip(arrays["epochs"].tolist(), arrays["weights"], strict=True)
                self._kept = {epoch: weights for epoch, weights in kept if epoch <= done}
        self._every = sorted(self._kept)[1] if len(self._kept) > 1 else 1
        if not self._kept:
            self._keep(done)

    def end_epoch(self, epoch: int) -> None:
        """Keep the weights after an epoch, counted from 1, if it is one of those to keep."""
        if epoch % self._every:
            return
        self._keep(epoch)
        if len(self._kept) > self._most:
            self._every *= 2
            self._kept = {at: kept for at, kept in self._kept.items() if at % self._every == 0}
        self._write()

    def finish(self, epoch: int) -> None:
        """Keep the last weights of the run."""
        if epoch not in self._kept:
            self._keep(epoch)
            self._write()

    def _keep(self, epoch: int) -> None:
        import keras

        parts = [np.ravel(keras.ops.convert_to_numpy(each)) for each in self._variables]
        self._kept[epoch] = np.concatenate(parts).astype(np.float16)

    def _write(self) -> None:
        content: dict[str, Any] = {
            "epochs": np.array(list(self._kept)),
            "weights": np.stack(list(self._kept.values())),
            "names": np.array([each.path for each in self._variables]),
        }
        with atomic_path(self._file) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **content)
