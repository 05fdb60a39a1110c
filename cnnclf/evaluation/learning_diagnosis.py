"""What a history and a trace say about how a network learned, in words.

The limits are rules of thumb. Each sentence names the figure that it was drawn from.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cnnclf.bounded import read_table

Rows = Sequence[Mapping[str, Any]]

_TEXTS = ("phase", "layer")  # the columns that hold no numbers
_MIN_OVERFIT = 3  # epochs after the lowest val loss
_MIN_RISE = 1.1  # of the val loss since then
_GAP = 0.15  # of the accuracy on train and val
_MIN_FALL = 0.95  # of the training loss of the first epoch; above it, next to nothing was learned
_MIN_GAIN = 0.05  # of the training accuracy since then
_NOTHING = 0.02  # a loss below it has nothing left to lose, as --perfect-loss has it
_WAIT = 0.2  # fraction of the time
_DEAD = 0.5  # fraction of the units of a layer
_VANISHING = 1e-3  # gradient norm of a layer compared with the largest
_LARGE_UPDATE = 0.03  # of the weights, per step
_TINY_UPDATE = 1e-6


def describe_shares(seconds: float, *, starting: float, waiting: float, device: str) -> str:
    """Say in percent what a time was spent on.

    Args:
        seconds: From the start of a run to the end of an epoch.
        starting: Those before the first epoch.
        waiting: Those that training waited for images.
        device: What waited, such as "CPU: ..." or "GPU: ...".
    """
    whole = max(seconds, starting + waiting, 1e-9)
    waits = "the GPU waiting for images" if device.startswith("GPU") else "waiting for images"
    shares = {
        "starting": starting,
        waits: waiting,
        "computing": whole - starting - waiting,
    }
    return ", ".join(f"{100 * each / whole:.0f} % {name}" for name, each in shares.items())


def diagnose(history: Rows, trace: Rows = (), *, optimizer: str = "") -> list[str]:
    """Say what is off; nothing if nothing is.

    Args:
        history: One row per epoch, as in history.csv.
        trace: One row per epoch and layer, as in trace.csv.
        optimizer: Its name; with muon, the rate is the fraction of a kernel that a step changes.

    Returns:
        One sentence per finding.
    """
    meant = max(_column(history, "learning_rate"), default=0.0) if optimizer == "muon" else 0.0
    return [
        *(_find_standstill(history) or _find_overfitting(history) or _find_memorizing(history)),
        *_find_jumps(history),
        *_find_waiting(history),
        *_find_in_trace(trace, large_update=max(_LARGE_UPDATE, 1.5 * meant)),
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read history.csv or trace.csv; numbers that are missing or not finite become None.

    Raises:
        RunError: It is damaged.
    """
    return read_table(path, _parse) if path.exists() else []


def _parse(row: Mapping[str, str]) -> dict[str, Any]:
    texts = {name: row[name] for name in _TEXTS if row.get(name)}
    if not texts or not row["epoch"]:
        raise ValueError
    return {**{name: _number(cell) for name, cell in row.items() if name not in _TEXTS}, **texts}


def _number(cell: str | None) -> float | None:
    number = float(cell) if cell else math.nan
    return number if math.isfinite(number) else None


def _find_standstill(history: Rows) -> list[str]:
    losses, accuracies = (_column(history, name) for name in ("loss", "accuracy"))
    if len(losses) <= 2 * _MIN_OVERFIT or len(accuracies) != len(losses):
        return []
    loss, accuracy = (fmean(each[-_MIN_OVERFIT:]) for each in (losses, accuracies))
    if loss < max(_MIN_FALL * losses[0], _NOTHING) or accuracy > accuracies[0] + _MIN_GAIN:
        return []
    if accuracy > 1 - _GAP:
        return []  # what was right from the start on
    ways = "another learning rate"
    if _is_from_scratch(history):
        ways = f"--batch-norm, --activation relu or {ways} (cnnclf lr-find)"
    sentence = (
        f"next to nothing was learned: the training loss went from {losses[0]:.3g} to {loss:.3g}; "
        f"try {ways}, and check the labels (cnnclf check)"
    )
    return [sentence]


