"""Imports Keras and its backend in two thirds of the time, without effects on other threads.

Packages that Keras imports only if they are installed are hidden from the thread that imports it,
and the garbage collector runs less often, since nearly all of the million new objects stay. The
figures are in docs/decisions/0012-hardware.md.
"""

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Keras imports these, if installed, for wrappers, galleries and inputs that are not used here.
OPTIONAL = frozenset({"sklearn", "matplotlib", "pandas"})
# TensorFlow imports it, if installed, for a converter that is not used here.
_BACKEND = "jax"

_THRESHOLDS = (50_000, 5, 1_000_000)  # the last: no collection of all objects


@contextlib.contextmanager
def fast_imports() -> Iterator[None]:
    """Import Keras and its backend in the block without optional packages, and collect rarely.

    In this thread, `OPTIONAL` modules that were not imported before appear not to be installed, and
    neither does JAX unless it is the backend; other threads import them as usual. A program that
    uses the wrappers of Keras for scikit-learn, or pandas as input, imports Keras before the block.
    """
    with _hide_optional_modules(), _collect_rarely():
        yield


class _OptionalModules(MetaPathFinder):
    """Reports `OPTIONAL` modules as missing, to some threads only."""

    def __init__(self) -> None:
        self.hidden_from: set[int] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - part of the protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        backend = os.environ.get("KERAS_BACKEND")
        is_optional = fullname in OPTIONAL or (fullname == _BACKEND and backend != _BACKEND)
        if is_optional and threading.get_ident() in self.hidden_from:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


_FINDER = _OptionalModules()
_LOCK = threading.Lock()
_saved: list[tuple[int, int, int]] = []  # thresholds before each block that is running


@contextlib.contextmanager
def _hide_optional_modules() -> Iterator[None]:
    # It is never removed: a thread that iterates over the list would skip the finder after it.
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    thread = threading.get_ident()
    _FINDER.hidden_from.add(thread)
    try:
        yield
    finally:
        _FINDER.hidden_from.discard(thread)


@contextlib.contextmanager
def _collect_rarely() -> Iterator[None]:
    """Raise the thresholds of the collector; other threads still get their garbage collected."""
    with _LOCK:
        _saved.append(gc.get_threshold())
        gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        with _LOCK:
            before = _saved[0]
            _saved.pop()
            if not _saved:
                gc.set_threshold(*before)
