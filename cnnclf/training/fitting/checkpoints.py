"""Writes the best and the last checkpoint of a run when they are due."""

import time
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.files import atomic_directory
from cnnclf.inference.bundles import save_bundle
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.fitting.optimizers import WeightAverage
from cnnclf.training.fitting.state import Snapshot, TrainingState, save_state

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


# All weights: the moving averages of batch normalization belong to an epoch, too.
_Best = tuple[int, list[Any]]  # the epoch, and its weights
_Last = tuple[Snapshot, list[Any]]


@dataclass(eq=False)
class Checkpoints:
    """Writes the best and the last checkpoint, at most once per `every_s` seconds.

    Less often where writing would take more than a twentieth of the time; a kill then costs the
    epochs since, a minute of them at most. What is not written yet is kept in memory, for
    interruptions and errors. The best is written before a last checkpoint that includes it: however
    training ended, resuming never loses a better best.
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
    _took_s: float = field(default=0.0, init=False)
    _kept: tuple[_Best | None, _Last | None] = field(default=(None, None), init=False)

    def save(self, *, is_best: bool) -> None:
        """Keep the network after an epoch in memory, and write what is kept if it is due.

        Args:
            is_best: Whether it is the best so far.
        """
        best, _ = self._kept
        weights = self._read_weights()
        if is_best and self.average.active:
            with self.average.in_net():
                best = self.state.epoch, self._read_weights()
        elif is_best:
            best = self.state.epoch, weights  # one copy: a large network has gigabytes
        snapshot = Snapshot.of(self.state, net=self.trained, optimizer=self.trainer.optimizer)
        # both at once: an interruption finds what belongs together
        self._kept = best, (snapshot, weights)
        wait_s = max(self.every_s, min(_MAX_WAIT_S, self._took_s / _MAX_SHARE))
        if time.perf_counter() - self._written >= wait_s:
            self.write()

    def finish(self) -> None:
        """Write what is not written yet of the phase's last epoch, which has just ended."""
        if self.state.stopped is not None:  # a resumed run must not train any further
            self.save(is_best=False)
        self.write()

    def write(self) -> None:
        """Write what is kept, from which the network has its weights then, those of the last.

        After an interruption, too, when the weights are those within an epoch, or of validation.
        """
        best, last = self._kept
        if last is None:
            return
        began = time.perf_counter()
        if best is not None:
            epoch, weights = best
            self._assign(weights)
            with atomic_directory(self.run.best) as directory:
                _save(directory, self.net, self.content, epoch)
            self._kept = None, last
        snapshot, weights = last
        self._assign(weights)
        with atomic_directory(self.run.last) as directory:
            _save(directory, self.net, self.content, snapshot.state.epoch)
            save_state(directory, snapshot)
        self._kept = None, None
        self._written = time.perf_counter()
        self._took_s = self._written - began

    def _read_weights(self) -> list[Any]:
        import keras

        return [np.array(keras.ops.convert_to_numpy(each)) for each in self.trainer.weights]

    def _assign(self, values: list[Any]) -> None:
        for weight, value in zip(self.trainer.weights, values, strict=True):
            weight.assign(value)


def _save(directory: Any, net: "keras.Model", content: BundleContent, epoch: int) -> None:
    save_bundle(directory, net, **vars(content), extra={"epoch": epoch})
