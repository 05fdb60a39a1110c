"""Work in processes whose results come in order: threads wait for each other in Python's lock.

The more of the time Python itself takes, the more they wait: of 60,000 JPEGs of 32 x 32, two
threads read fewer per second than one.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from itertools import chain, islice
from typing import Final, Generic, TypeVar

from cnnclf.parallel import map_ahead

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_SERVE: Final = "from cnnclf.processes import serve; serve()"
_EXIT_S: Final = 10.0  # that a process may take to end when nothing more is asked


def map_in_processes(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    processes: int,
    ahead: int,
    name: str,
    first: int = 0,
) -> Generator[_Result, None, None]:
    """Yield the results of all items in their order.

    A process that cannot be started, or is killed, is replaced by a thread of this one, and so is
    a single one.

    Args:
        work: Thread-safe, and can be pickled; so can the items and the results. What it raises in
            a process, it must raise here, too: it is called again.
        items: Consumed slightly faster than the results are yielded.
        processes: At least 1.
        ahead: How many items are worked on, or done and not yet yielded, at most; at least 1.
        name: Of the threads that wait for the processes.
        first: Items that threads of this process work on: where there are no more, no time is lost
            with starting processes.
    """
    items = iter(items)
    here = islice(items, first) if processes > 1 else items
    yield from map_ahead(work, here, threads=processes, ahead=ahead, name=name)
    for item in items:
        rest = chain((item,), items)
        with _Processes(work) as others:
            yield from map_ahead(others.run, rest, threads=processes, ahead=ahead, name=name)


class _Processes(Generic[_Item, _Result]):
    """A process for each thread that asks."""

    def __init__(self, work: Callable[[_Item], _Result]) -> None:
        self._work = work
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "_Processes[_Item, _Result]":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            _end(process)

    def run(self, item: _Item) -> _Result:
        """Work on one item in the process of this thread."""
        try:
            process = self._own.process
        except AttributeError:
            process = self._own.process = self._start()
        if process is not None:
            try:
                return self._ask(process, item)
            except (OSError, EOFError, pickle.UnpicklingError):
                self._own.process = None  # it was killed, or the work failed
        return self._work(item)

    def _start(self) -> subprocess.Popen[bytes] | None:
        if not sys.executable:  # Python is part of another program
            return None
        # -P: what lies in the current folder is no module
        command = [sys.executable, "-P", "-c", _SERVE]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            process = subprocess.Popen(  # noqa: S603 - this Python, no user input
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return None
        self._started.append(process)
        try:
            _send(process, self._work)
        except OSError:
            return None
        return process

    def _ask(self, process: subprocess.Popen[bytes], item: _Item) -> _Result:
        _send(process, item)
        if process.stdout is None:
            raise EOFError
        result: _Result = pickle.load(process.stdout)  # noqa: S301 - from a process of our own
        return result


def serve() -> None:
    """Work on what the parent sends, until it sends no more or is gone.

    Whatever libraries print goes where errors go. Ctrl-C is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        asked = sys.stdin.buffer
        work = pickle.load(asked)  # noqa: S301 - from the parent
        while True:
            try:
                item = pickle.load(asked)  # noqa: S301
            except EOFError:
                return
            pickle.dump(work(item), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()


def _send(process: subprocess.Popen[bytes], value: object) -> None:
    if process.stdin is None:
        raise BrokenPipeError
    pickle.dump(value, process.stdin, pickle.HIGHEST_PROTOCOL)
    process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what it was sent last did not reach it
                pipe.close()
    try:
        process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
