"""Muon for convolution kernels (Jordan et al., 2024), AdamW for everything else."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# quintic iteration and its coefficients: Jordan et al., "Muon: An optimizer for hidden layers in
# neural networks", 2024; all figures of docs/decisions/0004-default-training.md are with three
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 3
_EPSILON = 1e-7
_CONVOLUTION = 4  # dimensions: height, width, input channels, filters
_BETA_2 = 0.99  # runs are short: 0.999 would average over most of one

ADAM_RATIO = 0.04
"""Learning rate of all other weights, as a fraction of that of the kernels."""


def muon_class() -> "type[keras.Optimizer]":
    """Make an optimizer class whose learning rate is the relative change of a kernel in one step.

    The kernel of a convolution is a matrix with one column per filter. Its step is the momentum
    with all singular values made about equal, as long as the learning rate times the kernel, and
    the kernel keeps the norm that it began with: under batch normalization its length would only
    change the effective learning rate. So it has no weight decay. Dense layers, biases and batch
    normalization are trained by AdamW, with `ADAM_RATIO` of the learning rate.
    """
    import keras

    ops = keras.ops

    class Muon(keras.optimizers.AdamW):  # type: ignore[misc]
        def __init__(self, *, kernel_momentum: float, weight_decay: float, **shared: Any) -> None:
            super().__init__(weight_decay=weight_decay * ADAM_RATIO, beta_2=_BETA_2, **shared)
            self.kernel_momentum = kernel_momentum

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = ops.cast(learning_rate, variable.dtype)
            if not _is_kernel(variable):
                super().update_step(gradient, variable, rate * ADAM_RATIO)
                return
            moment = self._momentums[self._get_variable_index(variable)]
            self.assign(moment, self.kernel_momentum * moment + ops.cast(gradient, variable.dtype))
            # Nesterov: as if the next gradient were this one, too
            ahead = self.kernel_momentum * moment + ops.cast(gradient, variable.dtype)
            step = orthogonalize(_as_matrix(ahead))
            kernel = _as_matrix(variable)
            norm = _norm(kernel)
            kernel = kernel - rate * norm * step / min(kernel.shape) ** 0.5
            kernel = kernel * (norm / (_norm(kernel) + _EPSILON))
            self.assign(variable, ops.reshape(kernel, variable.shape))

        def _apply_weight_decay(self, variables: Any) -> None:
            super()._apply_weight_decay([each for each in variables if not _is_kernel(each)])

    return Muon


def orthogonalize(matrix: Any) -> Any:
    """Make all singular values of a matrix about 1, by Newton-Schulz iterations.

    Args:
        matrix: (rows, columns), of any scale.

    Returns:
        A matrix with the same singular vectors and singular values between 0.5 and 1.3, but for
        those that were less than about a hundredth of the largest.
    """
    import keras

    ops = keras.ops
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = ops.transpose(matrix) if is_tall else matrix
    wide = wide / (_norm(wide) + _EPSILON)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = ops.matmul(wide, ops.transpose(wide))
        wide = a * wide + ops.matmul(b * square + c * ops.matmul(square, square), wide)
    return ops.transpose(wide) if is_tall else wide


def _is_kernel(variable: Any) -> bool:
    return len(variable.shape) == _CONVOLUTION


def _as_matrix(kernel: Any) -> Any:
    import keras

    return keras.ops.reshape(kernel, (-1, kernel.shape[-1]))


def _norm(matrix: Any) -> Any:
    import keras

    return keras.ops.sqrt(keras.ops.sum(keras.ops.square(matrix)))
