"""The figures of an epoch, and who receives them."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Self

from pydantic import TypeAdapter


@dataclass(frozen=True)
class EpochRow:
    """The figures of one epoch: a row of `history.csv`, in the order of its columns.

    Args:
        epoch: Counted from 1, over all phases.
        phase: The phase it belongs to: `train`, `head` or `tail`.
        loss: Mean training loss.
        accuracy: Training accuracy, 0..1.
        val_loss: Loss on val; None without a val split.
        val_accuracy: Accuracy on val, 0..1; None without a val split.
        learning_rate: Of the last step.
        seconds: Duration, with validation.
        data_wait_s: Seconds of it in which training waited for images.
    """

    epoch: int
    phase: str
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float
    data_wait_s: float

    @property
    def score(self) -> tuple[float, float]:
        """(accuracy, negative loss) on val, the larger the better; without val the newest epoch.

        A loss that is NaN, which JSON has as null, is the worst there is.
        """
        if self.val_accuracy is None:
            return float(self.epoch), 0.0
        if self.val_loss is None or math.isnan(self.val_loss):
            return self.val_accuracy, -math.inf
        return self.val_accuracy, -self.val_loss

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, in the order of the columns."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read back the result of `to_dict`.

        Raises:
            TypeError: A figure is missing, or there is an unknown one.
            ValueError: A figure has another type.
        """
        checked = _figures().validate_python(asdict(cls(**content)))
        return cls(**asdict(checked))


@cache
def _figures() -> TypeAdapter[EpochRow]:
    return TypeAdapter(EpochRow)


class StopRequest(StrEnum):
    """What a listener may ask for after an epoch."""

    STOP = "stop"
    """Training ends with this epoch; the best epoch is judged and tested as usual."""

    PRUNE = "prune"
    """The run ends with this epoch, is neither judged nor tested, and has the status `pruned`."""


EpochListener = Callable[[EpochRow, bool], StopRequest | None]
"""Receives each epoch and whether it is the best so far; None lets training continue."""


def notify(
    listeners: Iterable[EpochListener], row: EpochRow, *, is_best: bool
) -> StopRequest | None:
    """Call all listeners in order.

    Returns:
        The strongest request: to prune rather than to stop.
    """
    requests = {listener(row, is_best) for listener in listeners}
    if StopRequest.PRUNE in requests:
        return StopRequest.PRUNE
    return StopRequest.STOP if StopRequest.STOP in requests else None
