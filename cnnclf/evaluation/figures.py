"""The figures of a report: confusion matrix, training curves and the sheet of worst mistakes.

Drawn with matplotlib's object interface on the Agg canvas, without pyplot, a display or the user's
matplotlibrc. Blue and orange are distinct for every kind of color vision.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.drawing.lettering import distinct_names, drawable, elide, font
from cnnclf.files import atomic_path

SHEET_SIZE = 24  # images on a sheet of mistakes
MAX_PRINTED = 20  # up to this many classes the confusion matrix shows counts
MAX_NAMED = 100  # up to this many classes it shows labels
MAX_DRAWN = 200  # up to this many classes it shows all of them

_DPI = 120
_BLUE, _ORANGE, _GREEN, _GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"  # Okabe and Ito 2008
_EMPTY = 0.86  # gray level of a row without samples


@dataclass(frozen=True)
class SheetItem:
    """One image of a sheet.

    Args:
        pixels: Input of the model, uint8 [H, W, C], C 1 or 3.
        path: Path of the file, as in the manifest.
        label: True label.
        label_probability: Probability of the true label, 0..1.
        predicted: Predicted label.
        probability: Probability of the predicted label, 0..1.
    """

    pixels: NDArray[np.uint8]
    path: str
    label: str
    label_probability: float
    predicted: str
    probability: float


def draw_confusion(
    confusion: NDArray[np.int64], path: Path, *, labels: Sequence[str], title: str
) -> None:
    """Draw a confusion matrix, correct predictions in blue and mistakes in orange.

    The color is the fraction of the true class. Counts are shown for up to `MAX_PRINTED` classes,
    labels for up to `MAX_NAMED`; with more classes, the axes show class indices. With more than
    `MAX_DRAWN`, only the classes with most mistakes are drawn, and the title says which fraction of
    all mistakes lies among them: the figure of all would need 0.4 kB for each pair of classes.

    Args:
        confusion: int [K, K], true classes down, predicted classes across.
        path: PNG file to write.
        labels: Names of the K classes in order.
        title: Title of the figure.
    """
    support = confusion.sum(axis=1, keepdims=True)
    if len(labels) > MAX_DRAWN:
        confusion, support, labels, note = _select_confused(confusion, support, labels)
        title = f"{title}\n{note}"
    classes = len(labels)
    shares = confusion / np.maximum(support, 1)
    cell = _cell_inches(classes)
    side = cell * classes
    with _drawing(path, side + 2, side + 1) as figure:
        axes = _axes_inches(figure, 0.5, 0.5, side, side)
        axes.imshow(_share_colors(shares, empty=support[:, 0] == 0), interpolation="nearest")
        _name_classes(axes, labels, cell=cell)
        if classes <= MAX_PRINTED:
            _print_counts(axes, confusion, shares, cell=cell)
        _draw_key(figure, left=0.7 + side, top=0.5 + side, empty_rows=not support.all())
        axes.set_title(drawable(title), loc="left", fontproperties=font(11), parse_math=False)


def _select_confused(
    confusion: NDArray[np.int64], support: NDArray[np.int64], labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str], str]:
    """Return the block of the `MAX_NAMED` most confused classes, and the note for the title."""
    correct = confusion.diagonal()
    # by mistakes of a class and mistakes for it; the first of equal classes
    mistakes = support[:, 0] + confusion.sum(axis=0) - 2 * correct
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[:MAX_NAMED])
    block = confusion[np.ix_(chosen, chosen)]
    total = int(support.sum() - correct.sum())
    inside = int(block.sum() - np.trace(block))
    note = (
        f"the {len(chosen)} most confused of {len(labels):,} classes: {inside:,} of {total:,} "
        "mistakes are among them"
    )
    return block, support[chosen], [labels[index] for index in chosen], note


def draw_curves(
    history: Sequence[Mapping[str, object]],
    path: Path,
    *,
    best_epoch: int | None = None,
    title: str = "",
) -> None:
    """Draw loss and accuracy of the training and validation splits over the epochs.

    Args:
        history: One row per epoch, as in history.csv, with any of loss, accuracy, val_loss,
            val_accuracy, learning_rate, epoch and phase; numbers or their text, empty where
            unknown.
        path: PNG file to write.
        best_epoch: The epoch whose weights were kept, from the column `epoch`.
        title: Title of the figure.
    """
    epochs = _column(history, "epoch")
    epochs = np.where(np.isnan(epochs), np.arange(1, len(history) + 1), epochs)
    phases = [str(row.get("phase") or "") for row in history]
    with _drawing(path, 10, 5.2) as figure:
        panels = [
            _axes_inches(figure, 0.8, 1.9, 4.1, 3.0),
            _axes_inches(figure, 5.7, 1.9, 4.1, 3.0),
        ]
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            _draw_curve(axes, epochs, _column(history, name), color=_BLUE, name="train")
            validation = _column(history, f"val_{name}")
            _draw_curve(axes, epochs, validation, color=_ORANGE, name="val")
            _shade_phases(axes, epochs, phases, named=True)
            if not axes.lines:
                note = {"fontproperties": font(9), "color": _GRAY}
                axes.text(0.05, 0.9, "no finite values", transform=axes.transAxes, **note)
            _mark_best(axes, epochs, validation, best_epoch)
            _style(axes, epochs, ylabel=name)
            if axes.lines:
                axes.legend(prop=font(8), edgecolor="none", framealpha=1)
        _limit_log(panels[0], history)
        rates = _axes_inches(figure, 0.8, 0.55, 9.0, 0.85)
        _draw_rates(rates, epochs, _column(history, "learning_rate"), phases)
        _shade_phases(rates, epochs, phases, named=False)
        _mark_best(rates, epochs, np.full(len(epochs), np.nan), best_epoch)
        _style(rates, epochs, ylabel="learning rate")
        rates.set_xlabel("epoch", fontproperties=font(9))
        figure.text(0.08, 1, drawable(title), fontproperties=font(11), parse_math=False)


def draw_sheet(items: Sequence[SheetItem], path: Path, *, title: str) -> None:
    """Draw images with their paths, labels and probabilities.

    Args:
        items: The images, most important first; those after `SHEET_SIZE` are skipped.
        path: PNG file to write.
        title: Title of the figure.
    """
    items = items[:SHEET_SIZE]
    columns = min(6, max(1, math.ceil(math.sqrt(len(items) * 1.5))))
    rows = max(1, math.ceil(len(items) / columns))
    box, gap, text = 1.85, 0.2, 0.62
    height = rows * (box + text + gap)
    with _drawing(path, columns * (box + gap), height) as figure:
        for i, item in enumerate(items):
            row, column = divmod(i, columns)
            bottom = height - (row + 1) * (box + text + gap) + text + gap
            axes = _axes_inches(figure, column * (box + gap), bottom, box, box)
            _draw_image(axes, item.pixels, inches=box)
            _write_beneath(axes, item, inches=box)
        inches = height + 0.12
        figure.text(0, inches / height, drawable(title), fontproperties=font(11), parse_math=False)


@contextmanager
def _drawing(path: Path, width: float, height: float) -> Iterator[Any]:
    """Yield a figure of a size in inches; it is cropped to its content and saved."""
    # Without a writable home, it warns about its temporary font cache, which needs no action.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):
        figure = Figure(figsize=(width, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        yield figure
        with atomic_path(path) as temporary:
            # Without the name of the software, the same figure gives the same bytes.
            figure.savefig(
                temporary,
                format="png",
                bbox_inches="tight",
                pad_inches=0.15,
                metadata={"Software": None},
            )


def _axes_inches(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def _cell_inches(classes: int) -> float:
    for max_classes, inches in (
        (5, 0.85),
        (10, 0.6),
        (MAX_PRINTED, 0.46),
        (50, 0.24),
        (MAX_NAMED, 0.16),
    ):
        if classes <= max_classes:
            return inches
    return max(2, 1500 // classes) / _DPI  # whole pixels, so that every row is visible


def _share_colors(shares: NDArray[np.float64], *, empty: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return RGB [K, K, 3]: shades of fractions, white for 0, gray for rows without images."""
    colors = _shades(shares, found=False)
    diagonal = np.arange(len(shares))
    colors[diagonal, diagonal] = _shades(shares[diagonal, diagonal], found=True)
    colors[shares == 0] = 1.0
    colors[empty] = _EMPTY
    return np.asarray(colors, dtype=np.float64)


