"""The kernels of a layer that looks at the image, as images."""

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.color_maps import to_signed_colors
from cnnclf.explainers.flat_graph import GraphStep


def draw_filters(step: GraphStep) -> list[npt.NDArray[np.uint8]] | None:
    """Draw the kernels of a convolution over colors or gray levels.

    Returns:
        One image uint8 [kh, kw, 3] per filter; None if the layer is no convolution over 1 or 3
        channels. With 3 channels, gray is zero and each color is its channel's weight; with 1, blue
        is negative and red positive. All filters have one scale.
    """
    kernel = getattr(step.operation, "kernel", None)
    if step.kind != "Conv2D" or kernel is None or kernel.shape[2] not in (1, 3):
        return None
    weights = np.asarray(kernel, np.float64)
    limit = float(np.abs(weights).max()) or 1.0
    if weights.shape[2] == 1:
        return [to_signed_colors(weights[:, :, 0, at], limit) for at in range(weights.shape[3])]
    colors = np.round(127.5 + 127.5 * weights / limit).astype(np.uint8)
    return [colors[..., at] for at in range(weights.shape[3])]


def describe_filters(step: GraphStep) -> list[str]:
    """Say what the colors of filters mean; nothing if they are not drawn."""
    if draw_filters(step) is None:
        return []
    if step.operation.kernel.shape[2] == 1:
        return ["Weights of filters: blue is negative, white 0, red positive; one scale for all."]
    colors = "gray is 0, and red, green and blue show the weights of these channels"
    return [f"Weights of filters: {colors}; one scale for all."]
