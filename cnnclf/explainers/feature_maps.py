"""The feature maps of a layer as a grid, and the filters of the first layer beside them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.canvas import ColorBar, Tile
from cnnclf.drawing.color_maps import to_signed_colors
from cnnclf.errors import UsageError
from cnnclf.explainers.explainer import ExplainContext, Explanation, Subject
from cnnclf.explainers.first_filters import describe_filters, draw_filters
from cnnclf.explainers.flat_graph import FlatGraph, GraphStep
from cnnclf.explainers.map_figure import describe_subject, to_rgb
from cnnclf.names import join_sides

_MOST, _COLUMNS, _SIDE = 47, 8, 75


def explain_feature_maps(context: ExplainContext, subject: Subject) -> Explanation:
    """Draw the feature maps of --layer, by default of the first convolution."""
    graph, config = context.network.graph, context.config
    step = graph.find_layer(config.layer) if config.layer else find_first_convolution(graph)
    values = graph.compute([step.output], subject.pixels[None])[0][0]
    order = np.arange(values.shape[-1])
    if config.sort == "activation":
        order = np.argsort(-np.abs(values).mean(axis=(0, 1)), kind="stable")
    shown = order[:_MOST]
    limit = float(np.abs(values).max()) or 1.0
    filters = draw_filters(step)
    tiles: list[Tile | None] = [Tile(to_rgb(subject.pixels), "the image")]
    tiles += [None] if filters is not None else []
    for channel in shown:
        if filters is not None:
            tiles.append(Tile(filters[channel], f"filter {channel}"))
        tile = _draw(values[..., channel], int(channel), limit=limit)
        tiles.append(replace(tile, like=subject.pixels.shape[:2]))
    rows = [tiles[at : at + _COLUMNS] for at in range(0, len(tiles), _COLUMNS)]
    count = f"{len(shown)} of {len(order)}" if len(shown) < len(order) else f"all {len(order)}"
    how = "the largest mean absolute value first" if config.sort == "activation" else "by index"
    size = join_sides(values.shape[:2])
    beside = ", each right of its filter" if filters is not None else ""
    return Explanation(
        rows=rows,
        title=f"{describe_subject(subject, context.network.labels)}: {step.name}",
        lines=[
            f"{count} feature maps of {step.name} ({step.kind}), {size}, {how}{beside}.",
            *describe_filters(step),
        ],
        summary=f"{count} feature maps of {step.name}, {how}",
        scores={"layer": step.name, "channels": [int(channel) for channel in shown]},
        arrays={"feature_maps": values},
        bar=ColorBar("signed", -limit, limit, "activation"),
        side=_SIDE,
    )


def find_first_convolution(graph: FlatGraph) -> GraphStep:
    """Return the first convolution.

    Raises:
        UsageError: The network has none.
    """
    if not graph.convolutions:
        raise UsageError(
            "the network has no convolutions, so it has neither filters nor feature maps",
            "--show evidence works: it is the evidence of each pixel",
        )
    return graph.convolutions[0]


def _draw(values: npt.NDArray[np.float32], channel: int, *, limit: float) -> Tile:
    mean = float(values.mean())
    return Tile(to_signed_colors(values, limit), f"map {channel}", f"mean {mean:+z.2f}")
