"""Fits a network to batches: compiles, runs the epochs, keeps the best and the last checkpoint."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnclf.config import OptimizerConfig, TrainingConfig
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runtime.fused_norms import fuse_norms
from cnnclf.signals import Interrupts
from cnnclf.training.epochs import EpochListener
from cnnclf.training.fitting.callbacks import Conductor, FitHooks
from cnnclf.training.fitting.checkpoints import BundleContent, Checkpoints
from cnnclf.training.fitting.margins import MarginMeter
from cnnclf.training.fitting.optimizers import WeightAverage, build_optimizer
from cnnclf.training.fitting.pacing import Pacer
from cnnclf.training.fitting.state import TrainingState, load_state
from cnnclf.training.fitting.tracing import Tracer
from cnnclf.training.fitting.weight_path import WeightPath

if TYPE_CHECKING:
    import keras

    from cnnclf.training.feeding.batches import Batches


_MAX_EPOCHS = 1_000_000  # of a phase that ends by its time


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own settings.

    Args:
        name: For the history.
        training: Settings in which nothing is "auto".
        optimizer: Settings in which nothing is "auto".
        scales: Factor of the learning rate of a variable, by the id of the variable.
        may_diverge: Whether a NaN loss ends only the phase, not the run.
        remedy: The options that help against a NaN loss.
        averaged_epochs: Over how many epochs the val accuracy is averaged to find the best.
        by_loss: Whether the best is the one with the lowest val loss instead.
        keeps_last: Whether the last epoch is the best, whatever val says.
        budget_s: Seconds of the whole run, which the schedule is laid for instead of epochs.
        final_images: With it, images that are evaluated after the last epoch.
        final_s: With it, seconds of what else is evaluated then, if they are known.
        is_capped: With it, whether the epochs of `training` are the most that are trained.
        spent: With it, returns the seconds that the run has taken, in earlier processes, too.
        must_win: Whether to stop once val can hardly become as accurate as in earlier phases.
    """

    name: str
    training: TrainingConfig
    optimizer: OptimizerConfig
    scales: Mapping[int, float] | None = None
    may_diverge: bool = False
    remedy: str = "--learning-rate, --clip-norm 1"
    averaged_epochs: int = 1
    by_loss: bool = False
    keeps_last: bool = False
    budget_s: float | None = None
    final_images: int = 0
    final_s: float = 0.0
    is_capped: bool = False
    spent: Callable[[], float] = float
    must_win: bool = False


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
    on_epoch: EpochListener,
    progress: Progress,
    part: "keras.Model | None" = None,
    state: TrainingState | None = None,
    save_every_s: float = 0.0,
    margins: MarginMeter | None = None,
    compiled: dict[str, Any] | None = None,
) -> TrainingState:
    """Train `net` until its epochs or its patience end.

    The network itself is never compiled, so a bundle holds no optimizer; a second Keras model over
    the same layers is.

    Args:
        net: From pixels 0..255 to logits.
        phase: How to train.
        batches: Training batches.
        val_batches: Batches to score epochs on; None: the last epoch is the best.
        run: Where checkpoints go.
        content: Content of the bundles.
        scope: Returns the scope in which variables are created (several devices).
        jit_compile: Whether to compile with XLA.
        resume: Continue from the last checkpoint.
        on_epoch: Receives each epoch, and whether it is the best so far; may ask to stop.
        progress: Receives the steps.
        part: The model that is trained, from the content of the batches to logits, sharing its
            weights with `net`; None: `net` itself.
        state: The state after the earlier phases; None: this is the first.
        save_every_s: Minimum seconds between checkpoints, for epochs shorter than it takes to write
            one; the best epoch is kept in memory in the meantime.
        margins: Measures the training images after some epochs.
        compiled: What was compiled for the same layers before, by phase; this phase is added.

    Raises:
        RunError: The loss became NaN, or the state to continue from is damaged.
    """
    epochs = _resolved(phase.training.epochs)
    trained = net if part is None else part
    compiled = {} if compiled is None else compiled
    trainer = compiled.get(phase.name)
    if trainer is None:
        steps = len(batches) * epochs
        with scope():
            trainer = compile_phase(phase, trained, steps=steps, jit_compile=jit_compile)
        compiled[phase.name] = trainer
    if resume:
        state = load_state(run.find_checkpoint("last"), net=trained, optimizer=trainer.optimizer)
    else:
        state = state or TrainingState()
        state.begin_phase(phase.name)
    pacer = _build_pacer(phase, state, batches=batches, val_batches=val_batches)
    epochs = epochs if pacer is None else _MAX_EPOCHS
    average = WeightAverage(trainer, trainer.optimizer, active=phase.optimizer.ema > 0)
    checkpoints = Checkpoints(
        net, trained, trainer=trainer, run=run, content=content, state=state, average=average,
        every_s=save_every_s,
    )  # fmt: skip
    planned = (epochs if pacer is None else pacer.epochs) - state.phase_epoch
    progress.note("compiling")  # Keras does so with the first batch
    with (
        progress.task("training", round(planned * batches.count), unit="images") as task,
        Interrupts() as interrupts,
    ):
        conductor = Conductor(
            trainer,
            state,
            phase,
            epochs=epochs,
            patience=_resolved(phase.training.patience),
            batches=batches,
            val_images=0 if val_batches is None else val_batches.count,
            hooks=FitHooks(
                save=checkpoints.save,
                finish=checkpoints.finish,
                on_epoch=on_epoch,
                task=task,
                check_interrupt=interrupts.check,
            ),
            perfect_loss=_bound_loss(phase.training, classes=trained.outputs[0].shape[-1]),
            pacer=pacer,
        )
        callbacks = [average.as_callback(), conductor.as_callback()]
        tracer = None
        if phase.training.trace:
            path = WeightPath(trainer, run, done=state.epoch) if part is None else None
            first, done = state.phase_start, state.epoch
            tracer = Tracer(trainer, batches, run=run, first_epoch=first, done=done, path=path)
            before, after = tracer.as_callbacks()
            callbacks = [callbacks[0], before, callbacks[1], after]
        if margins is not None:
            callbacks.append(margins.as_callback(trainer, done=state.epoch))
        try:
            if not conductor.is_done:  # it may be, if it was interrupted while being tested
                _run_epochs(
                    trainer,
                    batches,
                    val_batches=val_batches,
                    first=state.phase_epoch,
                    epochs=epochs,
                    callbacks=callbacks,
                )
        finally:  # no epoch is lost, whatever ended this
            checkpoints.write()
    if tracer is not None and state.seconds:
        progress.note(tracer.finish(state))
    if conductor.ending is not None:
        state.endings.append(f"{phase.name} stopped after epoch {state.epoch}: {conductor.ending}")
        progress.note(state.endings[-1])
    return state


