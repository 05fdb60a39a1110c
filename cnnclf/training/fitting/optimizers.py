"""Optimizers: which, at which rate for which weights, and the moving average of weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cnnclf.config import OptimizerConfig
from cnnclf.planning.choices import WITHOUT_DECAY, choose_momentum
from cnnclf.training.fitting.muon import muon_class
from cnnclf.training.fitting.schedule import build_schedule

if TYPE_CHECKING:
    import keras


def build_optimizer(
    settings: OptimizerConfig, *, total_steps: int | None, scales: Mapping[int, float] | None = None
) -> "keras.Optimizer":
    """Make the Keras optimizer with its schedule.

    Args:
        settings: With a resolved learning rate.
        total_steps: Steps of the whole run; None: the rate is set before each step.
        scales: Factor of the learning rate, and with it of the decoupled weight decay, of a
            variable, by its id; 1 for all others.
    """
    import keras

    # "plateau" depends on validation: its rate is set before each step
    is_set = settings.schedule == "plateau" or total_steps is None
    shared: dict[str, Any] = {
        "learning_rate": 1e-3 if is_set else build_schedule(total_steps or 1, settings),
        "global_clipnorm": settings.clip_norm or None,
        "weight_decay": None if settings.name in WITHOUT_DECAY else settings.weight_decay or None,
        "use_ema": settings.ema > 0,
        # 0.99 is Keras's default; unused without use_ema but checked all the same
        "ema_momentum": settings.ema or 0.99,
    }
    chosen = settings.momentum == "auto"
    momentum = float(choose_momentum(settings.name)[0] if chosen else settings.momentum)
    decay = {"weight_decay": settings.weight_decay}
    kinds: dict[str, tuple[type[keras.Optimizer], dict[str, Any]]] = {
        "sgd": (keras.optimizers.SGD, {"momentum": momentum, "nesterov": momentum > 0}),
        "adam": (keras.optimizers.Adam, {}),
        "adamw": (keras.optimizers.AdamW, decay),
        "rmsprop": (keras.optimizers.RMSprop, {"momentum": momentum}),
        "muon": (muon_class(), {"kernel_momentum": momentum} | decay),
    }
    kind, own = kinds[settings.name]
    optimizer = (scale_rates(kind, scales) if scales else kind)(**shared | own)
    # norms and biases are few and need no decay (He et al., "Bag of tricks", 2019)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def scale_rates(
    kind: "type[keras.Optimizer]", scales: Mapping[int, float]
) -> "type[keras.Optimizer]":
    """Make an optimizer class with a learning rate per variable; its scale is found by its id.

    Scaling gradients has no effect on the Adam family, which divides by their size. Therefore the
    optimizer updates one group of variables after the other, each with the rate and weight decay of
    its group. Every backend of Keras calls these two methods with all variables at once; tests fail
    if that changes.
    """

    class Scaled(kind):  # type: ignore[misc]
        weight_decay: float | None

        def _backend_update_step(self, grads: Any, variables: Any, learning_rate: Any) -> None:
            pairs = sorted(zip(grads, variables, strict=True), key=lambda pair: _scale(pair[1]))
            for scale, group in groupby(pairs, key=lambda pair: _scale(pair[1])):
                some_grads, some = zip(*group, strict=True)
                rate = learning_rate * scale
                super()._backend_update_step(list(some_grads), list(some), rate)

        def _apply_weight_decay(self, variables: Any) -> None:
            whole = self.weight_decay
            if whole is None:
                return
            # what is subtracted is rate x decay x weight
            for scale, group in groupby(sorted(variables, key=_scale), key=_scale):
                self.weight_decay = whole * scale
                super()._apply_weight_decay(list(group))
            self.weight_decay = whole

    def _scale(variable: Any) -> float:
        return scales.get(id(variable), 1.0)

    Scaled.__name__ = kind.__name__
    return Scaled


@dataclass(eq=False)
class WeightAverage:
    """The moving average of weights that an optimizer keeps (Polyak and Juditsky, 1992).

    With it, epochs are scored with the average and the best checkpoint holds the average, while
    training and the last checkpoint continue with the weights themselves.

    Args:
        net: The network.
        optimizer: Built with `use_ema` if `active`.
        active: Whether weights are averaged; if not, all methods do nothing.
    """

    net: "keras.Model"
    optimizer: "keras.Optimizer"
    _: KW_ONLY
    active: bool

    @contextmanager
    def in_net(self) -> Iterator[None]:
        """Hold the average in the network within a with statement."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def as_callback(self) -> "keras.callbacks.Callback":
        """Return a Keras callback that swaps the average in for validation."""
        import keras

        swap = self._swap

        class ShowAverage(keras.callbacks.Callback):  # type: ignore[misc]
            def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
                swap()

            def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
                swap()

        return ShowAverage()

    def _swap(self) -> None:
        if not self.active:
            return
        import keras

        # mixed_float16 wraps the optimizer in one that scales the loss
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        averages = optimizer._model_variables_moving_average  # noqa: SLF001 (no public door)
        for weight, average in zip(self.net.trainable_variables, averages, strict=True):
            held = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(held)
