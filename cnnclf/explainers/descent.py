"""The loss around the path of training: two slices through the space of all weights.

Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.canvas import SCALE, Tile
from cnnclf.errors import DataError
from cnnclf.explainers.descent_checkpoints import find_checkpoints, read_checkpoints
from cnnclf.explainers.explainer import ExplainContext, Explanation
from cnnclf.explainers.training_images import TrainingImages
from cnnclf.probabilities import log_softmax

_GRID, _IMAGES, _SIDE, _LEVELS = 10, 64, 300, 12
_MARGIN = 0.25  # around the path, as a fraction of its extent
_FLAT = 1e-9  # a path that leaves no more than this of its line is a line

_SLICES = (
    "Slices through a space of {:,} dimensions: a wall or a valley here may be none there. Lines "
    "join places of equal loss, dots are checkpoints; the last one is at 0, 0."
)
_AXES = (
    "Left: from the first to the last weights, and the main direction in which the path leaves "
    "that line. Right: two random directions, normalized filter by filter (Li et al., 2018), "
    "around the last weights; 1 is as long as the weights of each filter."
)
_HOW = "without augmentation and dropout, with batch normalization by batch"

Vector = npt.NDArray[Any]  # float64


@dataclass(frozen=True, eq=False)
class _Slice:
    """Two directions [2, P] from the last weights, and the path in their plane [n, 2]."""

    title: str
    directions: Vector
    places: Vector
    shown: float  # fraction of the squared length of the path


def explain_descent(context: ExplainContext) -> Explanation:
    """Draw the loss along the way from the first to the last weights, and around the last.

    Raises:
        RunError: The run has no checkpoints of its way, or they do not fit its network.
        DataError: The images are of other classes.
    """
    model = context.network.graph.original
    epochs, path = read_checkpoints(find_checkpoints(context.network), model)
    images = context.training_images()
    if (images.class_indices[:_IMAGES] < 0).any():
        raise DataError(
            "the loss needs images of the classes of the network, and the dataset has others",
            "give that of the training: --data DATASET",
        )
    moves, rng = path - path[-1], np.random.default_rng(context.config.seed)
    drawn = [_draw_direction(_split(path[-1], model), rng) for _ in range(2)]
    slices = [
        _project("The plane of the path", _find_main(moves, drawn[0]), moves),
        _project("Two random directions", np.stack(drawn), moves),
    ]
    axes = [_choose_axes(slices[0].places), [np.linspace(-1, 1, _GRID)] * 2]
    count = 2 * _GRID**2 + len(path)
    with _in_training(model), context.progress.task("loss", count, unit="networks") as task:

        def compute(weights: Vector) -> float:
            task.advance()
            return _compute_loss(model, weights, images)

        losses = [compute(each) for each in path]
        grids = [
            np.array([[compute(path[-1] + [x, y] @ each.directions) for x in xs] for y in ys])
            for each, (xs, ys) in zip(slices, axes, strict=True)
        ]
    way = f"loss {losses[0]:.3g} at epoch {epochs[0]}, {losses[-1]:.3g} at epoch {epochs[-1]}"
    shown = [f"{100 * each.shown:.2g} %" for each in slices]
    tiles = [
        Tile(
            _draw(grid, axes=each_axes, places=each.places, epochs=epochs),
            each.title,
            f"It shows {part} of the squared length of the path.",
        )
        for each, each_axes, grid, part in zip(slices, axes, grids, shown, strict=True)
    ]
    used = f"{min(_IMAGES, len(images.paths))} of {images.total:,} training images"
    return Explanation(
        rows=[tiles],
        title="The loss along the way of gradient descent",
        lines=[_SLICES.format(path.shape[1]), _AXES, f"{way}: cross-entropy of {used}, {_HOW}."],
        summary=f"{way}; the plane of the path shows {shown[0]} of it, random ones {shown[1]}",
        scores={"epochs": epochs, "losses": losses, "shown": [each.shown for each in slices]},
        arrays={"path_plane": grids[0], "random_plane": grids[1], "places": slices[0].places},
        side=_SIDE,
    )


def _split(weights: Vector, model: Any) -> list[Vector]:
    """Return the weights of each variable in its shape."""
    shapes = [tuple(each.shape) for each in model.trainable_variables]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    parts = np.split(weights, ends)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _draw_direction(kernels: Sequence[Vector], rng: np.random.Generator) -> Vector:
    """Draw a direction with the norm of each filter; 0 for biases and batch normalization."""
    parts = []
    for kernel in kernels:
        drawn = rng.normal(size=kernel.shape) * (kernel.ndim > 1)
        along = tuple(range(kernel.ndim - 1))
        norms = np.sqrt(np.square(drawn).sum(axis=along))
        scale = np.sqrt(np.square(kernel).sum(axis=along)) / np.where(norms, norms, 1)
        parts.append(np.ravel(drawn * scale))
    return np.concatenate(parts)


def _find_main(moves: Vector, other: Vector) -> Vector:
    """Return the way to the first weights, and the main direction of the rest of the path.

    For a path that is a line, `other` is the second.
    """
    line = moves[0]
    length = float(line @ line) or 1.0
    rest = moves - np.outer(moves @ line / length, line)
    _, sizes, main = np.linalg.svd(rest, full_matrices=False)
    second = main[0] if sizes[0] ** 2 > _FLAT * length else other - other @ line / length * line
    return np.stack([line, second / np.linalg.norm(second) * np.sqrt(length)])


def _project(title: str, directions: Vector, moves: Vector) -> _Slice:
    places = np.linalg.lstsq(directions.T, moves.T, rcond=None)[0].T
    whole = float(np.square(moves).sum()) or 1.0
    return _Slice(title, directions, places, float(np.square(places @ directions).sum()) / whole)


def _choose_axes(places: Vector) -> list[Vector]:
    low, high = places.min(axis=0), places.max(axis=0)
    margin = _MARGIN * max(float((high - low).max()), 1e-3)
    return [np.linspace(low[at] - margin, high[at] + margin, _GRID) for at in (0, 1)]


@contextmanager
def _in_training(model: Any) -> Iterator[None]:
    """Let the network compute without dropout; put back all that a pass changes."""
    kept = model.get_weights()
    dropouts = [each for each in model._flatten_layers() if hasattr(each, "rate")]  # noqa: SLF001
    rates = [layer.rate for layer in dropouts]
    try:
        for layer in dropouts:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in zip(dropouts, rates, strict=True):
            layer.rate = rate
        model.set_weights(kept)


def _compute_loss(model: Any, weights: Vector, images: TrainingImages) -> float:
    for variable, value in zip(model.trainable_variables, _split(weights, model), strict=True):
        variable.assign(value)
    chosen = images.pixels[:_IMAGES].astype(np.float32)
    logs = log_softmax(np.asarray(model(chosen, training=True), np.float64))
    return -float(logs[np.arange(len(logs)), images.class_indices[:_IMAGES]].mean())


def _draw(
    losses: Vector, *, axes: Sequence[Vector], places: Vector, epochs: Sequence[int]
) -> npt.NDArray[np.uint8]:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = np.log10(np.clip(np.nan_to_num(losses, nan=1e6, posinf=1e6), 1e-6, 1e6))
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(_SIDE / 72, _SIDE / 72), dpi=72 * SCALE, layout="tight")
        canvas = FigureCanvasAgg(figure)
        plot = figure.add_subplot()
        plot.contourf(*axes, heights, levels=_LEVELS, cmap="cividis", alpha=0.6)
        style = {"colors": "#555", "linewidths": 0.6, "linestyles": "solid"}
        lines = plot.contour(*axes, heights, levels=_LEVELS, **style)
        plot.clabel(lines, fmt=lambda height: f"{10**height:.2g}", fontsize=7)
        plot.plot(*places.T, "o-", color="#D55E00", markersize=3.5, linewidth=1.2)
        is_point = np.ptp(places) < _MARGIN
        for at in (-1,) if is_point else (0, -1):
            name = f"epoch {epochs[at]}"
            # Below the first point, at the right: beside it, the name would leave the plot.
            is_right = places[at][0] > np.mean(axes[0])
            away, side = ((0, -14), "center") if is_right else ((4, 5), "left")
            plate = {
                "boxstyle": "round,pad=0.15",
                "facecolor": "white",
                "alpha": 0.95,
                "linewidth": 0,
            }
            plot.annotate(  # above the numbers of the contours
                name, places[at], xytext=away, textcoords="offset points", ha=side, bbox=plate,
                zorder=9,
            )  # fmt: skip
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
