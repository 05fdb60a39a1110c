"""Fits a network to batches: compiles, runs the epochs, keeps the best and the last checkpoint."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.config import OptimizerConfig, TrainingConfig
from cnnclf.files import atomic_directory
from cnnclf.inference.classifier import save_bundle
from cnnclf.progress import Progress
from cnnclf.runs import RunDirectory
from cnnclf.training.callbacks import Conductor, FitHooks
from cnnclf.training.interrupts import Interrupts
from cnnclf.training.schedule import build_schedule
from cnnclf.training.state import TrainingState, load_state, save_state

if TYPE_CHECKING:
    import keras

    from cnnclf.data.batches import Batches


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own settings.

    Args:
        name: For the history.
        training: Settings in which nothing is "auto".
        optimizer: Settings in which nothing is "auto".
    """

    name: str
    training: TrainingConfig
    optimizer: OptimizerConfig


@dataclass(frozen=True)
class BundleContent:
    """What `classifier.json` says beside the weights.

    Args:
        labels: In the order of the logits.
        input_spec: What the network sees.
        dataset: Name and fingerprint.
    """

    labels: tuple[str, ...]
    input_spec: Any
    dataset: dict[str, str]


def fit_phase(
    net: "keras.Model",
    phase: Phase,
    *,
    batches: "Batches",
    val_batches: "Batches | None",
    run: RunDirectory,
    content: BundleContent,
    scope: Callable[[], AbstractContextManager[Any]],
    jit_compile: bool,
    resume: bool,
    on_epoch: Callable[[dict[str, Any], bool], None],
    progress: Progress,
    part: "keras.Model | None" = None,
    state: TrainingState | None = None,
    save_every_s: float = 0.0,
) -> TrainingState:
    """Train `net` until its epochs are done or its patience is.

    The network itself is never compiled, so a bundle holds no optimizer; a second Keras model over
    the same layers is.

    Args:
        net: From pixels 0..255 to logits.
        phase: How to train.
        batches: Training batches.
        val_batches: What epochs are judged by; None: the last epoch is the best.
        run: Where checkpoints go.
        content: What bundles say.
        scope: Gives the scope in which variables are made (several devices).
        jit_compile: Whether to compile with XLA.
        resume: Go on from the last checkpoint.
        on_epoch: Told each row of history and whether it is the best so far.
        progress: Told the steps.
        part: What is trained, sharing its weights with `net`, from what the batches hold to logits;
            None: `net` itself.
        state: The memory of the phases before this one; None: it is the first.
        save_every_s: Seconds between checkpoints, for epochs that are shorter than it takes to
            write one; the best epoch is kept in memory meanwhile.

    Returns:
        The judge's memory, with the history.

    Raises:
        RunError: The loss is no longer a number, or the state to go on from is damaged.
    """
    import keras

    epochs = _resolved(phase.training.epochs)
    with scope():
        trained = net if part is None else part
        trainer = keras.Model(trained.inputs, trained.outputs, name="trainer")
        trainer.compile(
            build_optimizer(phase.optimizer, total_steps=len(batches) * epochs),
            loss=build_loss(phase.training),
            metrics=["accuracy"],
            weighted_metrics=[],
            jit_compile=jit_compile,
        )
        trainer.optimizer.build(trainer.trainable_variables)
    if resume:
        state = load_state(run.find_checkpoint("last"), trained, trainer.optimizer)
    else:
        state = state or TrainingState()
        state.begin_phase(phase.name)
    average = WeightAverage(trainer, trainer.optimizer, active=phase.optimizer.ema > 0)
    checkpoints = _Checkpoints(
        net, trained, trainer, run, content, state, average, every_s=save_every_s
    )
    steps = len(batches)
    with (
        progress.task("training", epochs * batches.count, "pictures") as task,
        Interrupts() as interrupts,
    ):
        task.advance(state.phase_epoch * batches.count)
        conductor = Conductor(
            trainer=trainer,
            state=state,
            optimizer=phase.optimizer,
            epochs=epochs,
            patience=_resolved(phase.training.patience),
            phase=phase.name,
            has_val=val_batches is not None,
            batches=batches,
            hooks=FitHooks(
                checkpoints.save_best, checkpoints.save_last, on_epoch, task, interrupts.check
            ),
        )
        try:
            if not conductor.is_done:  # it may be, if it was stopped while being tested
                trainer.fit(
                    batches.as_keras(state.phase_epoch, epochs),
                    steps_per_epoch=steps,
                    initial_epoch=state.phase_epoch,
                    epochs=epochs,
                    validation_data=(
                        None
                        if val_batches is None
                        else val_batches.as_keras(state.phase_epoch, epochs)
                    ),
                    validation_steps=None if val_batches is None else len(val_batches),
                    callbacks=[average.as_callback(), conductor.as_callback()],
                    shuffle=False,  # batches come shuffled
                    verbose=0,
                )
        finally:
            # a framework hides what went wrong in a feeding thread behind an error of its own
            for source in (batches, val_batches):
                if source is not None and source.error is not None:
                    raise source.error
    checkpoints.finish()
    return state


