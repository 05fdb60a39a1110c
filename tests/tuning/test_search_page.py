import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cnnclf.tuning.importances import find_importances
from cnnclf.tuning.search_figures import Mark, draw_accuracy, draw_coordinates, list_ticks
from cnnclf.tuning.space import Point, read_space

SPACE = read_space(
    {
        "model.dropout": {"low": 0.0, "high": 0.5},
        "optimizer.name": ["adamw", "sgd"],
        "model.kernel_size": [3, 5],
        "optimizer.momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer.name": ["sgd"]}},
    },
    source="here",
)


def draw(count: int) -> tuple[list[Point], list[float]]:
    """Draw trials whose score depends on dropout, and less on the optimizer."""
    drawn = random.Random(0)
    keys = [each.key for each in SPACE.dimensions]
    points: list[Point] = [{}, *({key: drawn.random() for key in keys} for _ in range(count))]
    scores = [0.5]
    scores += [
        0.9 - 0.4 * point["model.dropout"] - 0.1 * (point["optimizer.name"] < 0.5)
        for point in points[1:]
    ]
    return points, scores


def test_the_setting_that_matters_most_comes_first() -> None:
    points, scores = draw(40)
    scores[3] = -np.inf  # a trial that failed
    scores[4] = -1e6  # one that diverged
    found = find_importances(SPACE, points, scores=scores)
    assert list(found)[:2] == ["model.dropout", "optimizer.name"]
    assert found["model.dropout"] > 0.6
    assert found["model.kernel_size"] < 0.05
    assert sum(found.values()) < 1.1


@pytest.mark.parametrize("count", [1, 8])
def test_few_trials_say_nothing_about_importance(count: int) -> None:
    points, scores = draw(count)
    assert find_importances(SPACE, points, scores=scores) == {}


def count_yellow(path: Path) -> int:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    return int(((pixels[:, 0] > 230) & (pixels[:, 1] > 200) & (pixels[:, 2] < 90)).sum())


def test_scores_that_are_chance_have_no_importances() -> None:
    points, _ = draw(12)
    drawn = [np.random.default_rng(seed).random(13).tolist() for seed in range(10)]
    found = [find_importances(SPACE, points, scores=scores) for scores in drawn]
    assert sum(map(bool, found)) <= 2


def test_trials_are_drawn_as_lines_and_the_best_one_is_bright(tmp_path: Path) -> None:
    points, scores = draw(12)
    points[1] = {"model.dropout": 0.3}  # other settings were inactive
    path = tmp_path / "coordinates.png"
    draw_coordinates(SPACE, points, scores=scores, importances={}, path=path)
    assert count_yellow(path) > 300
    draw_coordinates(SPACE, points[:2], scores=scores[:2], importances={}, path=path)
    assert count_yellow(path) > 300, "a single trial is the best one"
    one = read_space({"model.dropout": [0.1, 0.2]}, source="here")  # all on one axis
    draw_coordinates(one, [{"model.dropout": 0.1}], scores=[0.5], importances={}, path=path)
    none = tmp_path / "none.png"
    draw_coordinates(SPACE, [{}], scores=[0.5], importances={}, path=none)
    assert not none.exists()


@pytest.mark.parametrize(("count", "words"), [(8, "bright: "), (9, "8 of 9 settings; bright: ")])
def test_settings_without_an_axis_are_counted(
    count: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda _axes, text, **_: titles.append(text))
    names = ["dropout", "l1", "l2", "kernel_size", "stride", "pool_size", "blocks", "filters"]
    keys = [f"model.{name}" for name in [*names, "dense_units"][:count]]
    space = read_space({key: [1, 2] if key != keys[0] else [0.1, 0.2] for key in keys}, source="")
    points: list[Point] = [dict.fromkeys(keys, 0.2)]
    path = tmp_path / "coordinates.png"
    draw_coordinates(space, points, scores=[0.5], importances={}, path=path)
    assert [title[: len(words)] for title in titles] == [words]


def test_settings_that_a_trial_does_not_use_are_drawn_at_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[float]] = []
    names: list[str] = []

    def plot(_axes: Axes, _x: object, places: list[float], *_: object, **__: object) -> None:
        drawn.append(places)

    monkeypatch.setattr(Axes, "plot", plot)
    monkeypatch.setattr(Axes, "set_xticks", lambda _axes, _places, found: names.extend(found))
    points: list[Point] = [
        {},
        {"optimizer.name": 0.2, "optimizer.momentum": 0.5},  # of sgd only
        {"optimizer.name": 0.8, "optimizer.momentum": 0.5},
    ]
    path = tmp_path / "coordinates.png"
    draw_coordinates(SPACE, points, scores=[0.5, 0.6, 0.7], importances={}, path=path)
    assert names[:2] == ["optimizer\nname", "optimizer\nmomentum"]  # what trials change
    assert drawn[0][1:] == [-0.1, -0.1, -0.1]
    assert drawn[1][1:] == [0.5, -0.1, -0.1]


def test_accuracies_that_the_figure_does_not_reach_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[float, float]] = []
    labels: dict[str, list[float]] = {}

    def plot(
        _axes: Axes, times: list[float], places: list[float], *_: object, label: str, **__: object
    ) -> None:
        labels[label] = [*times, *places]

    monkeypatch.setattr(Axes, "plot", plot)
    monkeypatch.setattr(Axes, "set_ylim", lambda _axes, *found: limits.append(found))
    path = tmp_path / "accuracy.png"
    marks = [Mark(60 * number, score, number) for number, score in enumerate([0.9, 0.5, 0.8, 1.0])]
    draw_accuracy(marks, path)
    assert labels["lower than this figure shows"] == [1, limits[0][0]]
    draw_accuracy([Mark(0, 0.4, 0), *marks[1:]], path)
    assert limits[1][0] < 0.4  # the default is always shown


def test_the_legend_hides_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        drawn.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_accuracy([Mark(number, 0.9, number) for number in range(9)], tmp_path / "accuracy.png")
    [figure] = drawn
    [axes], [legend] = figure.axes, figure.legends
    assert axes.get_legend() is None
    assert not axes.get_window_extent().overlaps(legend.get_window_extent())


@pytest.mark.parametrize(
    ("key", "values", "texts"),
    [
        ("optimizer.learning_rate", {"low": 0.125, "high": 4, "relative": True}, "0.125 1 4"),
        ("optimizer.weight_decay", {"low": 0.001, "high": 0.3}, "0.001 0.02 0.3"),
        ("optimizer.learning_rate", {"low": 0.01, "high": 0.02}, "0.01 0.0141 0.02"),
        ("training.batch_size", {"low": 8, "high": 128}, "8 32 128"),
        ("training.patience", {"low": 1, "high": 10, "log": False}, "1 6 10"),
        ("model.filters", [[8, 16], [16, 32], [24, 48]], "8,16 16,32 24,48"),
    ],
)
def test_round_values_are_written_where_they_are(key: str, values: Any, texts: str) -> None:
    given = {"log": True} | values if isinstance(values, dict) else values
    [dimension] = read_space({key: given}, source="here").dimensions
    ticks = list_ticks(dimension)
    assert [text for _, text in ticks] == texts.split()
    assert [place for place, _ in ticks] == [
        pytest.approx(dimension.encode(dimension.decode(place)), abs=0.01) for place, _ in ticks
    ]
