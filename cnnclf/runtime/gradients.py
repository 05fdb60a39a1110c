"""Gradients with respect to pixels, feature maps and weights, which Keras does not offer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DeviceError

Arrays = list[npt.NDArray[np.float32]]
Gradient = Callable[[npt.NDArray[Any], npt.NDArray[Any]], tuple[Arrays, Arrays]]
"""From float pixels [n, H, W, C] and weights [n, K] to the values of all outputs of a model, and
the gradients of sum(weights * last output) with respect to the pixels and all other outputs."""


def build_gradient(model: Any) -> Gradient:
    """Build the function that differentiates the last output of a model.

    Args:
        model: A functional `keras.Model` from pixels to a list of tensors; the last one has the
            shape of the weights, such as logits [n, K], and depends on all others.

    Returns:
        A function that computes one batch in inference mode.

    Raises:
        DeviceError: The backend of Keras is not TensorFlow.
    """
    check_gradients()
    import keras
    import tensorflow as tf

    # XLA halves the speed on a CPU; shapes differ only in the batch
    @tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def differentiate(pixels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(pixels)  # also makes the tape record layers that are not trainable
            outputs = keras.tree.flatten(model(pixels, training=False))
            target = tf.reduce_sum(tf.cast(outputs[-1], tf.float32) * weights)
        sources = [pixels, *outputs[:-1]]
        zero = tf.UnconnectedGradients.ZERO
        return outputs, tape.gradient(target, sources, unconnected_gradients=zero)

    def gradient(pixels: npt.NDArray[Any], weights: npt.NDArray[Any]) -> tuple[Arrays, Arrays]:
        outputs, gradients = differentiate(
            tf.constant(pixels, tf.float32), tf.constant(weights, tf.float32)
        )
        return _to_numpy(outputs), _to_numpy(gradients)

    return gradient


def build_weight_gradient(
    model: Any, tensors: Sequence[Any], *, variables: Sequence[Any]
) -> Gradient:
    """Build the function that differentiates the loss of a compiled model with respect to weights.

    Args:
        model: A compiled functional `keras.Model` from pixels to logits.
        tensors: Symbolic tensors of its graph.
        variables: What to differentiate with respect to.

    Returns:
        From images [n, H, W, C] and labels float [n, K] to the values of the tensors and one
        gradient per variable, in training mode; the model is the same afterwards.

    Raises:
        DeviceError: The backend of Keras is not TensorFlow.
    """
    check_gradients()
    import keras
    import tensorflow as tf

    part = keras.Model(model.inputs, [*tensors, model.outputs[0]])

    @tf.function(jit_compile=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def differentiate(images: Any, labels: Any) -> Any:
        # moving averages and the states of dropout, which a pass in training mode changes
        kept = [(each, tf.identity(each.value)) for each in part.non_trainable_variables]
        watched = [each.value for each in variables]
        with tf.GradientTape() as tape:
            *values, logits = keras.tree.flatten(part(images, training=True))
            loss = model.loss(labels, tf.cast(logits, tf.float32))
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(loss, watched, unconnected_gradients=zero)
        for variable, value in kept:
            variable.assign(value)
        return [tf.cast(each, tf.float32) for each in values], gradients

    def gradient(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[Arrays, Arrays]:
        values, gradients = differentiate(tf.constant(images, tf.float32), tf.constant(labels))
        return _to_numpy(values), _to_numpy(gradients)

    return gradient


def check_gradients() -> None:
    """Check that gradients can be computed.

    Raises:
        DeviceError: The backend of Keras is not TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise DeviceError(
            f"gradients need the TensorFlow backend (KERAS_BACKEND={keras.backend.backend()})",
            "unset KERAS_BACKEND",
        )


def _to_numpy(tensors: Sequence[Any]) -> Arrays:
    return [np.asarray(each.numpy(), np.float32) for each in tensors]
