"""Measures where the time of a prediction goes, and which stage is the bottleneck.

The stages run concurrently, so the time that the pipeline waits for each stage is measured. When
all processors are busy, decoding and computing wait for each other and waiting times say little;
then the processor time of each stage is compared instead.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

from cnnclf.hardware import count_usable_cpus

# Name of a stage to its description.
STAGES: dict[str, str] = {
    "list": "listing files",
    "decode": "decoding",
    "compute": "computing",
    "write": "writing rows",
}
_BUSY = 0.8  # of all processors; above it they are the bottleneck


class Limit(NamedTuple):
    """The slowest stage.

    Args:
        stage: A key of `STAGES`.
        share: Its fraction of the time, 0..1.
        is_processor: Whether it is a fraction of the processor time, because all processors are
            busy, or of the elapsed time.
    """

    stage: str
    share: float
    is_processor: bool

    def __str__(self) -> str:
        of = "the processor time" if self.is_processor else "the time"
        return f"bottleneck: {STAGES[self.stage]}, {100 * self.share:.0f} % of {of}"


class StageClock:
    """Adds up how long the pipeline waits for each stage; `enter` takes 0.25 microseconds.

    Args:
        processors: Number of processors; None for those the process may use.
    """

    def __init__(self, processors: int | None = None) -> None:
        self._processors = processors or count_usable_cpus()
        self._waited = dict.fromkeys(STAGES, 0.0)
        self._decoded_s = 0.0
        self._stage: str | None = None
        self._since = 0.0
        self._began_cpu_s = 0.0
        self._cpu_s = 0.0

    def enter(self, stage: str) -> None:
        """Attribute the time from now on to a stage."""
        now = time.perf_counter()
        if self._stage is None:
            self._began_cpu_s = time.process_time()
        else:
            self._waited[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def stop(self) -> None:
        """Stop the clock until the next `enter`."""
        if self._stage is not None:
            self._waited[self._stage] += time.perf_counter() - self._since
            self._cpu_s += time.process_time() - self._began_cpu_s
            self._stage = None

    def add_decoding(self, processor_s: float) -> None:
        """Add the processor time that a thread spent on decoding."""
        self._decoded_s += processor_s

    @property
    def seconds(self) -> float:
        """Total time measured so far."""
        return sum(self._waited_so_far().values())

    def shares(self) -> tuple[Mapping[str, float], bool]:
        """Return the fraction of each stage, 0..1, and whether of the processor time."""
        waited_s = self._waited_so_far()
        seconds = max(sum(waited_s.values()), 1e-9)
        is_running = self._stage is not None
        cpu_s = self._cpu_s + (time.process_time() - self._began_cpu_s if is_running else 0.0)
        if cpu_s < _BUSY * self._processors * seconds:
            return {stage: waited / seconds for stage, waited in waited_s.items()}, False
        spent = {**waited_s, "decode": self._decoded_s, "compute": 0.0}
        spent["compute"] = max(0.0, cpu_s - sum(spent.values()))
        total = max(sum(spent.values()), 1e-9)
        return {stage: each / total for stage, each in spent.items()}, True

    def limit(self) -> Limit:
        """Return the slowest stage."""
        shares, is_processor = self.shares()
        stage = max(shares, key=lambda each: shares[each])
        return Limit(stage, shares[stage], is_processor)

    def _waited_so_far(self) -> dict[str, float]:
        if self._stage is None:
            return self._waited
        running_s = time.perf_counter() - self._since
        return {**self._waited, self._stage: self._waited[self._stage] + running_s}
