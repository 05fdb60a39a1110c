"""Chooses learning rate and weight decay of a linear head on cached features.

Each candidate is a whole short training of a linear softmax classifier with AdamW (Loshchilov and
Hutter, 2019) in NumPy, which takes about a second, where building and compiling a model for each
would take longer than training it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnclf.config import OptimizerConfig
from cnnclf.training.features import Features
from cnnclf.training.schedule import learning_rate_at

Array = npt.NDArray[np.float32]

LEARNING_RATES = (1e-3, 3e-3, 1e-2)
WEIGHT_DECAYS = (0.01, 0.3)

_MOST_PICTURES = 8192
_MOST_EPOCHS = 20
_STREAM = 4  # chance of its own
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7


@dataclass(frozen=True)
class HeadTrial:
    """One candidate and what it came to on val.

    Args:
        learning_rate: Highest rate of the cosine schedule.
        weight_decay: Decoupled, of the kernel.
        val_accuracy: At the end.
        val_loss: Cross-entropy at the end.
    """

    learning_rate: float
    weight_decay: float
    val_accuracy: float
    val_loss: float


def search_head(
    train: Features,
    val: Features,
    labels: npt.NDArray[np.int32],
    *,
    num_classes: int,
    candidates: list[tuple[float, float]],
    epochs: int,
    batch_size: int,
    dropout: float,
    label_smoothing: float,
    seed: int,
) -> list[HeadTrial]:
    """Train a linear head for each candidate.

    Args:
        train: Pooled features, of which the first views are used.
        val: Pooled features of the val split.
        labels: The class of every row of the dataset.
        num_classes: K.
        candidates: Learning rate and weight decay of each.
        epochs: Epochs of the head's phase; at most 20 are tried.
        batch_size: Pictures per step.
        dropout: Of the features.
        label_smoothing: As in training.
        seed: Where chance begins.

    Returns:
        The trials, the best first: by accuracy on val, then by loss.
    """
    rng = np.random.default_rng((_STREAM, seed))
    count = len(train.rows)
    chosen = np.sort(rng.permutation(count)[:_MOST_PICTURES])
    x = train.gather(chosen).astype(np.float32)
    y = np.eye(num_classes, dtype=np.float32)[labels[train.rows[chosen]]]
    y = y * (1 - label_smoothing) + label_smoothing / num_classes
    val_rows = np.arange(len(val.rows))[:_MOST_PICTURES]
    val_x, val_y = val.gather(val_rows).astype(np.float32), labels[val.rows[val_rows]]
    trials = []
    for rate, decay in candidates:
        settings = OptimizerConfig(learning_rate=rate, weight_decay=decay)
        kernel, bias = _train(
            x,
            y,
            settings,
            epochs=min(epochs, _MOST_EPOCHS),
            batch_size=batch_size,
            dropout=dropout,
            rng=np.random.default_rng((_STREAM, seed, 1)),
        )
        accuracy, loss = _judge(val_x @ kernel + bias, val_y)
        trials.append(HeadTrial(rate, decay, accuracy, loss))
    return sorted(trials, key=lambda trial: (-trial.val_accuracy, trial.val_loss))


def _train(
    x: Array,
    y: Array,
    settings: OptimizerConfig,
    *,
    epochs: int,
    batch_size: int,
    dropout: float,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    kernel = rng.normal(0, 0.01, (x.shape[1], y.shape[1])).astype(np.float32)
    bias = np.zeros(y.shape[1], np.float32)
    moments = [[np.zeros_like(each), np.zeros_like(each)] for each in (kernel, bias)]
    steps = max(1, -(-len(x) // batch_size))
    step = 0
    for _ in range(epochs):
        for part in np.array_split(rng.permutation(len(x)), steps):
            rate = learning_rate_at(step, steps * epochs, settings)
            step += 1
            inputs = x[part]
            if dropout:
                inputs = inputs * (rng.random(inputs.shape, np.float32) >= dropout)
                inputs /= 1 - dropout
            error = (_softmax(inputs @ kernel + bias) - y[part]) / len(part)
            kernel *= 1 - rate * settings.weight_decay
            for weight, gradient, (first, second) in zip(
                (kernel, bias), (inputs.T @ error, error.sum(axis=0)), moments, strict=True
            ):
                first[...] += (1 - _BETA1) * (gradient - first)
                second[...] += (1 - _BETA2) * (gradient * gradient - second)
                scale = np.float32(rate * np.sqrt(1 - _BETA2**step) / (1 - _BETA1**step))
                weight[...] -= scale * first / (np.sqrt(second) + _EPSILON)
    return kernel, bias


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _judge(logits: Array, labels: npt.NDArray[np.int32]) -> tuple[float, float]:
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return accuracy, float(np.mean(log_sum - shifted[np.arange(len(labels)), labels]))
