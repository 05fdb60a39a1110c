"""Writes the best and the last checkpoint of a run when they are due."""

import time
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.files import atomic_directory
from cnnclf.inference.bundles import save_bundle
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.fitting.optimizers import WeightAverage
from cnnclf.training.fitting.state import TrainingState, save_state

if TYPE_CHECKING:
    import keras


_MAX_SHARE = 0.05  # of the time that writing may take,
_MAX_WAIT_S = 60.0  # unless more than this would be lost by a kill


@dataclass(frozen=True)
class BundleContent:
    """The content of `classifier.json` besides the weights."""

    labels: tuple[str, ...]
    input_spec: Any
    dataset: dict[str, str]


@dataclass(eq=False)
class Checkpoints:
    """Writes the best and the last checkpoint, at most once per `every_s` seconds.

    Less often where writing would take more than a twentieth of the time; an interruption then
    costs the epochs since, a minute of them at most. A best epoch that is not written yet is kept
    in memory, and always written before a last checkpoint that includes it: after any interruption,
    resuming never loses a better best.
    """

    net: "keras.Model"
    trained: "keras.Model"
    _: KW_ONLY
    trainer: "keras.Model"
    run: RunDirectory
    content: BundleContent
    state: TrainingState
    average: WeightAverage
    every_s: float
    _written: float = field(default_factory=time.perf_counter, init=False)
    _best_s: float = field(default=0.0, init=False)
    _took_s: float = field(default=0.0, init=False)
    _best: tuple[int, list[Any]] | None = field(default=None, init=False)
    _is_last_written: bool = field(default=True, init=False)

    def save_best(self) -> None:
        """Write the network as the best, or keep its weights until it is due."""
        if self._is_due():
            self._best = None
            began = time.perf_counter()
            with self.average.in_net(), atomic_directory(self.run.best) as directory:
                _save(directory, self.net, self.content, self.state.epoch)
            self._best_s = time.perf_counter() - began
            return
        with self.average.in_net():
            self._best = self.state.epoch, self._read_weights()

    def save_last(self) -> None:
        """Write the network as the last, with what resuming needs, if it is due."""
        self._is_last_written = self._is_due()
        if self._is_last_written:
            began = time.perf_counter()
            self.write_best()
            self._write_last()
            self._written = time.perf_counter()
            self._took_s = self._best_s + self._written - began
            self._best_s = 0.0

    def write_best(self, *, continues: bool = True) -> None:
        """Write the best that is kept in memory, if there is one.

        Args:
            continues: Whether the weights are needed as they are.
        """
        if self._best is None:
            return
        epoch, best = self._best
        self._best = None
        held = self._read_weights() if continues else best
        self._assign(best)
        with atomic_directory(self.run.best) as directory:
            _save(directory, self.net, self.content, epoch)
        self._assign(held)

    def finish(self) -> None:
        """Write what is not written yet of the phase's last epoch, which has just ended.

        Not later than that: after it, Keras replaces weights by their averages.
        """
        self.write_best()
        if not self._is_last_written or self.state.stopped is not None:
            self._write_last()  # a run that is resumed must not train any further

    def _is_due(self) -> bool:
        wait_s = max(self.every_s, min(_MAX_WAIT_S, self._took_s / _MAX_SHARE))
        return time.perf_counter() - self._written >= wait_s

    def _read_weights(self) -> list[Any]:
        # all of them: the moving averages of batch normalization belong to the epoch, too
        import keras

        return [np.array(keras.ops.convert_to_numpy(each)) for each in self.trainer.weights]

    def _assign(self, values: list[Any]) -> None:
        for weight, value in zip(self.trainer.weights, values, strict=True):
            weight.assign(value)

    def _write_last(self) -> None:
        with atomic_directory(self.run.last) as directory:
            _save(directory, self.net, self.content, self.state.epoch)
            save_state(directory, self.state, net=self.trained, optimizer=self.trainer.optimizer)


def _save(directory: Any, net: "keras.Model", content: BundleContent, epoch: int) -> None:
    save_bundle(directory, net, **vars(content), extra={"epoch": epoch})
