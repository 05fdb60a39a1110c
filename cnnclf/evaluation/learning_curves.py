"""The learning curves of a run: loss, accuracy and learning rate over the epochs."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.drawing.lettering import drawable, elide, font
from cnnclf.evaluation.figures import BLUE, GRAY, ORANGE, add_axes, open_figure

_GREEN = "#009E73"  # Okabe and Ito 2008


def draw_curves(
    history: Sequence[Mapping[str, object]],
    path: Path,
    *,
    best_epoch: int | None = None,
    averaged: int = 1,
    title: str = "",
) -> None:
    """Draw loss and accuracy of the training and validation splits over the epochs.

    Args:
        history: One row per epoch, as in history.csv, with any of loss, accuracy, val_loss,
            val_accuracy, learning_rate, epoch and phase; numbers or their text, empty where
            unknown.
        path: PNG file to write.
        best_epoch: The epoch whose weights were kept, from the column `epoch`.
        averaged: Over how many epochs val was averaged to find it.
        title: Title of the figure.
    """
    epochs = _column(history, "epoch")
    epochs = np.where(np.isnan(epochs), np.arange(1, len(history) + 1), epochs)
    phases = [str(row.get("phase") or "") for row in history]
    with open_figure(path, (10, 5.2)) as figure:
        panels = [
            add_axes(figure, (0.8, 1.9, 4.1, 3.0)),
            add_axes(figure, (5.7, 1.9, 4.1, 3.0)),
        ]
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            _draw_curve(axes, epochs, _column(history, name), color=BLUE, name="train")
            validation = _column(history, f"val_{name}")
            _draw_curve(axes, epochs, validation, color=ORANGE, name="val")
            _shade_phases(axes, epochs, phases, named=True)
            if not axes.lines:
                note = {"fontproperties": font(9), "color": GRAY}
                axes.text(0.05, 0.9, "no finite values", transform=axes.transAxes, **note)
            _mark_best(axes, epochs, validation, best_epoch, averaged)
            _style(axes, epochs, ylabel=name)
            if axes.lines:
                axes.legend(prop=font(8), edgecolor="none", framealpha=1)
        _limit_log(panels[0], history)
        rates = add_axes(figure, (0.8, 0.55, 9.0, 0.85))
        _draw_rates(rates, epochs, _column(history, "learning_rate"), phases)
        _shade_phases(rates, epochs, phases, named=False)
        _mark_best(rates, epochs, np.full(len(epochs), np.nan), best_epoch)
        _style(rates, epochs, ylabel="learning rate")
        rates.set_xlabel("epoch", fontproperties=font(9))
        figure.text(0.08, 1, drawable(title), fontproperties=font(11), parse_math=False)


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
        _draw_curve(axes, epochs[start:end], some, color=GRAY, name="")
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
                color=GRAY,
                parse_math=False,
            )


def _mark_best(
    axes: Any,
    epochs: NDArray[np.float64],
    validation: NDArray[np.float64],
    best_epoch: int | None,
    averaged: int = 1,
) -> None:
    if best_epoch is None:
        return
    value = next((v for e, v in zip(epochs, validation, strict=True) if e == best_epoch), math.nan)
    kind = "best" if averaged == 1 else f"best mean accuracy of {averaged}"
    name = f"{kind}: epoch {best_epoch}" + ("" if math.isnan(value) else f", {value:.4f}")
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
