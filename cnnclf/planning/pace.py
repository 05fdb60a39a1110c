"""How fast this machine trains a network, and how long a run will take.

A pace is measured once per network, machine and versions (`training/precision.py`) and kept in the
cache. Until then it is estimated from the arithmetic and the memory traffic of the layers and the
speed of a matrix product, which takes a moment; the error of both is stated. Nothing here loads
TensorFlow.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.data.cache import cache_dir
from cnnclf.errors import CnnclfError, ConfigError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.hardware import count_usable_cpus, find_nvidia_gpus, has_bfloat16, read_cpu_name
from cnnclf.models.anatomy import Anatomy
from cnnclf.names import count_of
from cnnclf.packages import read_versions

MEASURED_ERROR = 0.25
ESTIMATED_ERROR = 1.0
START_S = 8.0  # TensorFlow, building and compiling

MIN_STEPS = 20  # of a run that has minutes
MAX_INDEXED = 4000  # training images of an index; fewer where their features are many

_PACE_VERSION = 2
_PASSES_OF_A_STEP = 3  # forward, and backward to the inputs and to the weights
_MOVES_OF_A_STEP = 2  # times that each output is written or read, as measured for the presets
_BYTES_PER_S = 12e9
_FINISH_S = 4.0  # figures and checkpoints
_EPOCH_S = 0.05  # between epochs: starting the passes, history and checkpoint of a small network
_CLEARLY = 1.05
_PRECISIONS = {"float32", "bfloat16", "float16"}
PARALLEL = 0.9  # of all processors that a training step keeps busy
_LARGE_PRODUCTS = 1.5  # their speed over that of small ones, on processors with AVX-512
_PACKAGES = ("python", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch")


@dataclass(frozen=True)
class Pace:
    """Images per second of training.

    Args:
        rates: By precision; those that were measured, or an estimate for float32.
        is_measured: Whether they were measured.
    """

    rates: Mapping[str, float]
    is_measured: bool

    @property
    def error(self) -> float:
        """How much longer a run may take, as a fraction; or how much less, divided by as much."""
        return MEASURED_ERROR if self.is_measured else ESTIMATED_ERROR

    def rate(self, precision: str) -> float:
        """Return images per second in a precision; `auto` is the one that `choose` returns."""
        chosen = self.choose() if precision == "auto" else precision
        return self.rates.get(chosen, self.rates["float32"])

    def choose(self) -> str:
        """Return the fastest precision; another than float32 only where it clearly is."""
        fastest = max(self.rates.keys() & _PRECISIONS, key=lambda name: self.rates[name])
        return fastest if self.rates[fastest] > _CLEARLY * self.rates["float32"] else "float32"

    @property
    def words(self) -> str:
        """The rates in words."""
        rates = [f"{name} {rate:,.0f}" for name, rate in self.rates.items()]
        return f"images/s {'measured' if self.is_measured else 'estimated'}: {', '.join(rates)}"


def find_pace(anatomy: Anatomy, *, batch_size: int, optimizer: str) -> Pace:
    """Return the measured pace of a network, or else an estimate."""
    known = read_pace(_list_facts(anatomy, batch_size=batch_size, optimizer=optimizer))
    if known is not None:
        return known
    # a multiplication and an addition each
    products_s = 2 * _PASSES_OF_A_STEP * anatomy.macs / measure_products()
    moves_s = _MOVES_OF_A_STEP * anatomy.activation_bytes / _BYTES_PER_S
    rates = {"float32": 1 / (products_s + moves_s)}
    if has_bfloat16():
        rates["bfloat16"] = 1 / (products_s / 2 + moves_s)
    return Pace(rates, is_measured=False)


def keep_pace(
    rates: Mapping[str, float], anatomy: Anatomy, *, batch_size: int, optimizer: str
) -> None:
    """Keep images per second by precision, float32 among them, of a network as for `find_pace`."""
    write_pace(rates, _list_facts(anatomy, batch_size=batch_size, optimizer=optimizer))


def read_pace(facts: Sequence[object]) -> Pace | None:
    """Return what was measured on this machine and with these versions; None: nothing.

    Args:
        facts: What the steps that were measured depend on, as JSON values.
    """
    try:
        stored = read_json(_pace_file(facts))["rates"].items()
        rates = {str(name): float(rate) for name, rate in stored}
        if rates["float32"] > 0 and all(np.isfinite(rate) for rate in rates.values()):
            return Pace(rates, is_measured=True)
    except (CnnclfError, LookupError, TypeError, ValueError, AttributeError):
        pass  # not measured yet, or a damaged file, which the next measurement replaces
    return None


def write_pace(rates: Mapping[str, float], facts: Sequence[object]) -> None:
    """Keep what was measured in the cache; without a cache it is measured again."""
    _keep(_pace_file(facts), {"pace_version": _PACE_VERSION, "rates": dict(rates)})


@cache
def measure_products() -> float:
    """Return the floating-point operations per second of matrix products on all processors.

    Measured once per machine and kept in the cache, so that a plan says the same each time.
    """
    facts = [_PACE_VERSION, read_cpu_name(), count_usable_cpus(), np.__version__]
    path = _cached_file("products-", facts)
    try:
        speed = float(read_json(path)["flops"])
        if speed > 0 and np.isfinite(speed):
            return speed
    except (CnnclfError, LookupError, TypeError, ValueError):
        pass  # not measured yet, or a damaged file, which is replaced
    speed = _time_products()
    _keep(path, {"flops": speed})
    return speed


def _time_products() -> float:
    """Time matrix products.

    By processor time, and with products that are too small for a second thread, which would wait
    for a free processor: so other programs hardly change the result.
    """
    side, repeats = 64, 100
    matrix = np.ones((side, side), np.float32)
    fastest = float("inf")
    for _ in range(20):
        begin = time.thread_time()
        for _ in range(repeats):
            matrix @ matrix
        fastest = min(fastest, (time.thread_time() - begin) / repeats)
    one = _LARGE_PRODUCTS * 2 * side**3 / max(fastest, 1e-9)
    return PARALLEL * count_usable_cpus() * one


@dataclass(frozen=True)
class Expectation:
    """How long a run is expected to take.

    Args:
        seconds: From start to the end of measuring on test.
        pace: What it rests on.
        parts: Seconds of parts of it that are worth naming.
    """

    seconds: float
    pace: Pace
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most seconds that the error of the pace allows."""
        return self.seconds / (1 + self.pace.error), self.seconds * (1 + self.pace.error)

    @property
    def words(self) -> str:
        """The time in words, with its error."""
        low, high = map(format_time, self.bounds)
        parts = "".join(f", {format_time(each)} for {name}" for name, each in self.parts.items())
        return f"about {format_time(self.seconds)} ({low} to {high}){parts}"

    def describe(self, minutes: float | None, *, epochs: int) -> str:
        """Say in a line how long a run will take, and what that rests on.

        Args:
            minutes: That it was given, if any.
            epochs: That are expected to fit into them.
        """
        if minutes is None or not epochs:
            most = "" if minutes is None else f"at most {minutes:g} min; "
            return f"{most}{self.words}; {self.pace.words}"
        expected = f"{count_of(epochs, 'epoch')} expected"
        return f"{minutes:g} min, with evaluation; {expected}; {self.pace.words}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        low, high = self.bounds
        return {
            "seconds": round(self.seconds, 1),
            "at_least_s": round(low, 1),
            "at_most_s": round(high, 1),
            "parts_s": {name: round(each, 1) for name, each in self.parts.items()},
            "images_per_s": {name: round(rate, 1) for name, rate in self.pace.rates.items()},
            "is_measured": self.pace.is_measured,
        }


