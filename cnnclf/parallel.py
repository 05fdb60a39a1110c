"""Work in threads whose results come in order, while only a few are in memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, ahead: int, name: str
) -> Generator[_Result, None, None]:
    """Yield the results of all items in their order.

    Args:
        work: Thread-safe.
        items: Consumed slightly faster than the results are yielded.
        threads: At least 1.
        ahead: How many items are worked on, or done and not yet yielded, at most; at least 1.
        name: Of the threads.
    """
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