def build_optimizer(settings: OptimizerConfig, *, total_steps: int) -> "keras.Optimizer":
    """Make the Keras optimizer with its schedule.

    Args:
        settings: With a resolved learning rate.
        total_steps: Steps of the whole run.
    """
    import keras

    # "plateau" depends on what validation says: its rate is set at the beginning of each epoch
    on_plateau = settings.schedule == "plateau"
    shared: dict[str, Any] = {
        "learning_rate": 1e-3 if on_plateau else build_schedule(total_steps, settings),
        "global_clipnorm": settings.clip_norm or None,
        "weight_decay": settings.weight_decay or None,
        "use_ema": settings.ema > 0,
        # 0.99 is Keras's default; unused without use_ema but checked all the same
        "ema_momentum": settings.ema or 0.99,
    }
    makers: dict[str, Callable[[], keras.Optimizer]] = {
        "sgd": lambda: keras.optimizers.SGD(
            momentum=settings.momentum, nesterov=settings.momentum > 0, **shared
        ),
        "adam": lambda: keras.optimizers.Adam(**{**shared, "weight_decay": None}),
        "adamw": lambda: keras.optimizers.AdamW(
            **{**shared, "weight_decay": settings.weight_decay}
        ),
        "rmsprop": lambda: keras.optimizers.RMSprop(momentum=settings.momentum, **shared),
    }
    optimizer = makers[settings.name]()
    # norms and biases are few and need no decay (He et al., "Bag of tricks", 2019)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_loss(settings: TrainingConfig) -> "keras.losses.Loss":
    """Make the loss over logits and one-hot labels.

    The focal loss is that of Lin et al., 2017, without class weights.
    """
    import keras

    if settings.balance == "focal":
        return keras.losses.CategoricalFocalCrossentropy(
            alpha=1.0,
            gamma=settings.focal_gamma,
            from_logits=True,
            label_smoothing=settings.label_smoothing,
        )
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=settings.label_smoothing
    )


class WeightAverage:
    """The moving average of weights that an optimizer keeps (Polyak and Juditsky, 1992).

    With it, epochs are judged by the average and the best checkpoint holds the average, while
    training and the last checkpoint go on with the weights themselves.

    Args:
        net: The network.
        optimizer: Built with `use_ema` if `active`.
        active: Without it nothing here does anything.
    """

    def __init__(self, net: "keras.Model", optimizer: "keras.Optimizer", *, active: bool) -> None:
        self._net = net
        self._optimizer = optimizer
        self._active = active

    @contextmanager
    def in_net(self) -> Iterator[None]:
        """Hold the average in the network within a with statement."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def as_callback(self) -> "keras.callbacks.Callback":
        """Return the Keras callback that lets validation see the average."""
        import keras

        swap = self._swap

        class ShowAverage(keras.callbacks.Callback):  # type: ignore[misc]
            def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
                swap()

            def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
                swap()

        return ShowAverage()

    def _swap(self) -> None:
        if not self._active:
            return
        import keras

        # mixed_float16 wraps the optimizer in one that scales the loss
        optimizer = getattr(self._optimizer, "inner_optimizer", self._optimizer)
        averages = optimizer._model_variables_moving_average  # noqa: SLF001 (no public door)
        for weight, average in zip(self._net.trainable_variables, averages, strict=True):
            held = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(held)


class _Checkpoints:
    """Writes the best and the last checkpoint, not more often than every so many seconds.

    A best epoch that is not written yet is kept in memory, and always written before a last
    checkpoint that knows of it: whatever is lost, resuming never loses a better best.
    """

    def __init__(
        self,
        net: "keras.Model",
        trained: "keras.Model",
        trainer: "keras.Model",
        run: RunDirectory,
        content: BundleContent,
        state: TrainingState,
        average: WeightAverage,
        *,
        every_s: float,
    ) -> None:
        self._net = net
        self._trained = trained
        self._trainer = trainer
        self._run = run
        self._content = content
        self._state = state
        self._average = average
        self._every_s = every_s
        self._written = time.perf_counter()
        self._best: tuple[int, list[Any]] | None = None
        self._is_last_written = True

    def save_best(self) -> None:
        if self._is_due():
            self._best = None
            self._write_best(self._state.epoch)
            return
        import keras

        with self._average.in_net():
            weights = self._trainer.trainable_variables
            self._best = (
                self._state.epoch,
                [np.array(keras.ops.convert_to_numpy(each)) for each in weights],
            )

    def save_last(self) -> None:
        self._is_last_written = self._is_due()
        if self._is_last_written:
            self._write_pending()
            self._write_last()
            self._written = time.perf_counter()

    def finish(self) -> None:
        """Write what is not written yet."""
        self._write_pending()
        if not self._is_last_written:
            self._write_last()

    def _is_due(self) -> bool:
        return time.perf_counter() - self._written >= self._every_s

    def _write_pending(self) -> None:
        if self._best is None:
            return
        import keras

        epoch, best = self._best
        self._best = None
        weights = self._trainer.trainable_variables
        held = [np.array(keras.ops.convert_to_numpy(each)) for each in weights]
        for weight, value in zip(weights, best, strict=True):
            weight.assign(value)
        with atomic_directory(self._run.best) as directory:
            _save(directory, self._net, self._content, epoch)
        for weight, value in zip(weights, held, strict=True):
            weight.assign(value)

    def _write_best(self, epoch: int) -> None:
        with self._average.in_net(), atomic_directory(self._run.best) as directory:
            _save(directory, self._net, self._content, epoch)

    def _write_last(self) -> None:
        with atomic_directory(self._run.last) as directory:
            _save(directory, self._net, self._content, self._state.epoch)
            save_state(directory, self._state, self._trained, self._trainer.optimizer)


def _save(directory: Any, net: "keras.Model", content: BundleContent, epoch: int) -> None:
    save_bundle(
        directory,
        net,
        labels=content.labels,
        input_spec=content.input_spec,
        dataset=content.dataset,
        extra={"epoch": epoch},
    )


def _resolved(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected a resolved setting, received {value!r}")
    return value