def _draw_key(figure: Any, *, left: float, top: float, empty_rows: bool) -> None:
    shares = np.linspace(1, 0, 120)[:, None]
    for column, (name, diagonal) in enumerate((("correct", True), ("mistakes", False))):
        x = left + 0.3 * column
        axes = _axes_inches(figure, x, top - 1.1, 0.16, 1.1)
        axes.imshow(_shades(shares, found=diagonal), aspect="auto", extent=(0, 1, 0, 1))
        axes.set_xticks([0.5], [name], fontproperties=font(7.5), rotation=90)
        ticks = [] if diagonal else [0, 0.25, 0.5, 0.75, 1]
        axes.set_yticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks], fontproperties=font(7.5))
        axes.tick_params(length=0)
        axes.yaxis.tick_right()
    if empty_rows:
        note = "gray: class\nwithout images"
        w, h = figure.get_size_inches()
        figure.text(left / w, (top - 1.85) / h, note, va="top", fontproperties=font(7.5))


def _shades(shares: NDArray[np.float64], *, found: bool) -> NDArray[np.float64]:
    """Map fractions [...] to RGB [..., 3]; the square root makes a few percent visible."""
    from matplotlib import colormaps

    colors = colormaps["Blues" if found else "Oranges"]
    return np.asarray(colors(0.08 + 0.92 * np.sqrt(shares))[..., :3])


