"""Where the time of a run went by the end of its first epoch: start, waiting or computing."""

from collections.abc import Callable

from cnnclf.progress import Progress
from cnnclf.training.epochs import EpochRow

_MUCH_WAITING = 0.2
_ADVICE = (
    "images are the limit: a smaller --image-size, less --augment, --cache ram or more --threads"
)


class TimeUse:
    """Reports once, after the first epoch of a process, what the time so far was spent on.

    Args:
        progress: Receives the line.
        seconds: Returns the seconds since the run began in this process.
    """

    def __init__(self, progress: Progress, seconds: Callable[[], float]) -> None:
        self._progress = progress
        self._seconds = seconds
        self._is_done = False

    def on_epoch(self, row: EpochRow, is_best: bool) -> None:  # noqa: ARG002
        """Report after the first epoch."""
        if not self._is_done:
            self._is_done = True
            self._progress.note(describe_use(row, self._seconds()))


def describe_use(row: EpochRow, seconds: float) -> str:
    """Say in one line what the time up to the end of an epoch was spent on.

    Args:
        row: The first epoch of a process.
        seconds: From the start of the run to the end of that epoch.
    """
    waiting = min(row.data_wait_s, row.seconds)
    whole = max(seconds, row.seconds, 1e-9)
    fractions = {
        "starting": (whole - row.seconds) / whole,
        "waiting for images": waiting / whole,
        "computing": (row.seconds - waiting) / whole,
    }
    parts = ", ".join(f"{100 * fraction:.0f} % {name}" for name, fraction in fractions.items())
    line = f"time up to the end of the first epoch, {whole:.1f} s: {parts}"
    return f"{line}; {_ADVICE}" if waiting > _MUCH_WAITING * row.seconds else line
