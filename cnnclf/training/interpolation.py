"""Weights between those of two phases, which are often better than either.

Fine-tuned weights fit the training images, pretrained ones fit more than these; between the two,
many networks are more accurate than at either end (Wortsman et al., "Robust fine-tuning of
zero-shot models", 2022). Nothing is trained again: each point is measured on val once.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnclf.training.fitting.judging import measure
from cnnclf.training.fitting.state import Score

if TYPE_CHECKING:
    import keras

Weights = list[npt.NDArray[Any]]

# Fractions of the way from the head to the tail; the tail itself comes first and wins ties.
FRACTIONS = (1.0, 0.75, 0.5, 0.25)


def read_part(net: "keras.Model", checkpoint: Path, *, part: "keras.Model") -> Weights:
    """Load a checkpoint into a network and return what is trained in a part of it.

    Args:
        net: The whole network; its weights change.
        checkpoint: The saved model.
        part: The part that a phase trains; shares its weights with `net`.

    Returns:
        Copies of the trainable weights of the part, in order.
    """
    import keras

    net.load_weights(checkpoint)
    return [np.array(keras.ops.convert_to_numpy(each)) for each in part.trainable_variables]


def choose_fraction(
    part: "keras.Model",
    *,
    head: Weights,
    tail: Weights,
    batches: Callable[[], Iterable[Sequence[Any]]],
    label_smoothing: float,
) -> float:
    """Return the fraction of the way from the head to the tail that is best on val.

    Args:
        part: From the content of the batches to logits; its weights are left at that place.
        head: Trainable weights of the part after the first phase.
        tail: The same after the second phase.
        batches: Starts over with the inputs and one-hot labels of the val images.
        label_smoothing: Of the loss that epochs are scored with.

    Returns:
        One of `FRACTIONS`; by loss, which few val images tell better than accuracy.
    """
    import keras

    # a model of its own, so that the part stays uncompiled and its files hold weights alone
    judge = keras.Model(part.inputs, part.outputs, name="between-phases")
    judge.compile(jit_compile=False)  # else Keras would use XLA, which is slower on a CPU
    scores: dict[float, Score] = {}
    for fraction in FRACTIONS:
        _assign(part, head, tail=tail, fraction=fraction)
        scores[fraction] = _score(judge, batches(), label_smoothing=label_smoothing)
    best = max(FRACTIONS, key=lambda each: scores[each][::-1])
    _assign(part, head, tail=tail, fraction=best)
    return best


def _assign(part: "keras.Model", head: Weights, *, tail: Weights, fraction: float) -> None:
    for variable, start, end in zip(part.trainable_variables, head, tail, strict=True):
        variable.assign(end if fraction == 1 else start + fraction * (end - start))


def _score(
    judge: "keras.Model", batches: Iterable[Sequence[Any]], *, label_smoothing: float
) -> Score:
    logits, truth = [], []
    for inputs, labels, *_ in batches:
        logits.append(np.asarray(judge.predict_on_batch(inputs)))
        truth.append(np.argmax(labels, axis=-1))
    return measure(np.concatenate(logits), np.concatenate(truth), label_smoothing=label_smoothing)
