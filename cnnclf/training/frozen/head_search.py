"""Chooses learning rate and weight decay of the head on cached features.

Each candidate is a whole short training of the head with AdamW (Loshchilov and Hutter, 2019) in
NumPy, which takes about a second; building and compiling a Keras model for each would take longer
than training it.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cnnclf.config import HeadConfig, OptimizerConfig
from cnnclf.planning.finetune_plan import FinetunePlan, settle_head
from cnnclf.probabilities import softmax
from cnnclf.training.fitting.judging import measure
from cnnclf.training.fitting.schedule import learning_rate_at
from cnnclf.training.frozen.features import Features
from cnnclf.training.work import Work

Array = npt.NDArray[np.float32]
Layers = list[tuple[Array, Array]]
"""Kernel and bias of each dense layer."""

_MAX_IMAGES = 8192
_MAX_EPOCHS = 20
_FOLDS = 5
_STREAM = 4  # a random stream of its own
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7


@dataclass(frozen=True)
class HeadTrial:
    """One candidate and its result on val.

    Args:
        learning_rate: Peak rate of the schedule.
        weight_decay: Decoupled, of the kernels.
        val_accuracy: At the end.
        val_loss: Cross-entropy at the end.
    """

    learning_rate: float
    weight_decay: float
    val_accuracy: float
    val_loss: float


def choose_head(
    work: Work[FinetunePlan], features: tuple[Features, Features | None] | None
) -> HeadConfig:
    """Search the rates of the head, or use those an earlier search of this run chose.

    Args:
        work: The run; its record keeps the trials.
        features: Pooled features of train and val; without them, the usual rates are used.

    Returns:
        The settings of the head, without "auto".
    """
    head = work.plan.config.head
    if not head.search:
        return head
    if features is None or features[1] is None:
        return _settle_head(work)
    trials = work.run.read_record().get("head_search") if work.resume else None
    if trials is None:
        trials = [asdict(trial) for trial in _search(work, features[0], features[1])]
        work.run.update_run(head_search=trials)
    best = trials[0]
    return head.model_copy(update={key: best[key] for key in ("learning_rate", "weight_decay")})


def _settle_head(work: Work[FinetunePlan]) -> HeadConfig:
    """Use the usual rates if there is no room for the planned features."""
    head, reasons = settle_head(work.plan.config.head, work.plan.config.optimizer.name)
    rates = {key: getattr(head, key) for key in ("learning_rate", "weight_decay")}
    work.run.update_run(head_rates=rates)
    chosen = ", ".join(
        f"{key} = {rates[key.removeprefix('head.')]:g} ({reason})"
        for key, reason in reasons.items()
    )
    work.progress.note(f"no head search without cached features: {chosen}")
    return head


def _search(work: Work[FinetunePlan], train: Features, val: Features) -> list[HeadTrial]:
    config, head = work.plan.config, work.plan.config.head
    rates = head.search_rates if head.learning_rate == "auto" else [head.learning_rate]
    decays = head.search_decays if head.weight_decay == "auto" else [head.weight_decay]
    trials = search_head(
        train,
        val,
        labels=work.dataset.manifest.class_indices,
        num_classes=len(work.plan.labels),
        head=head,
        candidates=[(rate, decay) for rate in rates for decay in decays],
        batch_size=int(config.training.batch_size),
        label_smoothing=config.training.label_smoothing,
        seed=config.runtime.seed,
    )
    best = trials[0]
    work.progress.note(
        f"head search: of {len(trials)} settings, learning rate {best.learning_rate:g} with "
        f"weight decay {best.weight_decay:g} has the lowest val loss (accuracy "
        f"{best.val_accuracy:.4f}, that of the highest loss {trials[-1].val_accuracy:.4f})"
    )
    return trials


def count_right(
    work: Work[FinetunePlan],
    settings: OptimizerConfig,
    *,
    features: tuple[Features, Features | None] | None,
) -> int:
    """Count the images of train and val that heads get right which never saw them, in k folds.

    Args:
        work: The run.
        settings: Rates of the head.
        features: Pooled features of train and val.

    Returns:
        How many, if all are right; 0 if one is wrong or nothing is cached.
    """
    if features is None or features[1] is None:
        return 0
    config, seed = work.plan.config, work.plan.config.runtime.seed
    rng, classes = np.random.default_rng((_STREAM, seed, 2)), work.dataset.manifest.class_indices
    parts = [
        (part, np.sort(rng.permutation(part.readable)[: _MAX_IMAGES // 2]))
        for part in features
        if part is not None
    ]
    x = np.concatenate([part.gather(rows) for part, rows in parts]).astype(np.float32)
    truth = np.concatenate([classes[part.rows[rows]] for part, rows in parts])
    folds = np.array_split(rng.permutation(len(x)), min(_FOLDS, len(x)))
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(x)), fold)
        layers = _train(
            x[kept],
            _smooth(truth[kept], len(work.plan.labels), config.training.label_smoothing),
            settings,
            units=config.head.units,
            epochs=min(config.head.epochs, _MAX_EPOCHS),
            batch_size=int(config.training.batch_size),
            dropout=config.head.dropout,
            rng=np.random.default_rng((_STREAM, seed, 3)),
        )
        if (_run(layers, x[fold])[-1].argmax(axis=1) != truth[fold]).any():
            return 0
    return len(x)


def _smooth(truth: npt.NDArray[Any], classes: int, smoothing: float) -> Array:
    y: Array = np.eye(classes, dtype=np.float32)[truth] * np.float32(1 - smoothing)
    return y + np.float32(smoothing / classes)


def search_head(
    train: Features,
    val: Features,
    *,
    labels: npt.NDArray[np.int32],
    num_classes: int,
    head: HeadConfig,
    candidates: list[tuple[float, float]],
    batch_size: int,
    label_smoothing: float,
    seed: int,
) -> list[HeadTrial]:
    """Train a head for each candidate.

    Args:
        train: Pooled features, of which the first views are used.
        val: Pooled features of the val split.
        labels: The class of every row of the dataset.
        num_classes: K.
        head: Hidden units, dropout, schedule and epochs, of which at most 20 are tried.
        candidates: Learning rate and weight decay of each.
        batch_size: Images per step.
        label_smoothing: As in training.
        seed: Random seed.

    Returns:
        The trials, the best first: by loss on val, which few images tell better than accuracy.
    """
    rng = np.random.default_rng((_STREAM, seed))
    chosen = np.sort(rng.permutation(train.readable)[:_MAX_IMAGES])
    x = train.gather(chosen).astype(np.float32)
    y = _smooth(labels[train.rows[chosen]], num_classes, label_smoothing)
    val_rows = np.sort(rng.permutation(val.readable)[:_MAX_IMAGES])  # of all classes
    val_x, val_y = val.gather(val_rows).astype(np.float32), labels[val.rows[val_rows]]
    trials = []
    for rate, decay in candidates:
        settings = OptimizerConfig(
            learning_rate=rate, weight_decay=decay, schedule=head.schedule, warmup=head.warmup
        )
        layers = _train(
            x,
            y,
            settings,
            units=head.units,
            epochs=min(head.epochs, _MAX_EPOCHS),
            batch_size=batch_size,
            dropout=head.dropout,
            rng=np.random.default_rng((_STREAM, seed, 1)),
        )
        accuracy, negative_loss = measure(_run(layers, val_x)[-1], val_y)
        trials.append(HeadTrial(rate, decay, accuracy, -negative_loss))
    return sorted(trials, key=lambda trial: (trial.val_loss, -trial.val_accuracy))


def _train(
    x: Array,
    y: Array,
    settings: OptimizerConfig,
    *,
    units: int,
    epochs: int,
    batch_size: int,
    dropout: float,
    rng: np.random.Generator,
) -> Layers:
    layers = _build(x.shape[1], units, y.shape[1], rng)
    weights = [weight for layer in layers for weight in layer]
    moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
    steps = max(1, -(-len(x) // batch_size))
    shuffled = (
        part for _ in range(epochs) for part in np.array_split(rng.permutation(len(x)), steps)
    )
    # these matrices are so small that threads wait for each other longer than they compute
    with threadpool_limits(1, user_api="blas"):
        for step, part in enumerate(shuffled, 1):
            rate = learning_rate_at(step - 1, settings, total=steps * epochs)
            masks = [_draw_mask((len(part), len(kernel)), dropout, rng) for kernel, _ in layers]
            gradients = find_gradients(layers, x[part], y=y[part], masks=masks)
            for kernel, _ in layers:
                kernel[...] *= 1 - rate * settings.weight_decay
            scale = np.float32(rate * np.sqrt(1 - _BETA2**step) / (1 - _BETA1**step))
            for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
                first[...] += (1 - _BETA1) * (gradient - first)
                second[...] += (1 - _BETA2) * (gradient * gradient - second)
                weight[...] -= scale * first / (np.sqrt(second) + _EPSILON)
    return layers


def _build(inputs: int, units: int, classes: int, rng: np.random.Generator) -> Layers:
    """Draw weights as the head of the network draws them."""
    layers: Layers = []
    sizes = [inputs, *([units] if units else []), classes]
    for index, (size, next_size) in enumerate(pairwise(sizes)):
        is_last = index == len(sizes) - 2
        deviation = 0.01 if is_last else np.sqrt(2 / size)  # He et al., 2015
        kernel = rng.normal(0, deviation, (size, next_size))
        layers.append((kernel.astype(np.float32), np.zeros(next_size, np.float32)))
    return layers


def find_gradients(layers: Layers, x: Array, *, y: Array, masks: list[Array | None]) -> list[Array]:
    """Differentiate the mean cross-entropy of a head with dropout.

    Args:
        layers: Of which all but the last are followed by ReLU.
        x: float32 [n, inputs].
        y: float32 [n, K]; rows sum to 1.
        masks: For each layer a factor of its input, or None.

    Returns:
        Gradients in the order kernel, bias, kernel, bias.
    """
    *inputs, logits = _run(layers, x, masks)
    error: Array = (softmax(logits) - y) / np.float32(len(x))
    gradients: list[Array] = []
    for index in range(len(layers) - 1, -1, -1):
        gradients[:0] = [inputs[index].T @ error, error.sum(axis=0)]
        if index:
            mask = masks[index]
            error = (error @ layers[index][0].T) * (inputs[index] > 0)
            error = error if mask is None else error * mask
    return gradients


def _run(layers: Layers, x: Array, masks: list[Array | None] | None = None) -> list[Array]:
    """Return what goes into each layer, and the logits."""
    values = []
    for index, (kernel, bias) in enumerate(layers):
        if index:
            x = np.maximum(x, 0)
        mask = None if masks is None else masks[index]
        x = x if mask is None else x * mask
        values.append(x)
        x = x @ kernel + bias
    return [*values, x]


def _draw_mask(shape: tuple[int, int], dropout: float, rng: np.random.Generator) -> Array | None:
    if not dropout:
        return None
    return np.asarray((rng.random(shape, np.float32) >= dropout) / np.float32(1 - dropout))