def _name_classes(axes: Any, labels: Sequence[str], *, cell: float) -> None:
    classes = len(labels)
    named = classes <= MAX_NAMED
    if named:
        size = min(9.0, cell * 72 * 0.62)
        names = distinct_names(labels, 1.7, size=size)
        flat = names == distinct_names(labels, cell * 0.92, size=size)
        ticks = range(classes)
        axes.set_yticks(ticks, names, fontproperties=font(size), parse_math=False)
        axes.set_xticks(
            ticks, names, fontproperties=font(size), parse_math=False, rotation=0 if flat else 90
        )
        axes.tick_params(length=0)
    unit = "" if named else " (class index, as in confusion.csv)"
    axes.set_xlabel(f"predicted{unit}", fontproperties=font(9))
    axes.set_ylabel(f"true{unit}", fontproperties=font(9))
    if classes <= MAX_PRINTED:
        lines = np.arange(0.5, classes - 1)
        axes.hlines(lines, -0.5, classes - 0.5, color="#dddddd", linewidth=0.8)
        axes.vlines(lines, -0.5, classes - 0.5, color="#dddddd", linewidth=0.8)


def _print_counts(
    axes: Any, confusion: NDArray[np.int64], shares: NDArray[np.float64], *, cell: float
) -> None:
    digits = len(str(confusion.max()))
    size = min(10.0, cell * 72 * 0.3, cell * 72 * 0.85 / (digits * 0.64))
    with_share = len(confusion) <= 10
    for row, column in zip(*np.nonzero(confusion), strict=True):
        share = shares[row, column]
        text = str(confusion[row, column])
        if with_share:
            # One decimal where a whole percentage would be 0 or 100.
            is_round = 0.0095 < share < 0.995 or share == 1
            text += f"\n{100 * share:.{0 if is_round else 1}f} %"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontproperties=font(size),
            color="white" if share > 0.4 else "black",
        )


def _column(history: Sequence[Mapping[str, object]], name: str) -> NDArray[np.float64]:
    values = [row.get(name) for row in history]
    numbers = [math.nan if value in {None, ""} else float(str(value)) for value in values]
    return np.array([number if math.isfinite(number) else math.nan for number in numbers])


def _draw_curve(
    axes: Any,
    epochs: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    color: str,
    name: str,
) -> None:
    if np.isnan(values).all():
        return
    marker = "o" if len(epochs) <= 40 else ""
    axes.plot(epochs, values, color=color, label=name, marker=marker, markersize=3, linewidth=1.5)