def compile_phase(
    phase: Phase, trained: "keras.Model", *, steps: int, jit_compile: bool
) -> "keras.Model":
    """Compile a second model over the layers of a network.

    Args:
        phase: How to train.
        trained: The network, or the part of it that is trained.
        steps: Of all epochs.
        jit_compile: Whether to compile with XLA.
    """
    import keras

    if not jit_compile:
        fuse_norms(trained)
    trainer = keras.Model(trained.inputs, trained.outputs, name="trainer")
    trainer.compile(
        build_optimizer(
            phase.optimizer,
            total_steps=None if phase.budget_s else steps,
            scales=phase.scales,
        ),
        loss=build_loss(phase.training),
        metrics=["accuracy"],
        weighted_metrics=[],
        jit_compile=jit_compile,
    )
    trainer.optimizer.build(trainer.trainable_variables)
    # without variables that are made by the first step, TensorFlow traces the step once, not twice
    logits = keras.ops.zeros((1, trainer.output_shape[-1]))
    trainer.compute_metrics(None, logits, logits)
    trainer.reset_metrics()
    return trainer


def _run_epochs(
    trainer: "keras.Model",
    batches: "Batches",
    *,
    val_batches: "Batches | None",
    first: int,
    epochs: int,
    callbacks: "list[keras.callbacks.Callback]",
) -> None:
    """Train from one epoch to another, and raise the error of a feeding thread as it was."""
    val = None if val_batches is None else val_batches.as_keras(first, epochs)
    try:
        trainer.fit(
            batches.as_keras(first, epochs),
            steps_per_epoch=len(batches),
            initial_epoch=first,
            epochs=epochs,
            validation_data=val,
            validation_steps=None if val_batches is None else len(val_batches),
            callbacks=callbacks,
            shuffle=False,  # batches come shuffled
            verbose=0,
        )
    finally:
        # a framework hides the error of a feeding thread in an error of its own
        for source in (batches, val_batches):
            if source is not None and source.error is not None:
                raise source.error


def _build_pacer(
    phase: Phase,
    state: TrainingState,
    *,
    batches: "Batches",
    val_batches: "Batches | None",
) -> Pacer | None:
    """Make the pacer of a phase that has a time."""
    if phase.budget_s is None:
        return None
    steps, epochs = len(batches), _resolved(phase.training.epochs)
    state.planned_steps = state.planned_steps or steps * epochs
    return Pacer(
        phase.budget_s,
        phase.spent,
        state,
        phase.optimizer,
        steps=steps,
        batch_size=batches.batch_size,
        val_images=0 if val_batches is None else val_batches.count,
        final_images=phase.final_images,
        final_s=phase.final_s,
        max_epochs=epochs if phase.is_capped else None,
    )


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


def _bound_loss(settings: TrainingConfig, *, classes: int) -> float:
    """Return the val loss that counts as perfect; smoothed labels add their entropy to any loss."""
    smoothing = settings.label_smoothing
    if not settings.perfect_loss or not smoothing:
        return settings.perfect_loss
    other = smoothing / classes
    own = 1 - smoothing + other
    entropy = -own * math.log(own) - (classes - 1) * other * math.log(other)
    return settings.perfect_loss + entropy


def _resolved(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected a resolved setting, received {value!r}")
    return value
