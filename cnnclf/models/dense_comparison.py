"""The argument for convolution in numbers: a fully connected network of as many units.

A filter has the same weights at every place, so its parameters do not depend on the size of the
image (LeCun et al., "Gradient-based learning applied to document recognition", 1998). Each unit of
a dense layer has a weight for every input.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnclf.models.anatomy import Anatomy

SIDES = (28, 64, 128, 224, 256)


@dataclass(frozen=True)
class SideRow:
    """Parameters for square images of one size.

    Args:
        side: Pixels.
        shared: Of the layers before the dense ones.
        network: Of the whole network; None if it does not fit images so small.
        dense: Of the fully connected network.
    """

    side: int
    shared: int
    network: int | None
    dense: int


@dataclass(frozen=True)
class DenseComparison:
    """A network beside a fully connected one.

    Args:
        widths: Units of the fully connected network, layer by layer, inputs first.
        parameters: Of the fully connected network.
        network: Parameters of the network it is compared with.
        growth: Both, by the size of the images.
    """

    widths: tuple[int, ...]
    parameters: int
    network: int
    growth: tuple[SideRow, ...]


def count_dense(widths: Sequence[int]) -> int:
    """Count the parameters of a fully connected network.

    Args:
        widths: Inputs, units of each layer, outputs: at least two numbers.
    """
    return sum((inputs + 1) * units for inputs, units in pairwise(widths))


def compare_dense(
    anatomy: Anatomy,
    input_shape: tuple[int, int, int],
    *,
    parameters_at: Callable[[int], int | None],
    sides: Sequence[int] = SIDES,
) -> DenseComparison:
    """Compare a network with a fully connected one: a unit for each filter and for each unit.

    Args:
        anatomy: The network.
        input_shape: (height, width, channels) of its images.
        parameters_at: Parameters of the network for square images with this side; None if it does
            not fit them.
        sides: For the growth, in pixels.
    """
    height, width, channels = input_shape
    units = [layer.units for layer in anatomy.layers if layer.units]
    widths = (height * width * channels, *units)
    shared = sum(layer.parameters for layer in anatomy.layers if layer.kind != "dense")
    growth = (
        SideRow(side, shared, parameters_at(side), count_dense((side * side * channels, *units)))
        for side in sides
    )
    return DenseComparison(widths, count_dense(widths), anatomy.parameters, tuple(growth))
