"""Feeds trackers, live or from finished runs; one that fails never stops training."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from cnnclf.errors import MissingPackageError, RunError, UsageError
from cnnclf.files import read_json
from cnnclf.hardware import read_peak_memory
from cnnclf.packages import install_command
from cnnclf.progress import Progress, Silent
from cnnclf.runs.run_directory import COPY_HINT, RunDirectory
from cnnclf.runs.run_names import DVCLIVE, WANDB
from cnnclf.tracking.dvclive_tracker import DvcliveTracker
from cnnclf.tracking.mlflow_tracker import DEFAULT_URI, MlflowTracker, find_store
from cnnclf.tracking.session_trackers import SessionTracker
from cnnclf.tracking.tensorboard_tracker import TensorboardTracker, find_place
from cnnclf.tracking.tracker import Tracker, epoch_figures
from cnnclf.training.epochs import EpochRow
from cnnclf.training.recording import read_epochs

MAX_WAIT_S = 60.0  # that training waits in all for a tracker, before it continues without it

_MAX_REASON = 200  # characters

_BUILDERS: dict[str, Callable[[str, Progress, bool], Tracker]] = {
    "tensorboard": lambda place, *_: TensorboardTracker(Path(place) if place else None),
    "mlflow": lambda place, progress, continues: MlflowTracker(
        place or DEFAULT_URI, progress=progress, continues=continues
    ),
    "wandb": lambda place, *_: SessionTracker("wandb", place),
    "trackio": lambda place, *_: SessionTracker("trackio", place),
    "dvclive": lambda place, _, continues: DvcliveTracker(place, continues=continues),
}
TRACKERS = tuple(_BUILDERS)
_ADDRESSES = ("http://", "https://")


def viewing_command(target: str, run: RunDirectory, *, continues: bool = True) -> str:
    """Return the command, or the address, that shows what a tracker wrote of a run.

    Args:
        target: As of `build_tracker`.
        run: The run.
        continues: As of `build_tracker`.
    """
    name, _, place = target.partition(":")
    if name == "tensorboard":
        return shlex.join(["tensorboard", "--logdir", place or str(run.path.parent)])
    if name == "mlflow":
        uri = place or DEFAULT_URI
        uri = find_store(run, uri) if continues else uri
        if uri.startswith(_ADDRESSES):
            return uri
        command = shlex.join(["mlflow", "ui", "--backend-store-uri", uri])
        # the package that logs, mlflow-skinny, has no server
        return command if find_spec("flask") else f"pip install mlflow && {command}"
    if name == "wandb":
        return shlex.join(["wandb", "sync", str(run.path / WANDB / "latest-run")])
    if name == "dvclive":
        return shlex.join(["dvc", "plots", "show", str(run.path / DVCLIVE / "dvc.yaml")])
    return f"{f'TRACKIO_DIR={shlex.quote(place)} ' if place else ''}trackio show"


def check_trackers(targets: Sequence[str], *, option: str) -> None:
    """Raise UsageError if a target names no tracker; their packages are not loaded.

    Args:
        targets: As of `build_tracker`.
        option: The option that named them, for messages.
    """
    for target in targets:
        name, _, place = target.partition(":")
        if name not in TRACKERS:
            raise UsageError(
                f"{option} {target}: expected one of {', '.join(TRACKERS)}",
                f"{option} mlflow:{DEFAULT_URI}",
            )
        if name == "wandb" and place not in {"", "online", "offline"}:
            raise UsageError(
                f"{option} {target}: expected wandb, wandb:online or wandb:offline",
                f"{option} wandb:offline",
            )


def build_tracker(
    target: str, *, option: str, progress: Progress, continues: bool = True
) -> Tracker:
    """Build the tracker of a target such as `tensorboard` or `mlflow:sqlite:///mlflow.db`.

    Args:
        target: Its name and, after a colon, where it writes.
        option: The option that named it, for messages.
        progress: Receives warnings.
        continues: Whether a run that was tracked there before is continued.

    Raises:
        UsageError: There is no such tracker.
        MissingPackageError: Its package is not installed.
    """
    check_trackers([target], option=option)
    name, _, place = target.partition(":")
    try:
        return _BUILDERS[name](place, progress, continues)
    except ImportError as error:
        raise MissingPackageError(
            f"{option} {name} needs the package {(error.name or name).partition('.')[0]}, which is "
            "not installed",
            install_command(f"cnnclf[{name}]"),
        ) from error


class Tracking:
    """The trackers of one run.

    Args:
        trackers: By the name that was given.
        progress: Receives a warning for each tracker that fails.
    """

    def __init__(self, trackers: dict[str, Tracker], progress: Progress) -> None:
        self._trackers, self._progress = dict(trackers), progress
        self._run: RunDirectory | None = None
        self._images = 0
        self._waited_s = dict.fromkeys(trackers, 0.0)
        self._is_started = False
        self.reason = ""  # why the last tracker that failed did

    def watch(self, run: RunDirectory) -> RunDirectory:
        """Take the run that epochs will come from; return it."""
        self._run = run
        return run

    def on_epoch(self, row: EpochRow, is_best: bool) -> None:  # noqa: ARG002
        """Pass an epoch on; with the first one, the trackers start."""
        now, memory = time.time(), read_peak_memory()
        self._start(now - row.seconds)
        self._log(row, now, {} if memory is None else {"peak_memory_mb": round(memory / 1e6)})
        for name in [each for each in self._trackers if self._waited_s[each] > MAX_WAIT_S]:
            self._drop(name, f"training waited {self._waited_s[name]:.0f} s for it")

    def replay(self) -> None:
        """Pass all epochs of a finished run on, at the times when they ended.

        Raises:
            RunError: The run has no epochs, or is damaged.
        """
        if self._run is None:
            raise ValueError("expected a run to replay")
        rows = read_epochs(self._run)
        moment = _read_time(self._run, "created")
        self._start(moment)
        for row in rows:
            moment += row.seconds
            self._log(row, moment, {})
        self.end(time_s=_read_time(self._run, "ended"))

    def end(self, *, time_s: float | None = None) -> None:
        """Add the results of the run, and close the trackers."""
        run = self._run
        if run is not None and self._is_started:
            now = time.time() if time_s is None else time_s
            self._each(lambda tracker: tracker.end(run, time_s=now))

    @property
    def targets(self) -> tuple[str, ...]:
        """The trackers that did not fail, by the name that was given."""
        return tuple(self._trackers)

    def _start(self, time_s: float) -> None:
        run = self._run
        if run is not None and not self._is_started:
            self._is_started = True
            self._images = int(read_json(run.plan).get("counts", {}).get("train", 0))
            self._each(lambda tracker: tracker.start(run, time_s=time_s))

    def _log(self, row: EpochRow, time_s: float, more: dict[str, float]) -> None:
        figures = epoch_figures(row, images=self._images) | more
        self._each(lambda tracker: tracker.log(figures, epoch=row.epoch, time_s=time_s))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            began = time.monotonic()
            try:
                call(tracker)
            except tracker.errors as error:
                self._drop(name, str(error).partition("\n")[0][:_MAX_REASON])
            self._waited_s[name] += time.monotonic() - began

    def _drop(self, name: str, reason: str) -> None:
        del self._trackers[name]
        self.reason = reason
        self._progress.warn(
            f"tracking with {name} ended: {reason}; the run directory has everything"
        )


@contextmanager
def open_tracking(targets: Sequence[str], progress: Progress) -> Iterator[Tracking]:
    """Track what happens in a with statement, and close the trackers however it ends."""
    trackers = {
        target: build_tracker(target, option="--track", progress=progress) for target in targets
    }
    tracking = Tracking(trackers, progress)
    try:
        yield tracking
    finally:
        tracking.end()


def find_events(run: RunDirectory, target: str) -> Path | None:
    """Return the directory that has event files of TensorBoard of a run, or None.

    Args:
        run: The run.
        target: As of `build_tracker`.
    """
    name, _, place = target.partition(":")
    if name != "tensorboard":
        return None
    found = find_place(run, Path(place) if place else None)
    return found if any(found.glob("*/events.out.tfevents.*")) else None


def check_export(run: RunDirectory) -> None:
    """Raise RunError if a run cannot be replayed: it is training, damaged or has no epochs."""
    run.check_ended()
    read_json(run.plan, hint=COPY_HINT)
    read_epochs(run)
    _read_time(run, "created")


def export_run(run: RunDirectory, target: str) -> None:
    """Replay a finished run into a tracker.

    Raises:
        UsageError: There is no such tracker.
        MissingPackageError: Its package is not installed.
        RunError: As of `check_export`, or the tracker failed.
    """
    said = Silent()
    tracker = build_tracker(target, option="--to", progress=said, continues=False)
    tracking = Tracking({target: tracker}, said)
    tracking.watch(run)
    tracking.replay()
    if not tracking.targets:
        raise RunError(f"the run {run.path} was not exported to {target}: {tracking.reason}")


def _read_time(run: RunDirectory, key: str) -> float:
    record = run.read_record()
    try:
        return datetime.fromisoformat(str(record.get(key) or record.get("created"))).timestamp()
    except ValueError as error:
        raise RunError(f"expected a time for {key} in {run.record}") from error
