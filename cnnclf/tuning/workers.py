"""Where trials are trained: in this process, or side by side in workers of Ray.

A job is a run directory and the epoch that it is to reach, so a job that was lost with its node is
given to another one, which continues from the last checkpoint.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

from cnnclf.data.manifest import load_dataset
from cnnclf.errors import CnnclfError, DeviceError, RunError
from cnnclf.progress import Progress, Silent
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_names import SEARCH_FILE
from cnnclf.training.epochs import EpochRow, StopRequest
from cnnclf.training.phases import HEAD
from cnnclf.tuning.finals import evaluate_on_val
from cnnclf.tuning.trial import KeptNetworks, TrialJob, TrialOutcome, continue_trial, read_outcome

_RETRIES = 3  # of a job whose node was lost
_LOST_S = 90.0  # after that long, a lock of a lost node counts as free on every file system
_POLL_S = 1.0
_END_S = 5.0  # that processes of Ray take at most to end after its shutdown


@dataclass(frozen=True)
class TrialReport:
    """What a worker did.

    Args:
        outcome: What the trial did so far; None after an error.
        warnings: In words.
        needed_s: What the whole training would take, if that is more than the limit.
        error: What ended the search.
    """

    outcome: TrialOutcome | None
    warnings: tuple[str, ...] = ()
    needed_s: float = 0.0
    error: CnnclfError | None = None


def run_job(
    job: TrialJob,
    on_epoch: Callable[[EpochRow], None] | None = None,
    *,
    kept: KeptNetworks | None = None,
) -> TrialReport:
    """Train a trial as far as a job says."""
    said, began, needed_s, counted = Silent(), monotonic(), 0.0, 0
    before = read_outcome(job.path)
    missing = job.epochs - before.epochs

    def watch(row: EpochRow) -> StopRequest | None:
        nonlocal needed_s, counted
        if on_epoch is not None:
            on_epoch(row)
        counted += row.phase != HEAD
        passed_s = monotonic() - began
        if job.stop_s is not None and counted < missing and passed_s > job.stop_s:
            return StopRequest.PRUNE
        # the first epoch compiles; the second one says how long the others take
        if job.limit_s is not None and 1 <= counted <= 2 and counted < missing:
            rest_s = passed_s + (missing - counted) * row.seconds
            if (rest_s if counted == 2 else passed_s) > job.limit_s:
                needed_s = before.wall_s + rest_s
                return StopRequest.PRUNE
        return None

    outcome = continue_trial(job, on_epoch=watch, progress=said, kept=kept)
    return TrialReport(outcome, tuple(said.warnings), needed_s)


def run_lost_job(job: TrialJob) -> TrialReport:
    """Run a job on any node; errors are returned, and a lock of a lost node is waited for.

    What is trained to the end is evaluated here, where its device is.
    """
    directory = job.path.parent.parent
    if not (directory / SEARCH_FILE).is_file():
        return TrialReport(
            None,
            error=RunError(
                f"a node of the cluster does not see {directory}",
                "put the tuning directory and the dataset on storage that all nodes share",
            ),
        )
    deadline = monotonic() + _LOST_S
    run = RunDirectory(job.path)
    while run.record.exists() and run.status() is RunStatus.RUNNING:
        if monotonic() > deadline:
            break
        sleep(_POLL_S)
    try:
        report = run_job(job)
        if report.outcome is not None and report.outcome.is_whole:
            evaluate_on_val(run, load_dataset(job.dataset))
            report = replace(report, outcome=read_outcome(job.path))
    except CnnclfError as error:
        return TrialReport(None, error=error)
    return report


@dataclass(frozen=True)
class Workers:
    """Workers that train trials."""

    count: int
    submit: Callable[[TrialJob], "Future[TrialReport]"]

    @property
    def window(self) -> int:
        """Jobs that are given out before the first of them must be finished.

        Jobs are finished in the order in which they were given out, so that what is chosen next
        does not depend on which worker is faster; twice as many keep the workers busy meanwhile.
        """
        return 1 if self.count == 1 else 2 * self.count


@contextmanager
def open_workers(
    jobs: int | None,
    *,
    ray: str | None,
    gpus: bool,
    progress: Progress,
    on_epoch: Callable[[TrialJob, EpochRow], None],
) -> Iterator[Workers]:
    """Open workers while a with statement runs.

    Args:
        jobs: How many; None: 1 without a cluster, else one per GPU or node.
        ray: Address of a cluster, as of `check_address`; None: workers of this machine.
        gpus: Whether each has a GPU of its own.
        progress: Receives a note.
        on_epoch: Receives each epoch of a trial in this process.

    Raises:
        MissingPackageError: Ray is not installed.
        DeviceError: There is no cluster, or it has no GPU.
    """
    if ray is None and not gpus and jobs in (None, 1):
        kept = KeptNetworks()

        def here(job: TrialJob) -> "Future[TrialReport]":
            done: Future[TrialReport] = Future()
            done.set_result(run_job(job, lambda row: on_epoch(job, row), kept=kept))
            return done

        yield Workers(1, here)
        return
    from cnnclf.prediction.cluster.connecting import OWN, connect

    with _noting_stops() as paths, connect(ray or OWN) as cluster:
        import ray as client

        nodes = cluster.nodes()
        cards = sum(node.gpus for node in nodes)
        if gpus and not cards:
            raise DeviceError(f"{cluster.title} has no GPU for --gpus", "use --no-gpus")
        count = jobs or (cards if gpus else len(nodes))
        cpus = sum(node.cpus for node in nodes) / count
        cpus = max(1, min(int(cpus), *(node.cpus for node in nodes))) if cpus >= 1 else cpus
        threads = max(1, int(cpus))
        # Ray counts no GPU for a worker without one, and hides those of others
        remote = client.remote(
            num_cpus=cpus, num_gpus=int(gpus), max_retries=_RETRIES, max_calls=0
        )(run_lost_job)
        progress.note(f"{count} trials side by side on {cluster.title}")

        def there(job: TrialJob) -> "Future[TrialReport]":
            paths.add(job.path)
            future: Future[TrialReport] = remote.remote(replace(job, threads=threads)).future()
            return future

        yield Workers(count, there)


@contextmanager
def _noting_stops() -> Iterator[set[Path]]:
    """Note which of these trials were stopped with their search: that is no kill of theirs."""
    paths: set[Path] = set()
    try:
        yield paths
    finally:
        deadline = monotonic() + _END_S
        for run in map(RunDirectory, paths):
            if not run.is_readable():  # it was not started
                continue
            while run.status() is RunStatus.RUNNING and monotonic() < deadline:
                sleep(_POLL_S / 10)
            if (status := run.status()) is RunStatus.INTERRUPTED:
                run.update_run(status=status)
