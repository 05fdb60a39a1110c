"""Receptive fields: which pixels one output value of a layer depends on.

The arithmetic of Araujo, Norris and Sim, "Computing receptive fields of convolutional neural
networks" (Distill, 2019): a window of k values widens the field by (k - 1) times the distance of
neighboring values, and a stride multiplies that distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Field:
    """The receptive field along one axis.

    Args:
        size: Pixels that one output value depends on; 0 once it depends on the whole image.
        stride: Pixels between the fields of neighboring output values.
        offset: Center of the field of the first output value, in pixels from the center of the
            first pixel; negative if most of the field is padding.
    """

    size: int = 1
    stride: int = 1
    offset: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether an output value depends on the whole image."""
        return self.size == 0

    def slide(self, window: int, *, stride: int, padded: int, dilation: int = 1) -> "Field":
        """Return the field after a window slid over the values."""
        if self.is_whole:
            return self
        reach = (window - 1) * dilation
        return Field(
            self.size + reach * self.stride,
            self.stride * stride,
            self.offset + (reach / 2 - padded) * self.stride,
        )

    def shift(self, values: int) -> "Field":
        """Return the field after values were removed (or, negative: added) before the first."""
        return self if self.is_whole else replace(self, offset=self.offset + values * self.stride)


WHOLE = Field(size=0)


def join_fields(fields: Sequence[Field]) -> Field:
    """Return the smallest field that contains several, which is that of the longest path.

    Args:
        fields: Those of the inputs of a layer, at least one.
    """
    if any(field.is_whole for field in fields):
        return WHOLE
    low = min(field.offset - (field.size - 1) / 2 for field in fields)
    high = max(field.offset + (field.size - 1) / 2 for field in fields)
    return Field(
        round(high - low) + 1, max(field.stride for field in fields), offset=(low + high) / 2
    )


def pad_before(size: int, window: int, *, stride: int, dilation: int = 1) -> int:
    """Return how many values "same" padding adds before the first; it adds one more at the end."""
    return pad_total(size, window, stride=stride, dilation=dilation) // 2


def pad_total(size: int, window: int, *, stride: int, dilation: int = 1) -> int:
    """Return how many values "same" padding adds on both sides together."""
    steps = -(-size // stride)
    return max((steps - 1) * stride + (window - 1) * dilation + 1 - size, 0)


def count_positions(size: int, window: int, *, stride: int, same: bool, dilation: int = 1) -> int:
    """Return the positions of a window along an axis; 0 if it is larger than the axis.

    Args:
        size: Values along the axis.
        window: Values in the window.
        stride: Values between neighboring positions.
        same: "same" padding; else "valid", which is none.
        dilation: Distance of neighboring values in the window.
    """
    if same:
        return -(-size // stride)
    return max((size - (window - 1) * dilation - 1) // stride + 1, 0)
