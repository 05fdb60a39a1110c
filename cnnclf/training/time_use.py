"""Where the time of a run went by the end of its first epoch: start, waiting or computing."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from cnnclf.evaluation.learning_diagnosis import describe_shares
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.epochs import EpochRow

_MUCH_WAITING = 0.2
_SHORT_WAIT_S = 1.0  # what a feed that starts may take, even if the epoch is shorter
_ADVICE = (
    "images are the limit: a smaller --image-size, less --augment, --cache ram or more --threads"
)


@dataclass(eq=False)
class TimeUse:
    """Reports once, after the first epoch of a process, what the time so far was spent on.

    Args:
        progress: Receives the line.
        seconds: Returns the seconds since the run began in this process.
        run: Its record receives the seconds before the first epoch, of all processes.
    """

    progress: Progress
    seconds: Callable[[], float]
    _: KW_ONLY
    run: RunDirectory
    _is_done: bool = field(default=False, init=False)

    def on_epoch(self, row: EpochRow, is_best: bool) -> None:  # noqa: ARG002
        """Report after the first epoch."""
        if not self._is_done:
            self._is_done = True
            record, seconds = self.run.read_record(), self.seconds()
            start_s = float(record.get("start_s") or 0.0) + max(0.0, seconds - row.seconds)
            self.run.update_run(start_s=round(start_s, 3))
            self.progress.note(describe_use(row, seconds, device=str(record.get("device"))))


def describe_use(row: EpochRow, seconds: float, *, device: str = "") -> str:
    """Say in one line what the time up to the end of an epoch was spent on.

    Args:
        row: The first epoch of a process.
        seconds: From the start of the run to the end of that epoch.
        device: What was waiting, as in run.json.
    """
    waiting = min(row.data_wait_s, row.seconds)
    whole = max(seconds, row.seconds, 1e-9)
    shares = describe_shares(whole, starting=whole - row.seconds, waiting=waiting, device=device)
    line = f"time up to the end of the first epoch, {whole:.1f} s: {shares}"
    is_much = waiting > max(_SHORT_WAIT_S, _MUCH_WAITING * row.seconds)
    return f"{line}; {_ADVICE}" if is_much else line