def plan_minutes(minutes: float, overhead_s: float, *, batch_s: float, epoch_s: float) -> int:
    """Return how many epochs fit into the minutes that a run was given.

    Args:
        minutes: Of the whole run.
        overhead_s: Seconds of everything but these epochs.
        batch_s: Seconds of a step; 0: there are no epochs to fit.
        epoch_s: Seconds of an epoch with its validation.

    Raises:
        ConfigError: They are too short for anything; the hint has the least that makes sense.
    """
    least_s = overhead_s + MIN_STEPS * batch_s
    if 60 * minutes < least_s and is_estimable():
        steps = f", {MIN_STEPS} steps" if batch_s else ""
        raise ConfigError(
            f"training.minutes = {minutes:g} is too short: starting{steps} and "
            f"measuring the result take about {least_s:.0f} s here",
            f"the least that makes sense is --minutes {math.ceil(least_s / 6) / 10:g}",
        )
    return max(1, round((60 * minutes - overhead_s) / epoch_s)) if batch_s else 0


def expect_time(
    pace: Pace, *, counts: Mapping[str, int], epochs: float, precision: str
) -> Expectation:
    """Return how long training, validation and the final measuring will take.

    Args:
        pace: Of the network.
        counts: Images per split.
        epochs: Epochs, or a part of one.
        precision: Of the computation, or `auto`.
    """
    rate = pace.rate(precision)
    seconds = START_S + epochs * expect_epoch_s(rate, counts=counts) + expect_finish_s(rate, counts)
    return Expectation(seconds, pace)


def expect_epoch_s(rate: float, *, counts: Mapping[str, int]) -> float:
    """Return the seconds of an epoch with its validation, at a rate in images per second."""
    return _EPOCH_S + counts["train"] / rate + counts["val"] / (_PASSES_OF_A_STEP * rate)


def expect_finish_s(rate: float, counts: Mapping[str, int], *, indexed: int = MAX_INDEXED) -> float:
    """Return the seconds after the last epoch: calibration, measuring on test, index, figures."""
    images = count_final_images(counts, indexed=indexed)
    return _FINISH_S + images / (_PASSES_OF_A_STEP * rate)


def count_final_images(
    counts: Mapping[str, int], *, indexed: int = MAX_INDEXED, mirrored: bool = False
) -> int:
    """Return how many images are evaluated after the last epoch: of val, of test, for the index.

    Args:
        counts: Images per split.
        indexed: Training images of the index at most; 0: there will be none.
        mirrored: Whether val is also measured mirrored.
    """
    val = min(counts["val"], 2000)
    index = val + min(counts["train"], indexed) if val and indexed else 0
    return (1 + mirrored) * val + index + (counts["test"] or counts["val"] or counts["train"])


def is_estimable() -> bool:
    """Return whether a run will use the processor, as far as is known without a framework."""
    return not find_nvidia_gpus()


def _list_facts(anatomy: Anatomy, *, batch_size: int, optimizer: str) -> list[object]:
    rows = [(row.kind, row.output_shape, row.kernel, row.parameters) for row in anatomy.layers]
    return [rows, batch_size, optimizer]


def _pace_file(facts: Sequence[object]) -> Path:
    machine = [read_cpu_name(), count_usable_cpus(), sorted(read_versions(_PACKAGES).items())]
    return _cached_file("", [_PACE_VERSION, *facts, *machine])


def _cached_file(prefix: str, facts: list[object]) -> Path:
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return cache_dir() / "paces" / f"{prefix}{name}.json"


def _keep(path: Path, content: Mapping[str, object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, dict(content))
    except (OSError, CnnclfError):
        pass  # a cache that cannot be written is no reason to stop


def format_time(seconds: float) -> str:
    """Write a time that is expected, in seconds or minutes."""
    if 0 < seconds < 1:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
