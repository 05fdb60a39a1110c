"""Convolution, activation and pooling in NumPy, exactly as layers of Keras compute them.

Tests compare every combination that Keras has with its layers. Padding with other values than
zeros, and a stride together with a dilation, are more than Keras's layers offer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import UsageError
from cnnclf.explainers.filter_table import Kernel
from cnnclf.models.receptive_field import count_positions, pad_total

Maps = npt.NDArray[np.float64]

_PAD_MODES = {"zeros": "constant", "constant": "constant", "reflect": "reflect", "edge": "edge"}


@dataclass(frozen=True)
class Sliding:
    """How a window moves.

    Args:
        stride: Pixels between neighboring positions.
        dilation: Pixels between neighboring weights.
        padding: `valid` or `same`.
        pad_mode: zeros, constant, reflect or edge.
        pad_value: Of constant padding.
    """

    stride: int = 1
    dilation: int = 1
    padding: str = "valid"
    pad_mode: str = "zeros"
    pad_value: float = 0.0

    def describe(self) -> str:
        """Return how the window moves, in words for users."""
        words = [f"stride {self.stride}", f"{self.padding} padding"]
        words += [f"dilation {self.dilation}"] if self.dilation > 1 else []
        if self.padding == "same" and self.pad_mode != "zeros":
            value = f" {self.pad_value:g}" if self.pad_mode == "constant" else ""
            words.append(f"pad mode {self.pad_mode}{value}")
        return ", ".join(words)

    def reach(self, side: int) -> int:
        """Return the pixels that a kernel side covers, gaps included."""
        return (side - 1) * self.dilation + 1

    def pads(self, size: int, side: int) -> tuple[int, int]:
        """Return the pixels added before and after an axis; the odd one is after, as in Keras."""
        if self.padding == "valid":
            return 0, 0
        total = pad_total(size, side, stride=self.stride, dilation=self.dilation)
        return total // 2, total - total // 2

    def count(self, size: int, side: int) -> int:
        """Return the positions along an axis."""
        return count_positions(
            size, side, stride=self.stride, same=self.padding == "same", dilation=self.dilation
        )

    def formula(self, size: int, side: int) -> str:
        """Return how many positions there are, with the numbers filled in."""
        before, after = self.pads(size, side)
        padded = f" + {before} + {after}" if self.padding == "same" else ""
        return (
            f"floor(({size}{padded} - {self.reach(side)}) / {self.stride}) + 1 = "
            f"{self.count(size, side)}"
        )


@dataclass(frozen=True, eq=False)
class Convolved:
    """What a filter gives for an image.

    Args:
        image: [H, W, C].
        kernel: The filter.
        sliding: How it moved.
        per_channel: [h, w, C], before channels are added.
    """

    image: Maps
    kernel: Kernel
    sliding: Sliding
    per_channel: Maps

    @cached_property
    def summed(self) -> Maps:
        """The output of the layer before its activation: all channels and the bias, [h, w]."""
        return np.asarray(self.per_channel.sum(axis=2) + self.kernel.bias)

    def arithmetic(self, row: int, column: int) -> "Arithmetic":
        """Return how one output value is computed.

        Raises:
            UsageError: There is no such place.
        """
        rows, columns = self.summed.shape
        if not (0 <= row < rows and 0 <= column < columns):
            raise UsageError(
                f"--show-arithmetic {row},{column}: the result has rows 0 to {rows - 1} and "
                f"columns 0 to {columns - 1}"
            )
        weights = spread(self.kernel.weights, self.image.shape[2])
        window = _windows(self.image, weights.shape[:2], self.sliding)[row, column]
        return Arithmetic(np.moveaxis(window, 0, -1), weights, self.kernel.bias)


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """One output value: window and weights, [kh, kw, C] each, and the bias."""

    window: Maps
    weights: Maps
    bias: float

    @property
    def products(self) -> Maps:
        """Window times weights, [kh, kw, C]."""
        return self.window * self.weights

    @property
    def total(self) -> float:
        """The sum of all products and the bias."""
        return float(self.products.sum() + self.bias)


def convolve(image: Maps, kernel: Kernel, *, sliding: Sliding) -> Convolved:
    """Slide a filter over an image, channel by channel.

    Args:
        image: float64 [H, W, C].
        kernel: [kh, kw] or [kh, kw, C].
        sliding: Stride, dilation and padding.

    Raises:
        UsageError: The kernel is larger than the image, or the image too small to be reflected.
    """
    weights = spread(kernel.weights, image.shape[2])
    _check_fit(image, weights, sliding)
    windows = _windows(image, weights.shape[:2], sliding)
    per_channel = np.einsum("hwcij,ijc->hwc", windows, weights, optimize=True)
    return Convolved(image, kernel, sliding, np.asarray(per_channel))


def spread(weights: Maps, channels: int) -> Maps:
    """Return [kh, kw, C]: a kernel without channels is the same for all of them.

    Raises:
        UsageError: It has other channels.
    """
    if weights.ndim == 2:
        return np.repeat(weights[:, :, None], channels, axis=2)
    if weights.shape[2] != channels:
        raise UsageError(f"the filter has {weights.shape[2]} channels, the image {channels}")
    return weights


def activate(values: Maps, name: str) -> Maps:
    """Apply an activation of Keras by its name, or none."""
    return np.asarray(_ACTIVATIONS[name](values), np.float64)


def pool_maps(values: Maps, kind: str, *, size: int) -> Maps:
    """Pool feature maps in windows side by side; the rest at the right and below is not used.

    Args:
        values: [h, w].
        kind: `max` or `average`.
        size: Side of the window.

    Raises:
        UsageError: The window is larger than the maps.
    """
    if size > min(values.shape):
        raise UsageError(
            f"--pool-size {size}: the window is larger than the result before it, "
            f"{values.shape[0]}x{values.shape[1]}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(values, (size, size))[::size, ::size]
    reduce: Any = np.max if kind == "max" else np.mean
    return np.asarray(reduce(windows, axis=(2, 3)))


def _sigmoid(values: Maps) -> Maps:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # never overflows


def _below_zero(values: Maps) -> Maps:
    """Return exp(x) - 1 where x is negative, else 0."""
    return np.expm1(np.minimum(values, 0.0))


def _gelu(values: Maps) -> Maps:
    from scipy.special import ndtr

    return np.asarray(values * ndtr(values))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., 2017

_ACTIVATIONS: dict[str, Callable[[Maps], Maps]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, _below_zero(x)),
    "selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * _below_zero(x)),
    "gelu": _gelu,
    "swish": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}


def _windows(image: Maps, sides: tuple[int, ...], sliding: Sliding) -> Maps:
    """Return a view [h, w, C, kh, kw] of the padded image."""
    pads = [sliding.pads(size, side) for size, side in zip(image.shape, sides, strict=False)]
    mode: Any = _PAD_MODES[sliding.pad_mode]
    value = sliding.pad_value if sliding.pad_mode == "constant" else 0.0
    fill = {"constant_values": value} if mode == "constant" else {}
    padded = np.pad(image, [*pads, (0, 0)], mode=mode, **fill)
    reach = tuple(sliding.reach(side) for side in sides)
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(0, 1))
    step, gap = sliding.stride, sliding.dilation
    return view[::step, ::step, :, ::gap, ::gap]


def _check_fit(image: Maps, weights: Maps, sliding: Sliding) -> None:
    for size, side, what in zip(image.shape, weights.shape, ("high", "wide"), strict=False):
        if size < 1 or not sliding.count(size, side):
            raise UsageError(
                f"the kernel is larger than the image: it covers {sliding.reach(side)} pixels, and "
                f"the image is {size} {what}",
                "use --padding same, a smaller kernel or dilation, or a larger --image-size",
            )
        if sliding.pad_mode == "reflect" and max(sliding.pads(size, side)) >= size:
            raise UsageError(
                f"--pad-mode reflect: {max(sliding.pads(size, side))} pixels of padding need a "
                f"larger image than {size} pixels {what}",
                "use --pad-mode edge or a larger --image-size",
            )
