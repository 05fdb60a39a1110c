"""Builds Keras graphs without weights: a hundred million random numbers nobody reads take seconds.

In a `keras.StatelessScope` a variable only notes its shape. Keras keeps a list, per thread, of
variables that wait for their first values; the graph is built in a thread of its own, so that
nothing waits there when the thread ends.
"""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Built = TypeVar("_Built")


def build_weightless(build: Callable[[], _Built]) -> _Built:
    """Build a graph whose variables have shapes, but no values.

    Args:
        build: Builds it with Keras; must not compute with its weights.

    Returns:
        What `build` returned; it can be looked at, but not run or saved.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weightless") as pool:
        return pool.submit(_build, build).result()


def _build(build: Callable[[], _Built]) -> _Built:
    import keras

    was_enabled = gc.isenabled()
    gc.disable()  # a graph is a million objects that all stay: collecting is a third of the time
    try:
        with keras.StatelessScope(initialize_variables=False):
            return build()
    finally:
        if was_enabled:
            gc.enable()
