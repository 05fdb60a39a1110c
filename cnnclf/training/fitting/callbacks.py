"""What happens at the steps and epochs of a fit: checkpoints, history, stopping, plateaus."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnclf.errors import DivergedError
from cnnclf.progress import Task
from cnnclf.training.epochs import EpochListener, EpochRow, StopRequest
from cnnclf.training.fitting.pacing import Pacer
from cnnclf.training.fitting.schedule import learning_rate_at
from cnnclf.training.fitting.state import TrainingState

if TYPE_CHECKING:
    import keras

    from cnnclf.training.feeding.batches import Batches
    from cnnclf.training.fitting.fit import Phase

PERFECT_EPOCHS = 5
_SHOW_LOSS_S = 1.0  # as below: reading the loss waits for the device
_NAN_CHECK_STEPS = 50  # reading the loss waits for the device; not at every step


@dataclass(frozen=True)
class FitHooks:
    """What a conductor calls.

    Args:
        save: Writes the last checkpoint, with the training state, and, if `is_best`, the best.
        finish: Writes every checkpoint that waits, because the phase ends.
        on_epoch: Receives each epoch and whether it is the best so far; may ask to stop.
        task: Progress, in images.
        check_interrupt: Raises KeyboardInterrupt if one was lost.
    """

    save: Callable[..., None]
    finish: Callable[[], None]
    on_epoch: EpochListener
    task: Task
    check_interrupt: Callable[[], None]


@dataclass
class Conductor:
    """Scores, saves and reports each epoch, and reduces the learning rate on a plateau.

    Args:
        trainer: The compiled model.
        state: The training state; changed at each epoch's end.
        phase: How to train.
        epochs: Epochs of the phase.
        patience: Epochs without improvement before stopping; 0: never.
        batches: The training batches.
        val_images: Images of val; 0: there are none, so the newest epoch is the best.
        hooks: What to call.
        perfect_loss: Val loss, without the L1 and L2 penalty, that counts as perfect; 0: none does.
        pacer: Plans the steps of a phase that has a time rather than a number of epochs.
    """

    trainer: "keras.Model"
    state: TrainingState
    phase: "Phase"
    epochs: int
    patience: int
    batches: "Batches"
    val_images: int
    hooks: FitHooks
    perfect_loss: float = 0.0
    pacer: Pacer | None = None
    _step: int = field(default=0, init=False)
    _started: float = field(default=0.0, init=False)
    _waited: float = field(default=0.0, init=False)
    _shown: int = field(default=0, init=False)
    _described: float = field(default=0.0, init=False)
    _loss: float | None = field(default=None, init=False)
    _rate: float | None = field(default=None, init=False)  # as it was set last
    _penalty: float = field(default=0.0, init=False)  # part of the val loss
    _first: int = field(init=False)  # epochs that were trained before

    def __post_init__(self) -> None:
        self._first = self.state.phase_epoch

    @property
    def is_done(self) -> bool:
        """Whether the phase has ended: by its epochs, patience, a NaN loss or a listener."""
        state = self.state
        has_ended = state.diverged or state.stopped is not None or state.is_time_up
        return has_ended or state.phase_epoch >= self.epochs or self.early_stop is not None

    @property
    def early_stop(self) -> str | None:
        """Why the phase ends before its last epoch; only the state decides, so resuming agrees."""
        state = self.state
        epochs = self.pacer.epochs if self.pacer else self.epochs
        if state.phase_epoch >= epochs:
            return None
        if self.phase.must_win and state.cannot_win(epochs, images=self.val_images):
            return "its val accuracy can hardly reach that of the phase before"
        if not self.patience:
            return None
        if state.epochs_without_better >= self.patience:
            return f"no improvement in {self.patience} epochs (--patience)"
        if state.perfect_epochs >= PERFECT_EPOCHS:
            return (
                f"nothing to improve: val accuracy 1 and val loss below {self.perfect_loss:.3g} in "
                f"the last {PERFECT_EPOCHS} epochs (--perfect-loss)"
            )
        return None

    @property
    def ending(self) -> str | None:
        """Why the phase ended before the epochs it may have, in words for its user."""
        most = self.pacer.max_epochs if self.pacer else None
        if self.state.is_time_up and self.state.phase_epoch != most:
            return "its time was used (--minutes)"
        if self.state.stopped is StopRequest.STOP:
            return "a listener asked for it"
        return self.early_stop

    def as_callback(self) -> "keras.callbacks.Callback":
        """Return a Keras callback that calls the methods below."""
        import keras

        return keras.callbacks.LambdaCallback(
            on_epoch_begin=self.begin_epoch,
            on_epoch_end=self.end_epoch,
            on_train_batch_begin=self.begin_step,
            on_test_begin=self.begin_validation,
        )

    def begin_epoch(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Start the clock."""
        self._started, self._waited = time.perf_counter(), self.batches.wait_s
        self._shown = 0
        if self.pacer is not None:
            self.pacer.begin_epoch()
        self._describe(epoch)

    def begin_step(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Report the previous step, and check at times that the loss is finite.

        At the beginning of a step: for a callback at its end, Keras waits for the device and
        converts every metric to a number, which slows small networks down.
        """
        self.batches.step_begins()
        self.hooks.check_interrupt()
        self._advance(batch)
        self._step = self.state.phase_epoch * len(self.batches) + batch
        if self.pacer is not None:
            self.pacer.begin_step(self._step)
            if self.pacer.is_last(self._step):
                self.trainer.stop_training = True  # after this step
        if self.pacer is not None or self.phase.optimizer.schedule == "plateau":
            self._set_rate()
        if batch and time.perf_counter() - self._described >= _SHOW_LOSS_S:
            self._loss = self._read_loss()
            self._describe(self.state.phase_epoch)
        if batch and batch % _NAN_CHECK_STEPS == 0:
            self._check_loss(self._read_loss(), step=batch)

    def begin_validation(self, logs: Any = None) -> None:  # noqa: ARG002
        """Note the penalty of the weights that are scored, which Keras adds to the val loss."""
        import keras

        losses = map(keras.ops.convert_to_numpy, self.trainer.losses)
        self._penalty = sum(map(float, losses), 0.0)

    def end_epoch(self, epoch: int, logs: Any = None) -> None:
        """Score the epoch, write checkpoints, notify listeners, and stop if the phase has ended.

        Raises:
            DivergedError: The loss is not finite.
        """
        steps = self._step % len(self.batches) + 1 if self.pacer else len(self.batches)
        self._advance(steps)
        self._check_loss(float(logs["loss"]), step=steps)
        if self.state.diverged:
            return
        row = self._measure(epoch, logs)
        self._loss = row.loss
        state = self.state
        state.epoch = state.phase_start + epoch + 1
        state.seconds += row.seconds
        state.wait_s += row.data_wait_s
        state.history.append(row)
        if self.pacer is not None:
            state.is_time_up = self.pacer.is_last(self._step)
            state.spent_s = self.pacer.spent()
        # ties in accuracy are common on a small val split: the lower loss decides
        score = state.score_last(self.phase.averaged_epochs, by_loss=self.phase.by_loss)
        is_best = state.judge((float(state.epoch), 0.0) if self.phase.keeps_last else score)
        if self.phase.optimizer.schedule == "plateau" and self.val_images:
            state.reduce_on_plateau(max(1, self.patience // 3))
        if self.perfect_loss:
            state.count_perfect(self.perfect_loss + self._penalty)
        self.hooks.save(is_best=is_best)
        # of a phase that keeps its last epoch, no other one is announced as the best
        state.stopped = self.hooks.on_epoch(row, is_best and not self.phase.keeps_last)
        if self.is_done:
            self.hooks.finish()
            self.trainer.stop_training = True

    def _read_loss(self) -> float:
        self._bring_back()
        return float(self.trainer.metrics[0].result())

    def _bring_back(self) -> None:
        """Give the variables their values back, which JAX keeps elsewhere during an epoch."""
        sync = getattr(self.trainer, "jax_state_sync", None)
        if sync is not None:
            sync()

    def _measure(self, epoch: int, logs: Any) -> EpochRow:
        return EpochRow(
            epoch=self.state.phase_start + epoch + 1,
            phase=self.phase.name,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_loss=float(logs["val_loss"]) if self.val_images else None,
            val_accuracy=float(logs["val_accuracy"]) if self.val_images else None,
            learning_rate=self._rate_at(
                self._step if self.pacer else (epoch + 1) * len(self.batches) - 1
            ),
            seconds=round(time.perf_counter() - self._started, 3),
            data_wait_s=round(max(0.0, self.batches.wait_s - self._waited), 3),
        )

    def _set_rate(self) -> None:
        rate = self._rate_at(self._step)
        if rate != self._rate:
            self._bring_back()
            self.trainer.optimizer.learning_rate = self._rate = rate

    def _rate_at(self, step: int) -> float:
        if self.pacer is not None:
            rate = self.pacer.rate(step)
        else:
            total = len(self.batches) * self.epochs
            rate = learning_rate_at(step, self.phase.optimizer, total=total)
        return rate * self.state.plateau_factor

    def _advance(self, steps: int) -> None:
        """Report how many steps of the epoch are done."""
        shown = steps * self.batches.count // len(self.batches)
        self.hooks.task.advance(shown - self._shown)
        self._shown = shown

    def _describe(self, epoch: int) -> None:
        """Show the epoch and its mean training loss so far, at first that of the epoch before."""
        self._described = time.perf_counter()
        loss = "" if self._loss is None else f", loss {self._loss:.4f}"
        epochs = str(self.epochs)
        if self.pacer is not None:
            epochs = f"about {self.pacer.epochs:.1f}"
            planned = self.pacer.epochs - self._first
            self.hooks.task.expect(round(planned * self.batches.count))
        self.hooks.task.describe(f"epoch {epoch + 1}/{epochs}{loss}")

    def _check_loss(self, loss: float, *, step: int) -> None:
        if math.isfinite(loss):
            return
        if self.phase.may_diverge:
            self.state.diverged = self.trainer.stop_training = True
        else:
            what = "NaN" if math.isnan(loss) else "infinite"
            raise DivergedError(
                f"loss became {what} in epoch {self.state.epoch + 1}, step {step}, of phase "
                f"{self.phase.name}; training was stopped",
                f"use a lower {self.phase.remedy} or --precision float32; the best epoch before it "
                "is kept",
            )
