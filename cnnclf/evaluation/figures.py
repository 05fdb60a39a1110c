"""The figures of a report: confusion matrix and the sheet of worst mistakes.

Drawn with matplotlib's object interface on the Agg canvas, without pyplot, a display or the user's
matplotlibrc. Blue and orange are distinct for every kind of color vision.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.drawing.lettering import distinct_names, drawable, elide, font
from cnnclf.files import atomic_path

SHEET_SIZE = 24  # images on a sheet of mistakes
_WIDE_INCHES = 4.0
MAX_PRINTED = 20  # up to this many classes the confusion matrix shows counts
MAX_NAMED = 100  # up to this many classes it shows labels
MAX_DRAWN = 200  # up to this many classes it shows all of them

_DPI = 120
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito 2008
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
    support, lines = confusion.sum(axis=1, keepdims=True), [title]
    if len(labels) > MAX_DRAWN:
        confusion, support, labels, note = _select_confused(confusion, support, labels)
        lines.append(note)
    classes = len(labels)
    shares = confusion / np.maximum(support, 1)
    cell = _cell_inches(classes)
    side = cell * classes
    if side < _WIDE_INCHES:  # in one line, the title would be twice as wide as the matrix
        first, bracket, rest = title.partition(" (")
        lines[:1] = [first, f"({rest}"] if bracket else [title]
    with open_figure(path, (side + 2, side + 1)) as figure:
        axes = add_axes(figure, (0.5, 0.5, side, side))
        axes.imshow(_share_colors(shares, empty=support[:, 0] == 0), interpolation="nearest")
        _name_classes(axes, labels, cell=cell)
        if classes <= MAX_PRINTED:
            _print_counts(axes, confusion, shares, cell=cell)
        _draw_key(figure, left=0.7 + side, top=0.5 + side, empty_rows=not support.all())
        words = "\n".join(drawable(line) for line in lines)
        axes.set_title(words, loc="left", fontproperties=font(11), parse_math=False)


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
    with open_figure(path, (columns * (box + gap), height)) as figure:
        for i, item in enumerate(items):
            row, column = divmod(i, columns)
            bottom = height - (row + 1) * (box + text + gap) + text + gap
            axes = add_axes(figure, (column * (box + gap), bottom, box, box))
            _draw_image(axes, item.pixels, inches=box)
            _write_beneath(axes, item, inches=box)
        inches = height + 0.12
        figure.text(0, inches / height, drawable(title), fontproperties=font(11), parse_math=False)


@contextmanager
def open_figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Yield a figure that is cropped to its content and saved.

    Args:
        path: The PNG file.
        size: Width and height in inches.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):
        figure = Figure(figsize=size, dpi=_DPI)
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


def add_axes(figure: Any, place: tuple[float, float, float, float]) -> Any:
    """Add axes to a figure.

    Args:
        figure: The figure.
        place: Left, bottom, width and height in inches.
    """
    left, bottom, width, height = place
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
        axes = add_axes(figure, (x, top - 1.1, 0.16, 1.1))
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
    share = " (percent of its row)" if classes <= MAX_PRINTED else ""
    axes.set_ylabel(f"true{unit}{share}", fontproperties=font(9))
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
    _write(axes, elide(item.path, inches, size=7), line=0, color=GRAY, size=7)
    for line, (key, label, probability, color) in enumerate(
        (
            ("true", item.label, item.label_probability, BLUE),
            ("pred.", item.predicted, item.probability, ORANGE),
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
