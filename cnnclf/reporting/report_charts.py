"""The charts of a report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cnnclf.pages.svg_charts import COLORS, Line, draw_lines
from cnnclf.reporting.prediction_table import ClassCurves

if TYPE_CHECKING:
    from markupsafe import Markup

Rows = Sequence[Mapping[str, Any]]

_TRACED: Final = {
    "gradient_norm": "gradient norm",
    "update_ratio": "change of the weights per step, as a fraction of them",
    "dead_fraction": "fraction of dead units",
    "activation_mean": "mean of the activations",
    "activation_spread": "standard deviation of the activations",
}
MAX_DOTS: Final = 40
_SMALL: Final = (164, 170)


def draw_history(history: Rows, *, best_epoch: object) -> "list[Markup]":
    """Draw loss, accuracy and learning rate of all epochs; nothing without epochs."""
    charts = []
    for name, title in (("loss", "loss"), ("accuracy", "accuracy"), ("learning_rate", "rate")):
        both = name != "learning_rate"
        lines = [_trace(history, name, "train" if both else "", color=0)]
        if both:
            lines.append(_trace(history, f"val_{name}", "val", color=1))
        values = [y for line in lines for _, y in line.points if y is not None]
        if not values:
            continue
        if isinstance(best_epoch, int | float):
            lines.append(Line("", [(best_epoch, min(values)), (best_epoch, max(values))], None))
        charts.append(
            draw_lines(
                lines,
                label=f"{title} of {len(history)} epochs: {_describe(lines)}",
                x="epoch",
                y="learning rate" if name == "learning_rate" else title,
                log=name == "loss" and min(values) > 0 and max(values) > 50 * min(values),
            )
        )
    return charts


def draw_trace(trace: Rows) -> "list[Markup]":
    """Draw the figures of up to `COLORS` layers, evenly chosen, over the epochs."""
    layers = name_traced(trace)
    charts = []
    for name, title in _TRACED.items():
        lines = [
            _trace([row for row in trace if row["layer"] == layer], name, "", color=number)
            for number, layer in enumerate(layers)
        ]
        values = [y for line in lines for _, y in line.points if y is not None]
        if values:
            log = name in {"gradient_norm", "update_ratio"} and min(values) > 0
            label = f"{title} of {', '.join(layers)}"
            limits = (0.0, 1.0) if name == "dead_fraction" else None
            charts.append(
                draw_lines(lines, label=label, x="epoch", y=title, y_range=limits, log=log)
            )
    return charts


def name_traced(trace: Rows) -> list[str]:
    """Return the layers that `draw_trace` draws, in the order of their colors."""
    layers = list(dict.fromkeys(str(row["layer"]) for row in trace))
    if len(layers) <= COLORS:
        return layers
    step = (len(layers) - 1) / (COLORS - 1)
    return [layers[round(number * step)] for number in range(COLORS)]


def draw_reliability(bins: Sequence[Mapping[str, Any]]) -> "Markup | None":
    """Draw accuracy against probability; None without predictions."""
    points = [(row["mean_probability"], row["accuracy"]) for row in bins if row["count"]]
    if not points:
        return None
    return draw_lines(
        [Line("calibrated", [(0, 0), (1, 1)], None), Line("model", points, 0, dots=True)],
        label="Reliability diagram: accuracy against mean probability, in the table below",
        x="mean probability",
        y="accuracy",
        x_range=(0, 1),
        y_range=(0, 1),
        size=(320, 300),
    )


def draw_risk(risk: Sequence[tuple[float, float]]) -> "Markup":
    """Draw the error rate against the fraction of images that are accepted."""
    highest = max((y for _, y in risk), default=0.0) or 0.01
    return draw_lines(
        [Line("", risk, 0)],
        label=f"Risk against coverage: {risk[-1][1]:.3f} of all images are wrong",
        x="coverage",
        y="error rate",
        x_range=(0, 1),
        y_range=(0, highest * 1.05),
        size=(320, 300),
    )


def draw_class_curves(label: str, curves: ClassCurves) -> "tuple[Markup, Markup]":
    """Draw ROC and precision-recall curve of a class."""
    roc = draw_lines(
        [Line("", [(0, 0), (1, 1)], None), Line("", curves.roc, 0)],
        label=f"ROC curve of {label}, area {curves.area:.3f}",
        x="false positive rate",
        y="recall",
        x_range=(0, 1),
        y_range=(0, 1),
        size=_SMALL,
    )
    precision = draw_lines(
        [Line("", curves.precision, 1)],
        label=f"Precision-recall curve of {label}, average {curves.average_precision:.3f}",
        x="recall",
        y="precision",
        x_range=(0, 1),
        y_range=(0, 1),
        size=_SMALL,
    )
    return roc, precision


def _trace(rows: Rows, column: str, name: str, *, color: int) -> Line:
    points = [(float(row["epoch"]), row.get(column)) for row in rows if row.get("epoch")]
    return Line(name, points, color, dots=len(points) <= MAX_DOTS)


def _describe(lines: Sequence[Line]) -> str:
    """Return first and last value of each line, for people who do not see the chart."""
    found = []
    for line in lines:
        values = [y for _, y in line.points if y is not None]
        if line.color is not None and values:
            found.append(f"{line.name} from {values[0]:.4g} to {values[-1]:.4g}".strip())
    return ", ".join(found)
