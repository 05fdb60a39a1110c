"""The strip: an image on its way through the network, stage by stage, to the probabilities.

As on a whiteboard: a filter slides over the image, what is negative is cut off, neighbors are
pooled, and in the end every feature contributes to the logits. Each row follows the channel that
varies most.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.bars import draw_bars
from cnnclf.drawing.canvas import Tile
from cnnclf.drawing.color_maps import to_colors, to_signed_colors
from cnnclf.explainers.explainer import ExplainContext, Explanation, Subject
from cnnclf.explainers.feature_maps import find_first_convolution
from cnnclf.explainers.first_filters import describe_filters, draw_filters
from cnnclf.explainers.flat_graph import FlatGraph, GraphStep
from cnnclf.explainers.heads import find_head
from cnnclf.explainers.map_figure import describe_subject, to_rgb
from cnnclf.names import join_sides

_ROWS, _COLUMNS, _BARS = 6, 4, 7
_WORDS = {
    "Conv2D": "convolution",
    "DepthwiseConv2D": "depthwise conv.",
    "SeparableConv2D": "separable conv.",
    "BatchNormalization": "batch normalization",
    "MaxPooling2D": "max pooling",
    "AveragePooling2D": "average pooling",
    "Add": "addition",
}

_ROWS_WORDS = (
    "Each row follows the channel that varies most: blue is negative, white 0, red positive; each "
    "map has a scale of its own."
)


def explain_layers(context: ExplainContext, subject: Subject) -> Explanation:
    """Draw the strip of one image."""
    graph = context.network.graph
    find_first_convolution(graph)
    rows = _choose(group_steps(graph))
    steps = [step for row in rows for step in row]
    tensors = [*(step.output for step in steps), graph.logits]
    *values, _ = graph.compute(tensors, subject.pixels[None])
    image = Tile(to_rgb(subject.pixels), "the image", join_sides(subject.pixels.shape))
    tiles: list[list[Tile | None]] = []
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    found = iter(values)
    first_filter: Tile | None = None
    for row in rows:
        maps = [next(found)[0] for _ in row]
        channel = int(maps[-1].std(axis=(0, 1)).argmax())
        drawn = [
            replace(_draw(step, each, channel), like=subject.pixels.shape[:2])
            for step, each in zip(row, maps, strict=True)
        ]
        left = image if not tiles else first_filter if len(tiles) == 1 else None
        if not tiles and (kernels := draw_filters(row[0])) is not None:
            first_filter = Tile(kernels[channel], f"the filter of ch. {channel} above")
        tiles.append([left, *drawn])
        arrays |= {step.name: each for step, each in zip(row, maps, strict=True)}
    bars, line = _draw_contributions(context, subject)
    tiles.append([first_filter if len(tiles) == 1 else None, *bars])
    total = len(graph.convolutions)
    shown = sum(row[0].is_convolution for row in rows)
    lines = [
        _ROWS_WORDS,
        *describe_filters(rows[0][0]),
        f"{shown} of {total} convolutions are shown." if shown < total else "",
        line,
    ]
    return Explanation(
        rows=tiles,
        title=f"{describe_subject(subject, context.network.labels)}, step by step",
        lines=[each for each in lines if each],
        summary=f"{shown} of {total} convolutions, then contributions and probabilities",
        scores={"layers": [step.name for step in steps]},
        arrays={"logits": subject.logits, **arrays},
    )


def group_steps(graph: FlatGraph) -> list[list[GraphStep]]:
    """Return each convolution with the steps that follow it up to the next one.

    Steps that have another number of channels than the convolution belong to no group.
    """
    groups: list[list[GraphStep]] = []
    for step in graph.spatial_steps:
        if step.is_convolution:
            groups.append([step])
        elif groups and step.output.shape[-1] == groups[-1][0].output.shape[-1]:
            groups[-1].append(step)
    return groups


def _choose(groups: list[list[GraphStep]]) -> list[list[GraphStep]]:
    """Choose rows from the first to the last group, and the ends of each row."""
    places = np.linspace(0, len(groups) - 1, min(_ROWS, len(groups))).round().astype(int)
    chosen = [groups[place] for place in places]
    return [group if len(group) <= _COLUMNS else [*group[:2], *group[-2:]] for group in chosen]


def _draw(step: GraphStep, maps: npt.NDArray[np.float32], channel: int) -> Tile:
    values = maps[..., channel]
    colors = to_signed_colors(values)
    if values.min() >= 0:
        colors = to_colors(values, "importance", low=0, high=float(values.max()))
    activation = getattr(getattr(step.operation, "activation", None), "__name__", "linear")
    kind = _WORDS.get(step.kind, step.kind)
    if step.kind in {"Activation", "ReLU"}:
        kind = _describe_activation(step, activation)
    caption = f"{step.name}, {join_sides(maps.shape)}; {values.min():.2f} to {values.max():.2f}"
    return Tile(colors, f"{kind}, ch. {channel}" if step.is_convolution else kind, caption)


def _describe_activation(step: GraphStep, activation: str) -> str:
    limit = getattr(step.operation, "max_value", None)
    if activation == "relu6" or limit is not None:
        return f"ReLU: between 0 and {6 if limit is None else limit:g}"
    is_relu = step.kind == "ReLU" or activation == "relu"
    return "ReLU: negative becomes 0" if is_relu else activation


def _draw_contributions(context: ExplainContext, subject: Subject) -> tuple[list[Tile], str]:
    """Draw the largest contributions to the best logit, the logits and the probabilities."""
    network = context.network
    head = find_head(network.graph)
    names = [network.labels[index] for index in subject.classes]
    best, name = subject.classes[0], names[0]
    tiles, line = [], ""
    if head.is_linear and "flatten" not in head.parts:
        features, _ = head.look(subject.pixels[None])
        terms = head.pool(features)[0] * head.kernel[:, best]
        top = np.argsort(-np.abs(terms))[:_BARS]
        labels = [f"ch. {index % len(features[0, 0, 0])}" for index in top]
        bars = draw_bars(labels, [float(terms[index]) for index in top])
        tiles.append(Tile(bars, f"contributions to {name}", "pooled map x its weight"))
        line = (
            f"All {len(terms)} contributions to {name} add up to {terms.sum():+z.3f}; with"
            f" the bias {head.bias[best]:+z.3f} this is the logit."
        )
    logits = [float(subject.logits[index]) for index in subject.classes]
    tiles.append(
        Tile(draw_bars(names, logits), "logits", "contributions plus bias" if line else "")
    )
    chances = [float(subject.probabilities[index]) for index in subject.classes]
    temperature = network.classifier.temperature
    divided = "" if temperature == 1 else f" / {temperature:.3g}, the temperature"
    how = f"softmax of the logits{divided}"
    tiles.append(Tile(draw_bars(names, chances, limit=1), "probabilities", how))
    return tiles, line
