"""What filters look for: kernels of the first layer, and the patches that activate filters most."""

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.canvas import Tile
from cnnclf.errors import CnnclfError
from cnnclf.explainers.explainer import ExplainContext, Explanation
from cnnclf.explainers.feature_maps import find_first_convolution
from cnnclf.explainers.first_filters import describe_filters, draw_filters
from cnnclf.explainers.flat_graph import GraphStep
from cnnclf.explainers.map_figure import to_rgb
from cnnclf.explainers.receptive_fields import FieldOfView, find_field
from cnnclf.explainers.training_images import TrainingImages

_FILTERS, _PATCHES, _SIDE = 12, 8, 60
_BATCH = 32
_GRAY = 200  # what lies outside of an image


def explain_filters(context: ExplainContext) -> Explanation:
    """Draw filters of --layer, by default of the first convolution.

    Raises:
        CnnclfError: The layer does not see the image itself, and there are no training images.
    """
    graph, name = context.network.graph, context.config.layer
    step = graph.find_layer(name) if name else find_first_convolution(graph)
    kernels = draw_filters(step)
    try:
        images = context.training_images()
    except CnnclfError as error:
        if kernels is None:
            raise
        line = f"Only the kernels are drawn: {error.message}."
        rows = [
            [Tile(kernel, str(number)) for number, kernel in enumerate(kernels)][at : at + 8]
            for at in range(0, len(kernels), 8)
        ]
        lines = [line, *describe_filters(step)]
        return Explanation(rows, f"Filters of {step.name}", lines=lines, summary=line, side=_SIDE)
    return _draw_patches(context, step, images=images, kernels=kernels)


def _draw_patches(
    context: ExplainContext,
    step: GraphStep,
    *,
    images: TrainingImages,
    kernels: list[npt.NDArray[np.uint8]] | None,
) -> Explanation:
    strongest, places = scan_layer(context, step, images=images)
    order = np.argsort(-strongest.mean(axis=0), kind="stable")[:_FILTERS]
    field = find_field(context.network, step)
    rows: list[list[Tile | None]] = []
    best: dict[str, list[str]] = {}
    for channel in order:
        top = np.argsort(-strongest[:, channel], kind="stable")[:_PATCHES]
        row: list[Tile | None] = []
        if kernels is not None:
            row.append(Tile(kernels[channel], f"filter {channel}"))
        for rank, index in enumerate(top):
            place = divmod(int(places[index, channel]), int(step.output.shape[2]))
            patch = cut_patch(images.pixels[index], place, field=field)
            title = f"filter {channel}" if kernels is None and rank == 0 else ""
            row.append(Tile(to_rgb(patch), title, f"{strongest[index, channel]:.2f}"))
        rows.append(row)
        best[str(channel)] = [images.paths[index] for index in top]
    size = f"{field.height}x{field.width}"
    line = (
        f"Per filter of {step.name}, the patches that activate it most in {images.words}, at most"
        f" one per image, cut at its receptive field ({size} pixels; gray lies beyond the image)."
        " The numbers are activations."
    )
    return Explanation(
        rows=rows,
        title=f"What activates the filters of {step.name}",
        lines=[
            line,
            f"The {len(order)} most active of {strongest.shape[1]} filters.",
            *describe_filters(step),
        ],
        summary=f"{len(order)} of {strongest.shape[1]} filters of {step.name}, {images.words}",
        scores={"layer": step.name, "images": best},
        arrays={"strongest": strongest},
        side=_SIDE,
    )


def scan_layer(
    context: ExplainContext, step: GraphStep, *, images: TrainingImages
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Find the strongest activation of each channel in each image.

    Returns:
        Activations [n, C] and places [n, C], as row * width + column.
    """
    graph = context.network.graph
    strongest, places = [], []
    with context.progress.task("looking at filters", len(images.paths), unit="images") as task:
        for start in range(0, len(images.paths), _BATCH):
            chunk = images.pixels[start : start + _BATCH]
            maps = graph.compute([step.output], chunk)[0]
            flat = maps.reshape(len(maps), -1, maps.shape[-1])
            strongest.append(flat.max(axis=1))
            places.append(flat.argmax(axis=1))
            task.advance(len(chunk))
    return np.concatenate(strongest), np.concatenate(places)


def cut_patch(
    pixels: npt.NDArray[np.uint8], place: tuple[int, int], *, field: FieldOfView
) -> npt.NDArray[np.uint8]:
    """Cut what a unit sees out of an image; gray where it looks beyond the edge.

    Args:
        pixels: uint8 [H, W, C].
        place: Row and column of the unit.
        field: Of its layer.
    """
    top, left, bottom, right = field.box(*place)
    height, width, channels = pixels.shape
    patch = np.full((bottom - top, right - left, channels), _GRAY, np.uint8)
    inside = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    row, column = max(-top, 0), max(-left, 0)
    patch[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return patch
