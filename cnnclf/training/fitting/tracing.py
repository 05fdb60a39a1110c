"""What gradient descent did in each epoch, layer by layer: trace.csv.

Measured at the end of an epoch on a few training images without augmentation, in training mode, so
that batch normalization works as it does while training. Whatever a pass changes (moving averages,
random states) is put back: a run is the same with and without its trace.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import read_table
from cnnclf.files import format_bytes, write_csv_atomic
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runtime.gradients import build_weight_gradient
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.fitting.weight_path import WeightPath

if TYPE_CHECKING:
    import keras

    from cnnclf.training.feeding.batches import Batches

Array = npt.NDArray[Any]

_MIN_IMAGES, _MAX_IMAGES = 4, 64
_IMAGES_PER_PROBE = 200  # a probe costs about twice as much as training on as many
_STREAM = 8


@dataclass(frozen=True)
class TraceRow:
    """The figures of a layer after an epoch.

    Args:
        epoch: Counted from 1.
        layer: A layer with a kernel.
        gradient_norm: Of the loss with respect to the kernel.
        update_ratio: How much the last step changed the kernel, as a fraction of its norm.
        dead_fraction: Units that are 0 for every image and place; None unless ReLU follows.
        activation_mean: Of all values after the activation; None in a model within the model.
        activation_spread: Their standard deviation.
    """

    epoch: int
    layer: str
    gradient_norm: float
    update_ratio: float
    dead_fraction: float | None = None
    activation_mean: float | None = None
    activation_spread: float | None = None


class Tracer:
    """Measures a network at each epoch's end and writes trace.csv.

    Args:
        trainer: The compiled model.
        batches: Training batches, from which the probe is drawn.
        run: Where trace.csv goes.
        first_epoch: Epochs before this phase.
        done: Epochs before this process; rows of later ones are measured again.
        path: Keeps the weights of some epochs, too; None: no weights are kept.
    """

    def __init__(
        self,
        trainer: "keras.Model",
        batches: "Batches",
        *,
        run: RunDirectory,
        first_epoch: int,
        done: int,
        path: WeightPath | None = None,
    ) -> None:
        self._trainer = trainer
        self._path = path
        self._layers = _find_layers(trainer)
        # The output of a layer in this graph: layers are shared with other models. Those of a model
        # within it have none.
        outputs = {
            id(node.operation): node.outputs[0]
            for nodes in trainer._nodes_by_depth.values()  # noqa: SLF001 (no public door)
            for node in nodes
        }
        self._seen = [id(layer) in outputs for _, layer in self._layers]
        self._differentiate = build_weight_gradient(
            trainer,
            [outputs[id(layer)] for _, layer in self._layers if id(layer) in outputs],
            variables=[layer.kernel for layer, _ in self._layers],
        )
        count = min(_MAX_IMAGES, max(_MIN_IMAGES, batches.count // _IMAGES_PER_PROBE))
        self._images, self._labels = batches.draw_plain(count, stream=_STREAM)
        self._steps = len(batches)
        self._run = run
        self._first_epoch = first_epoch
        self._before: list[Array] = []
        self._rows = _read_rows(run, done=done)
        self.seconds = 0.0

    def as_callbacks(self) -> "tuple[keras.callbacks.Callback, keras.callbacks.Callback]":
        """Return Keras callbacks for before and after the one that writes checkpoints.

        So each epoch of a checkpoint has its rows, and it is known which step is the last.
        """
        import keras

        make = keras.callbacks.LambdaCallback
        return make(on_epoch_end=self.end_epoch), make(on_train_batch_begin=self.begin_step)

    def begin_step(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Copy the kernels before the last step of an epoch, which may end early."""
        if batch == self._steps - 1 or self._trainer.stop_training:
            started = time.perf_counter()
            self._before = [_copy(layer.kernel) for layer, _ in self._layers]
            self.seconds += time.perf_counter() - started

    def end_epoch(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Measure every layer and write the file."""
        started = time.perf_counter()
        updates = [
            _norm(_copy(layer.kernel) - before) / (_norm(before) or 1.0)
            for (layer, _), before in zip(self._layers, self._before, strict=True)
        ]
        values, gradients = self._differentiate(self._images, self._labels)
        seen = iter(values)
        for (layer, after), is_seen, update, gradient in zip(
            self._layers, self._seen, updates, gradients, strict=True
        ):
            number = self._first_epoch + epoch + 1
            row = TraceRow(number, layer.name, _norm(gradient), update)
            if is_seen:
                row = _add_activations(row, next(seen), is_relu=_is_relu(after))
            self._rows.append(asdict(row))
        names = [field.name for field in fields(TraceRow)]
        rows = ([row.get(name) for name in names] for row in self._rows)
        write_csv_atomic(self._run.trace, [names, *rows])
        if self._path is not None:
            self._path.end_epoch(self._first_epoch + epoch + 1)
        self.seconds += time.perf_counter() - started

    def finish(self, state: TrainingState) -> str:
        """Keep the last weights, and say what the trace took of a phase that has ended."""
        started = time.perf_counter()
        kept = ""
        if self._path is not None:
            self._path.finish(state.epoch)
            kept = f"; {self._run.descent.name} has the weights of some epochs, "
            kept += format_bytes(self._run.descent.stat().st_size)
        self.seconds += time.perf_counter() - started
        part_of_time = self.seconds / (state.seconds + self.seconds)
        return f"the trace took {100 * part_of_time:.1f} % of the training time{kept}"


def _add_activations(row: TraceRow, values: Array, *, is_relu: bool) -> TraceRow:
    is_dead = (values <= 0).all(axis=tuple(range(values.ndim - 1)))
    return replace(
        row,
        dead_fraction=float(is_dead.mean()) if is_relu else None,
        activation_mean=float(values.mean()),
        activation_spread=float(values.std()),
    )


def _find_layers(model: "keras.Model") -> list[tuple[Any, Any]]:
    """Return the layers with a trained kernel, and the last activation before the next of them."""
    found: list[tuple[Any, Any]] = []
    for layer in _list_layers(model):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and kernel.trainable:
            found.append((layer, layer))
        elif found and (hasattr(layer, "activation") or _is_relu(layer)):
            found[-1] = (found[-1][0], layer)
    return found


def _list_layers(model: Any) -> Iterator[Any]:
    """Yield the layers in their order, those of models within the model, too."""
    for layer in model.layers:
        yield from _list_layers(layer) if hasattr(layer, "layers") else (layer,)


def _is_relu(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", "") == "relu" or type(layer).__name__ == "ReLU"


def _copy(variable: Any) -> Array:
    import keras

    return np.array(keras.ops.convert_to_numpy(variable), np.float32)


def _norm(values: Array) -> float:
    return float(np.sqrt(np.sum(np.square(values, dtype=np.float64))))


def _read_rows(run: RunDirectory, *, done: int) -> list[dict[str, Any]]:
    """Return the rows of earlier epochs, of a run that is resumed."""
    if not done or not run.trace.exists():
        return []
    rows = read_table(run.trace, lambda row: (int(row["epoch"]), row))
    return [row for epoch, row in rows if epoch <= done]
