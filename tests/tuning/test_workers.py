"""Tests of trials side by side: what a search that is stopped leaves."""

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnclf.files import read_json
from cnnclf.prediction.cluster import connecting
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunStatus
from cnnclf.runs.run_lock import LOCK_FILE
from cnnclf.runs.run_opening import create_run
from cnnclf.tuning.workers import open_workers


@dataclass(frozen=True)
class _Job:
    path: Path
    threads: int | None = None


@contextmanager
def _connect(_address: str) -> Iterator[SimpleNamespace]:
    node = SimpleNamespace(cpus=2, gpus=0)
    yield SimpleNamespace(title="this machine", nodes=lambda: (node,))


def test_trials_that_are_stopped_with_their_search_are_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(job: Any) -> SimpleNamespace:
        if job.path.name != "waiting":
            run = create_run(job.path)
            (job.path / LOCK_FILE).touch()  # its process is killed: RUNNING, and the lock is free
            if job.path.name == "ended":
                run.update_run(status=RunStatus.PRUNED)
        return SimpleNamespace(future=Future)

    task = lambda **_: lambda _function: SimpleNamespace(remote=start)  # noqa: E731
    monkeypatch.setattr(connecting, "connect", _connect)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(remote=task))
    opened = open_workers(2, ray=None, gpus=False, progress=Silent(), on_epoch=lambda *_: None)
    with opened as workers:
        for name in ("ended", "running", "waiting"):
            workers.submit(_Job(tmp_path / name))  # type: ignore[arg-type]
    found = {name: read_json(tmp_path / name / "run.json") for name in ("ended", "running")}
    # as a kill it would count, and three of them would fail the trial
    assert found["running"]["status"] == RunStatus.INTERRUPTED
    assert found["ended"]["status"] == RunStatus.PRUNED
    assert not (tmp_path / "waiting").exists()
