"""How long training stood still because a batch was not ready."""

import time
from collections import deque


class Waits:
    """Adds up the seconds that training waited for data.

    Either they are measured where batches are taken (`add`), or, where a framework's thread takes
    them ahead, the n-th question (`ask`) is matched with the n-th batch that was given. Time before
    that thread wanted the batch does not count: before the first, the network is compiled.
    """

    def __init__(self) -> None:
        self._sum_s = 0.0
        self._asked: deque[float] = deque()
        self._given: deque[tuple[float, float]] = deque()

    def add(self, seconds: float) -> None:
        """Count seconds that were measured."""
        self._sum_s += seconds

    def ask(self) -> None:
        """Note that training wants its next batch now."""
        self.total_s()
        self._asked.append(time.perf_counter())

    def begin(self) -> deque[tuple[float, float]]:
        """Start the count of batches anew.

        Returns:
            A list that takes, for each batch, when it was wanted and when it was given.
        """
        self._given = deque(maxlen=1 << 16)
        return self._given

    def total_s(self) -> float:
        """Return the seconds waited so far."""
        while self._asked and self._given:
            wanted_s, given_s = self._given.popleft()
            self._sum_s += max(0.0, given_s - max(wanted_s, self._asked.popleft()))
        return self._sum_s
