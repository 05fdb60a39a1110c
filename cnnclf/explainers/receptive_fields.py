"""Theoretical and effective receptive fields: what a unit can depend on, and what it does.

The effective field is the mean absolute gradient of the unit in the center of a layer with respect
to the pixels (Luo et al., "Understanding the effective receptive field in deep convolutional neural
networks", 2016). It is smaller than the theoretical one and denser in its center.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cnnclf.drawing.canvas import ColorBar, Tile
from cnnclf.errors import CnnclfError
from cnnclf.explainers.explainer import ExplainContext, Explanation, Pixels, Subject, keep
from cnnclf.explainers.feature_maps import find_first_convolution
from cnnclf.explainers.flat_graph import FlatGraph, GraphStep
from cnnclf.explainers.heads import find_head
from cnnclf.explainers.map_figure import overlay, to_rgb
from cnnclf.explainers.network import Network

_IMAGES, _LAYERS = 50, 5
_MASS = 0.95
_INK = (25, 25, 25)


@dataclass(frozen=True)
class FieldOfView:
    """The theoretical receptive field of the units of a layer.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        stride: Pixels between neighboring units.
        offset: Center of the first unit's field, down and across, in pixels.
        is_whole: Whether every unit depends on the whole image.
    """

    height: int
    width: int
    stride: int
    offset: tuple[float, float]
    is_whole: bool = False

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return top, left, bottom and right of a unit's field; it may lie beyond the image."""
        if self.is_whole:
            return 0, 0, self.height, self.width
        middle = self.offset[0] + row * self.stride, self.offset[1] + column * self.stride
        top = round(middle[0] - (self.height - 1) / 2)
        left = round(middle[1] - (self.width - 1) / 2)
        return top, left, top + self.height, left + self.width


def find_field(network: Network, step: GraphStep) -> FieldOfView:
    """Find the theoretical receptive field of a layer."""
    row = network.anatomy.get(step.name)
    height, width = network.classifier.input_spec.shape[:2]
    if row is None or row.receptive_field == 0:
        return FieldOfView(height, width, 0, (0, 0), is_whole=True)
    size = row.receptive_field
    return FieldOfView(size, size, row.field_stride, (row.field_offset[0], row.field_offset[1]))


def explain_receptive_field(context: ExplainContext, subject: Subject) -> Explanation:
    """Draw the fields of --layer, by default of a few layers from the first to the last."""
    graph, name = context.network.graph, context.config.layer
    steps = [graph.find_layer(name)] if name else choose_steps(graph)
    images, words = _find_images(context, subject)
    fields: list[npt.NDArray[np.float64]] = [
        keep(
            context,
            f"effective field {step.name} {words}",
            make=partial(measure_field, graph, step, images=images),
        )
        for step in steps
    ]
    image = to_rgb(subject.pixels)
    tiles: list[list[Tile | None]] = [[Tile(image, "the image")], [None]]
    scores, parts = [], []
    for step, values in zip(steps, fields, strict=True):
        field = find_field(context.network, step)
        side = measure_side(values)
        center = step.output.shape[1] // 2, step.output.shape[2] // 2
        theory = "the whole image" if field.is_whole else f"{field.height}x{field.width}"
        caption = f"field {theory}, effective {side}x{side}"
        limit = float(values.max()) or 1.0
        drawn = frame(overlay(image, values, limit=limit), field.box(*center))
        tiles[0].append(Tile(drawn, step.name, caption))
        tiles[1].append(Tile(frame(_draw(values, limit), field.box(*center))))
        scores.append(
            {"layer": step.name, "theoretical": field.height, "effective": side,
             "is_whole": field.is_whole}
        )  # fmt: skip
        parts.append(f"{step.name}: {theory}, effective {side}x{side}")
    red = f"the mean absolute gradient in {words}"
    return Explanation(
        rows=tiles,
        title="Receptive fields of the units in the center of a layer",
        lines=[
            f"Frame: the theoretical field, unless larger than the image. Red: {red}.",
            f"Effective: the smallest centered square with {100 * _MASS:.0f} % of the gradient.",
        ],
        summary="; ".join(parts),
        scores={"layers": scores},
        arrays={step.name: values for step, values in zip(steps, fields, strict=True)},
        bar=ColorBar("importance", 0, 1, "gradient, as a fraction of the largest"),
    )


def choose_steps(graph: FlatGraph) -> list[GraphStep]:
    """Choose convolutions from the first to the last, and the last layer with places."""
    find_first_convolution(graph)
    places = np.linspace(0, len(graph.convolutions) - 1, _LAYERS).round().astype(int)
    chosen = [graph.convolutions[place] for place in dict.fromkeys(places.tolist())]
    last = graph.producer(find_head(graph).maps) or chosen[-1]
    return [*chosen[:-1], last] if len(chosen) > 1 else [*chosen, *({last} - {chosen[0]})]


def measure_field(graph: FlatGraph, step: GraphStep, *, images: Pixels) -> npt.NDArray[np.float64]:
    """Measure the effective field of the unit in the center of a layer.

    Args:
        graph: Of the network.
        step: The layer.
        images: uint8 [n, H, W, C].

    Returns:
        [H, W]: the absolute gradient of the sum of all channels, mean of images and colors.
    """
    _, height, width, channels = step.output.shape
    weights = np.zeros((len(images), height, width, channels), np.float32)
    weights[:, height // 2, width // 2] = 1
    _, gradients = graph.differentiate([step.output], images, weights=weights)
    return np.asarray(np.abs(gradients[0]).mean(axis=(0, 3)), np.float64)


def measure_side(values: npt.NDArray[np.float64]) -> int:
    """Return the side of the smallest square around the center of mass with most of the mass."""
    total = values.sum()
    if total <= 0:
        return 0
    rows, columns = np.indices(values.shape)
    middle = (rows * values).sum() / total, (columns * values).sum() / total
    distance = np.maximum(np.abs(rows - middle[0]), np.abs(columns - middle[1])).ravel()
    order = np.argsort(distance)
    mass = np.cumsum(values.ravel()[order]) / total
    at = min(int(np.searchsorted(mass, _MASS)), len(mass) - 1)
    return int(2 * distance[order][at]) + 1


def frame(image: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """Draw a frame on a copy of an image; parts beyond the image are not drawn."""
    drawn = Image.fromarray(image)
    top, left, bottom, right = box
    thick = max(1, round(max(drawn.size) / 75))
    corners = (left, top, right - 1, bottom - 1)
    ImageDraw.Draw(drawn).rectangle(corners, outline=_INK, width=thick)
    return np.asarray(drawn)


def _draw(values: npt.NDArray[np.float64], limit: float) -> Pixels:
    white = np.full((*values.shape, 3), 255, np.uint8)
    return overlay(white, values, limit=limit)


def _find_images(context: ExplainContext, subject: Subject) -> tuple[Pixels, str]:
    """Return training images, or the image itself if there are none, and how to call them."""
    try:
        images = context.training_images()
    except CnnclfError:
        return subject.pixels[None], f"this image alone ({subject.path or id(subject)})"
    some = images.pixels[:_IMAGES]
    return some, f"{len(some)} training images"
