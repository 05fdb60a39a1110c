"""Charts: points are at their place, and odd values do no harm."""

import math
import re

import pytest

from cnnclf.pages.html_page import shorten
from cnnclf.pages.svg_charts import Line, draw_class_bars, draw_lines


def places(svg: str) -> list[tuple[float, float]]:
    path = re.search(r'class="curve c0" d="M([^"]+)"', svg)
    assert path is not None
    return [tuple(map(float, each.split())) for each in path[1].split("L")]  # type: ignore[misc]


def test_points_are_to_scale() -> None:
    line = Line("a", [(0, 0.0), (5, 0.5), (10, 1.0)])
    found = places(draw_lines([line], label="x", size=(460, 260)))
    assert found[0] == (48, 224)
    assert found[-1] == (448, 24)
    assert found[1] == pytest.approx((248, 124))


def test_two_epochs_have_two_ticks_and_fractions_have_several() -> None:
    lines = [Line("loss", [(1.0, 2.0), (2.0, 1.0)], 0)]
    across = re.compile(r'text-anchor="middle">([\d.]+)</text>')
    assert across.findall(str(draw_lines(lines, label="x", x="epoch", y_range=(0, 9)))) == [
        "1",
        "2",
    ]
    corner = [Line("", [(0.0, 0.0), (1.0, 1.0)], 0)]
    assert "0.4" in across.findall(str(draw_lines(corner, label="x", x="recall", y_range=(0, 9))))


def test_there_are_no_ticks_between_epochs() -> None:
    epochs = Line("a", [(1, 0.0), (2, 0.5), (3, 1.0)])
    assert ">1</text>" in str(draw_lines([epochs], label="x", y_range=(0, 9), size=(460, 260)))
    assert ">1.5</text>" not in str(draw_lines([epochs], label="x", y_range=(0, 9)))
    parts = Line("a", [(0, 0.0), (1, 1.0)])
    assert ">0.2</text>" in str(draw_lines([parts], label="x", y_range=(0, 9)))


def test_the_last_tick_is_not_cut() -> None:
    line = Line("a", [(1, 0.0), (2000, 1.0)])
    svg = str(draw_lines([line], label="x", size=(460, 260)))
    place = re.search(r'x="([\d.]+)" y="240" text-anchor="middle">2000<', svg)
    assert place is not None
    assert float(place[1]) <= 460 - 2 * 8


def test_a_logarithmic_axis_skips_what_has_no_logarithm() -> None:
    line = Line("a", [(0, 0.0), (1, 1.0), (2, 10.0), (3, 100.0)])
    found = places(draw_lines([line], label="x", log=True))
    assert len(found) == 3
    assert found[1][1] == pytest.approx((found[0][1] + found[2][1]) / 2)


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0], [math.nan, None], [1e-30, 1e30]])
def test_odd_values(values: list[float | None]) -> None:
    svg = str(draw_lines([Line("<b>", list(enumerate(values)))], label='"'))
    assert "nan" not in svg
    assert "<b>" not in svg
    assert svg.endswith("</svg>")


def test_bars_name_labels_as_text() -> None:
    bars = str(draw_class_bars({"<i>" + "x" * 99: {"train": 3, "val": 0, "test": 1, "rest": 0}}))
    assert "<i>" not in bars
    assert "x" * 61 not in bars
    assert [bars.count(f'class="{split}" style="width') for split in ("train", "val", "test")] == [
        1,
        0,
        1,
    ]
    assert "width:66.00%" in bars  # 3 of 4 images, of a bar that leaves room for the number
    assert "<svg" not in bars  # it grows and shrinks with the page


def test_long_text_keeps_both_ends() -> None:
    assert shorten("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"
    assert shorten("short\n") == "short\\n"
