"""Figures of a search: accuracy against time, and the settings of all trials."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10
from pathlib import Path
from typing import NamedTuple

from cnnclf.drawing.lettering import drawable
from cnnclf.files import atomic_path
from cnnclf.tuning.space import Dimension, Point, Space, describe_settings

_MAX_AXES = 8
_MAX_NAMED = 6  # choices whose values are written on an axis
_OVER_LINES = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8}
_NEAR_MIDDLE = 0.2  # of a range
_DEFAULT = -0.1  # place of settings that a trial does not change, below all values


class Mark(NamedTuple):
    """Seconds of all trainings so far, and the val accuracy of the trial that was trained last."""

    seconds: float
    accuracy: float
    trial: int


def draw_accuracy(marks: Sequence[Mark], path: Path) -> None:
    """Draw val accuracy against the time of the search: every job, and the best so far."""
    from matplotlib.figure import Figure

    times = [mark.seconds / 60 for mark in marks]
    accuracies = [mark.accuracy for mark in marks]
    best = [max(accuracies[: number + 1]) for number in range(len(accuracies))]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(times, accuracies, "o", color="#999999", markersize=4, label="a trial at a rung")
    axes.step(times, best, where="post", color="#1f5fa8", label="the best so far")
    own = next(mark.accuracy for mark in marks if mark.trial == 0)
    axes.axhline(own, color="#d9730d", linestyle="--", linewidth=1, label="the default")
    # the worst quarter would hide the others
    low = min(own, sorted(accuracies)[len(accuracies) // 4])
    bottom = low - 0.05 * (1 - low) - 0.01
    below = [time for time, each in zip(times, accuracies, strict=True) if each < bottom]
    if below:
        label = "lower than this figure shows"
        places = [bottom] * len(below)
        axes.plot(below, places, "v", color="#999999", markersize=6, label=label, clip_on=False)
    axes.set_ylim(bottom, min(1.0, max(accuracies)) + 0.1 * (1.01 - low))
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("val accuracy")
    axes.set_title(drawable(path.absolute().parent.name), fontsize=10, parse_math=False)
    axes.grid(visible=True, alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)  # inside, it hid trials
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=144, format="png")


def draw_coordinates(
    space: Space,
    points: Sequence[Point],
    *,
    scores: Sequence[float],
    importances: Mapping[str, float],
    path: Path,
) -> None:
    """Draw each trial as a line through its settings (parallel coordinates).

    Args:
        space: What was searched.
        points: Of all trials, of which the default, which is empty, is not drawn.
        scores: At the first rung, which every trial reached.
        importances: Fractions by key; the axes are in this order, if there are any.
        path: The file; written only if a trial can be drawn.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    drawn = sorted(
        (score, number) for number, score in enumerate(scores) if points[number] and isfinite(score)
    )
    if not drawn:
        return
    by_key = {each.key: each for each in space.dimensions}
    settings = {number: space.decode(points[number]) for _, number in drawn}
    uses = Counter(key for each in settings.values() for key in each)
    order = importances or sorted(by_key, key=lambda key: -uses[key])
    shown = [by_key[key] for key in order][:_MAX_AXES]
    figure = Figure(figsize=(max(4.0, 1.3 * len(shown) + 1.3), 4.6), layout="constrained")
    axes = figure.subplots()
    colors = colormaps["viridis"]
    for rank, (_, number) in enumerate(drawn):  # the best are drawn last, over the others
        # the places of a choice are one place; a small shift by trial keeps lines apart
        places = [
            _place(each, points[number], number) if each.key in settings[number] else _DEFAULT
            for each in shown
        ]
        part = rank / (len(drawn) - 1) if len(drawn) > 1 else 1.0
        alpha = 0.35 + 0.6 * part**3
        axes.plot(range(len(shown)), places, "o-", ms=3, color=colors(part), alpha=alpha)
    for index, dimension in enumerate(shown):
        axes.axvline(index, color="#999999", linewidth=0.8)
        for height, text in [*list_ticks(dimension), (_DEFAULT, "default")]:
            axes.text(
                index + 0.04, height, drawable(text), fontsize=10, va="center", bbox=_OVER_LINES
            )
    names = [
        each.key.replace(".", "\n").replace("_", " ") + "\n(x auto)" * each.relative
        for each in shown
    ]
    parts = [f"\n{100 * importances[each.key]:.0f} %" if importances else "" for each in shown]
    axes.set_xticks(range(len(shown)), [a + b for a, b in zip(names, parts, strict=True)])
    axes.tick_params(labelsize=10, length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(shown) - 0.4)
    axes.set_ylim(_DEFAULT - 0.03, 1.03)
    words = "; %: variance of the ranks that a setting explains alone" if importances else ""
    part_of = f"{len(shown)} of {len(by_key)} settings; " if len(shown) < len(by_key) else ""
    axes.set_title(f"{part_of}bright: better at the first rung{words}", fontsize=10)
    for side in axes.spines.values():
        side.set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=144, format="png")


def _place(dimension: Dimension, point: Point, number: int) -> float:
    place = point[dimension.key]
    if dimension.choices:
        middle = dimension.encode(dimension.decode(place))
        return middle + (number % 7 - 3) * 0.05 / len(dimension.choices)
    return place


def list_ticks(dimension: Dimension) -> list[tuple[float, str]]:
    """Return the values that are written on the axis of a setting, with their places 0..1."""
    places: tuple[float, ...] = (0.0, _find_middle(dimension), 1.0)
    if dimension.choices and len(dimension.choices) <= _MAX_NAMED:
        places = tuple(dimension.encode(each) for each in dimension.choices)
    elif dimension.choices:
        places = (dimension.encode(dimension.choices[0]), dimension.encode(dimension.choices[-1]))
    texts = [describe_settings({"": dimension.decode(place)}).lstrip("=") for place in places]
    return list(zip(places, texts, strict=True))


def _find_middle(dimension: Dimension) -> float:
    """Return the place of the roundest value in the middle of a range; 0.5 for choices."""
    if dimension.choices:
        return 0.5
    middle = dimension.decode(0.5)
    if dimension.log and not dimension.whole:
        power = 10 ** floor(log10(middle))
        round_ones = [dimension.encode(each * power) for each in (10, 1, 5, 2)]
        nearest = min(round_ones, key=lambda place: round(abs(place - 0.5), 3))
        if abs(nearest - 0.5) < _NEAR_MIDDLE:
            return nearest
    return dimension.encode(middle)
