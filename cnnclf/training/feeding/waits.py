"""How long training waited because a batch was not ready."""

import time
from collections import deque


class Waits:
    """Adds up the seconds that training waited for data.

    Either the seconds are measured where batches are taken (`add`), or, if a framework's thread
    prefetches them, the n-th request (`ask`) is matched with the n-th batch. Time before that
    thread requested the batch does not count: before the first, the network is compiled.
    """

    def __init__(self) -> None:
        self._sum_s = 0.0
        self._asked: deque[float] = deque()
        self._given: deque[tuple[float, float]] = deque()

    def add(self, seconds: float) -> None:
        """Count seconds that were measured."""
        self._sum_s += seconds

    def ask(self) -> None:
        """Note that training needs its next batch now."""
        self.total_s()
        self._asked.append(time.perf_counter())

    def begin(self) -> deque[tuple[float, float]]:
        """Restart the count of batches.

        Returns:
            A list to fill: for each batch, when it was requested and when it was ready.
        """
        self._given = deque(maxlen=1 << 16)
        return self._given

    def total_s(self) -> float:
        """Return the seconds waited so far."""
        while self._asked and self._given:
            wanted_s, given_s = self._given.popleft()
            self._sum_s += max(0.0, given_s - max(wanted_s, self._asked.popleft()))
        return self._sum_s
