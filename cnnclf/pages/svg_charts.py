"""Charts: lines as inline SVG, and one bar per class. Colors come from the style of the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from cnnclf.pages.html_page import shorten, show

if TYPE_CHECKING:
    from markupsafe import Markup

COLORS: Final = 8  # c0 to c7 in page.css
MAX_CLASSES: Final = 60
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 24, 36
_DIGIT = 8  # pixels of a digit, at most


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: In the legend; empty for none.
        points: (x, y) in order; a y that is None interrupts the line.
        color: Number of a color; None for a dashed guide.
        dots: Whether points are marked, too.
        is_joined: Whether a line joins the points.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    color: int | None = 0
    dots: bool = False
    is_joined: bool = True


def draw_lines(
    lines: Sequence[Line],
    *,
    label: str,
    x: str = "",
    y: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    size: tuple[int, int] = (460, 260),
    log: bool = False,
) -> "Markup":
    """Draw lines over one pair of axes.

    Args:
        lines: At least one.
        label: What the chart shows, for people who do not see it.
        x: Name of the horizontal axis.
        y: Name of the vertical axis, above it.
        x_range: Lowest and highest x; None for those of the points.
        y_range: Likewise.
        size: Width and height in pixels.
        log: Whether the vertical axis is logarithmic; values that are not positive have no point.
    """
    from markupsafe import Markup

    kept = [(line, [p for p in line.points if _has_place(p, log)]) for line in lines]
    every = [point for _, points in kept for point in points]
    width, height = size
    x_low, x_high = x_range or _range_of([point[0] for point in every])
    values = [math.log10(point[1]) if log else point[1] for point in every if point[1] is not None]
    y_low, y_high = y_range or _range_of(values)

    def place(point: tuple[float, float | None]) -> tuple[float, float]:
        value = point[1] or 0.0
        value = math.log10(value) if log else value
        across = (point[0] - x_low) / (x_high - x_low)
        up = min(1.0, max(0.0, (value - y_low) / (y_high - y_low)))
        return (
            _LEFT + across * (width - _LEFT - _RIGHT),
            height - _BOTTOM - up * (height - _TOP - _BOTTOM),
        )

    name = escape(show(label))
    parts = [
        (
            f'<svg class="chart" role="img" aria-label="{name}" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}">'
        )
    ]
    for tick in _ticks(y_low, y_high):
        _, at = place((x_low, 10**tick if log else tick))
        shown = f"{10**tick:.2g}" if log else f"{tick:g}"
        parts.append(f'<path class="axis" d="M{_LEFT} {at:.1f}H{width - _RIGHT}"/>')
        parts.append(
            f'<text class="dim" x="{_LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{shown}</text>'
        )
    is_whole = all(float(point[0]).is_integer() for point in every)
    is_counted = is_whole and (x_high - x_low > 1 or x == "epoch")  # fractions run from 0 to 1
    for tick in _ticks(x_low, x_high, count=max(2, min(5, width // 60))):
        if is_counted and not float(tick).is_integer():
            continue  # there is no epoch 1.5
        at, _ = place((tick, 1.0))
        at = min(at, width - _DIGIT * len(f"{tick:g}") / 2)  # the last one is not cut
        parts.append(
            f'<text class="dim" x="{at:.1f}" y="{height - _BOTTOM + 16}" '
            f'text-anchor="middle">{tick:g}</text>'
        )
    middle = (width + _LEFT - _RIGHT) / 2
    parts.append(
        f'<text class="dim" x="{middle:.0f}" y="{height - 4}" text-anchor="middle">'
        f"{escape(x)}</text>"
        f'<text class="dim" x="4" y="13">{escape(y)}</text>'
    )
    for line, points in kept:
        parts += _draw_line(line, [place(point) for point in points], points)
    named = [line for line in lines if line.name]
    right = width - _RIGHT
    for line in reversed(named):
        kind = "dim" if line.color is None else f"c{line.color % COLORS}"
        name = shorten(line.name, 24)
        parts.append(
            f'<text class="{kind}" x="{right}" y="13" text-anchor="end">{escape(name)}</text>'
        )
        right -= 7 * len(name) + 12
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 - text is escaped above


def draw_class_bars(counts: Mapping[str, Mapping[str, int]]) -> "Markup":
    """Draw a bar for each class, divided into splits; the largest classes first.

    Args:
        counts: Images by label, and by train, val, test and rest.
    """
    from markupsafe import Markup

    bars = sorted(counts.items(), key=lambda bar: -sum(bar[1].values()))
    longest = max((sum(each.values()) for _, each in bars), default=0) or 1
    rows = []
    for label, parts in bars[:MAX_CLASSES]:
        name = escape(shorten(label, 24))
        colored = "".join(
            f'<i class="{kind}" style="width:{88 * count / longest:.2f}%" title="{kind}: '
            f'{count:,}"></i>'
            for kind, count in parts.items()
            if count
        )
        total = sum(parts.values())
        rows.append(f'<tr><th scope="row">{name}</th><td>{colored} {total:,}</td></tr>')
    used = [kind for kind in ("train", "val", "test") if any(parts.get(kind) for _, parts in bars)]
    key = " ".join(f'<span class="key {each}"></span> {each}' for each in used)
    hidden = len(bars) - MAX_CLASSES
    more = f'<p class="dim">and {hidden:,} more classes</p>' if hidden > 0 else ""
    return Markup(  # noqa: S704 - text is escaped above
        f'<p>{key}</p><table class="bars" aria-label="Number of images of each class">'
        f"{''.join(rows)}</table>{more}"
    )


def _draw_line(
    line: Line, places: Sequence[tuple[float, float]], points: Sequence[tuple[float, float | None]]
) -> list[str]:
    if not places:
        return []
    kind = "guide" if line.color is None else f"curve c{line.color % COLORS}"
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path class="{kind}" d="{path}"/>'] if line.is_joined else []
    if line.dots or len(places) == 1:
        for (x, y), (across, up) in zip(places, points, strict=True):
            parts.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
                f"<title>{escape(show(line.name))} {across:g}: {up:.4g}</title></circle>"
            )
    return parts


def _has_place(point: tuple[float, float | None], log: bool) -> bool:
    x, y = point
    if y is None or not (math.isfinite(x) and math.isfinite(y)):
        return False
    return not log or y > 0


def _range_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value, never the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return about as many round numbers in a range."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