def _find_overfitting(history: Rows) -> list[str]:
    losses = _column(history, "val_loss")
    if len(losses) <= _MIN_OVERFIT:
        return []
    best = min(range(len(losses)), key=losses.__getitem__)
    train = _column(history, "loss")
    # Where losses are noisy, the lowest is chance: means of several epochs are compared.
    size = max(_MIN_OVERFIT, len(losses) // 8)
    means = [fmean(losses[at : at + size]) for at in range(len(losses) - size + 1)]
    before, after = min(means), means[-1]
    if len(losses) - 1 - best < _MIN_OVERFIT or train[-1] >= train[best]:
        return []
    noise = stdev(two - one for one, two in pairwise(losses[best:])) / math.sqrt(size)
    if after <= max(before * _MIN_RISE, before + 3 * noise, _NOTHING):
        return []
    sentence = (
        f"overfitting since epoch {best + 1}: the val loss rose from {before:.3g} to "
        f"{after:.3g} while the training loss fell; try {_advise(history)}"
    )
    return [sentence]


def _find_memorizing(history: Rows) -> list[str]:
    """Say so if the val loss does not rise, because it has hardly fallen before."""
    if len({row.get("phase") for row in history}) > 1:
        return []  # the weights that are kept may be between those of two phases
    last = [_column(history[-_MIN_OVERFIT:], name) for name in ("accuracy", "val_accuracy")]
    if not all(last):
        return []
    train, val = map(fmean, last)
    if train - val < _GAP:
        return []
    sentence = (
        f"overfitting: {100 * train:.0f} % of the training images are labeled rightly, but "
        f"{100 * val:.0f} % of val; more images help most, else try {_advise(history)}"
    )
    return [sentence]


def _advise(history: Rows) -> str:
    advice = "more augmentation, dropout or weight decay"
    if _is_from_scratch(history):
        advice += ", or cnnclf finetune, which starts from a pretrained network"
    return advice


def _is_from_scratch(history: Rows) -> bool:
    return {row.get("phase") for row in history} == {"train"}


def _find_jumps(history: Rows) -> list[str]:
    losses = _column(history, "loss")
    jumps = [at for at in range(1, len(losses)) if losses[at] > max(1.2 * losses[at - 1], _NOTHING)]
    if len(losses) < 4 or len(jumps) * 4 < len(losses):
        return []
    sentence = (
        f"the training loss jumped up in {len(jumps)} of {len(losses)} epochs: the learning rate "
        "is too high; try a third of it"
    )
    return [sentence]


def _find_waiting(history: Rows) -> list[str]:
    seconds, waits = sum(_column(history, "seconds")), sum(_column(history, "data_wait_s"))
    if not seconds or waits < _WAIT * seconds:
        return []
    part = 100 * waits / seconds
    return [f"training waited for images {part:.0f} % of the time; try --threads, --cache"]


def _find_in_trace(trace: Rows, *, large_update: float) -> list[str]:
    last = max((row["epoch"] for row in trace if row.get("epoch") is not None), default=None)
    rows = [row for row in trace if row.get("epoch") == last]
    found = []
    dead = [row for row in rows if (row.get("dead_fraction") or 0) >= _DEAD]
    if dead:
        worst = max(dead, key=lambda row: row["dead_fraction"])
        found.append(
            f"dead units: {100 * worst['dead_fraction']:.0f} % of {worst['layer']} are 0 for "
            "every image; "
            "try a lower learning rate, or --activation leaky_relu"
        )
    norms = [(row["gradient_norm"], row["layer"]) for row in rows if row.get("gradient_norm")]
    if norms and min(norms)[0] < _VANISHING * max(norms)[0]:
        found.append(
            f"vanishing gradient: that of {min(norms)[1]} is {min(norms)[0] / max(norms)[0]:.1e} "
            f"of that of {max(norms)[1]}; try --batch-norm, relu, or fewer layers"
        )
    # updates are small at the end of a schedule: the largest of all epochs counts
    largest: dict[str, float] = {}
    for row in trace:
        if row.get("update_ratio") is not None:
            largest[row["layer"]] = max(row["update_ratio"], largest.get(row["layer"], 0.0))
    big = {name: ratio for name, ratio in largest.items() if ratio > large_update}
    if big:
        name = max(big, key=big.__getitem__)
        found.append(
            f"exploding steps: a step changed {name} by {100 * big[name]:.1f} % of its weights; "
            "try a "
            "lower learning rate, or --clip-norm 1"
        )
    if largest and max(largest.values()) < _TINY_UPDATE:
        found.append("no layer changed by more than a millionth per step: raise the learning rate")
    return found


def _column(rows: Rows, name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name) is not None]