def _draw_rates(
    axes: Any, epochs: NDArray[np.float64], values: NDArray[np.float64], phases: Sequence[str]
) -> None:
    """Draw a line per phase, on a logarithmic axis if the rates of a phase are far smaller."""
    highest = []
    for start, end in _split_phases(phases):
        some = values[start:end]
        _draw_curve(axes, epochs[start:end], some, color=_GRAY, name="")
        highest += [np.nanmax(some)] if not np.isnan(some).all() else []
    if len(highest) > 1 and 0 < min(highest) < max(highest) / 3:
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(highest) / 200)
    else:
        axes.set_ylim(bottom=0)


def _split_phases(phases: Sequence[str]) -> list[tuple[int, int]]:
    """Return the start and end of each phase."""
    starts = [i for i in range(len(phases)) if i == 0 or phases[i] != phases[i - 1]]
    return list(pairwise([*starts, len(phases)]))


def _shade_phases(
    axes: Any, epochs: NDArray[np.float64], phases: Sequence[str], *, named: bool
) -> None:
    parts = _split_phases(phases)
    if len(parts) < 2:
        return
    for number, (start, end) in enumerate(parts):
        left, right = epochs[start] - 0.5, epochs[end - 1] + 0.5
        if number % 2 == 0:
            axes.axvspan(left, right, color="#eeeeee", zorder=0, linewidth=0)
        inches = 4.1 * (end - start) / len(phases)
        name = elide(phases[start], inches - 0.05, size=8)
        # A name is skipped if almost nothing of it would fit.
        if named and (name == drawable(phases[start]) or inches > 0.7):
            axes.text(
                (left + right) / 2,
                1.01,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontproperties=font(8),
                color=_GRAY,
                parse_math=False,
            )


def _mark_best(
    axes: Any,
    epochs: NDArray[np.float64],
    validation: NDArray[np.float64],
    best_epoch: int | None,
) -> None:
    if best_epoch is None:
        return
    value = next((v for e, v in zip(epochs, validation, strict=True) if e == best_epoch), math.nan)
    name = f"best: epoch {best_epoch}" + ("" if math.isnan(value) else f", {value:.4f}")
    axes.axvline(best_epoch, color=_GREEN, linestyle="--", linewidth=1.2, label=name)
    if not math.isnan(value):
        axes.plot([best_epoch], [value], "o", color=_GREEN, markersize=6, zorder=3)


def _style(axes: Any, epochs: NDArray[np.float64], *, ylabel: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylabel(ylabel, fontproperties=font(9))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    if len(epochs):
        axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _limit_log(axes: Any, history: Sequence[Mapping[str, object]]) -> None:
    """Use a logarithmic axis for a loss that fell by orders of magnitude."""
    losses = np.concatenate([_column(history, "loss"), _column(history, "val_loss")])
    losses = losses[~np.isnan(losses)]
    if len(losses) and losses.min() > 0 and losses.max() > 50 * losses.min():
        axes.set_yscale("log")


def _draw_image(axes: Any, pixels: NDArray[np.uint8], *, inches: float) -> None:
    from PIL import Image

    # Small images are enlarged with sharp pixels; large ones are reduced once, with averaging.
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    scale = inches * _DPI / max(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")


def _write_beneath(axes: Any, item: SheetItem, *, inches: float) -> None:
    _write(axes, elide(item.path, inches, size=7), line=0, color=_GRAY, size=7)
    for line, (key, label, probability, color) in enumerate(
        (
            ("true", item.label, item.label_probability, _BLUE),
            ("pred.", item.predicted, item.probability, _ORANGE),
        ),
        start=1,
    ):
        _write(axes, key, line=line, color=color)
        name = elide(label, inches - 0.8, size=8)
        _write(axes, name, line=line, color=color, left=0.36)
        _write(axes, f"{probability:.3f}", line=line, color=color, side="right")


def _write(
    axes: Any,
    text: str,
    *,
    line: int,
    color: str,
    size: float = 8.0,
    left: float = 0.0,
    side: str = "left",
) -> None:
    # The caption has the width of the box, not of the image, which may be narrow.
    box = axes.get_position(original=True)
    width, height = axes.figure.get_size_inches()
    axes.figure.text(
        (box.x0 if side == "left" else box.x1) + left / width,
        box.y0 - (0.14 + 0.18 * line) / height,
        text,
        ha=side,
        va="baseline",
        fontproperties=font(size),
        color=color,
        parse_math=False,
    )
