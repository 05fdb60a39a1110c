"""How fast this machine trains a network, and how long a run will take.

A pace is measured once per network, machine and versions (`training/precision.py`) and kept in the
cache. Until then it is estimated from the arithmetic and the memory traffic of the layers and the
speed of a matrix product, which takes a moment; the error of both is stated. Nothing here loads
TensorFlow.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cnnclf.data.cache import cache_dir
from cnnclf.errors import CnnclfError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.hardware import count_usable_cpus, find_nvidia_gpus, read_cpu_name
from cnnclf.models.anatomy import Anatomy
from cnnclf.packages import read_versions

MEASURED_ERROR = 0.25
ESTIMATED_ERROR = 1.0
START_S = 8.0  # TensorFlow, building and compiling

_PACE_VERSION = 1
_PASSES_OF_A_STEP = 3  # forward, and backward to the inputs and to the weights
_MOVES_OF_A_STEP = 5  # times that each output is written or read, as measured for the presets
_BYTES_PER_S = 12e9
_FINISH_S = 4.0  # figures and checkpoints
_EPOCH_S = 0.05  # between epochs: starting the passes, history and checkpoint of a small network
_CLEARLY = 1.05
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
        fastest = max(self.rates, key=lambda name: self.rates[name])
        return fastest if self.rates[fastest] > _CLEARLY * self.rates["float32"] else "float32"

    @property
    def words(self) -> str:
        """The rates in words."""
        rates = [f"{name} {rate:,.0f}" for name, rate in self.rates.items()]
        return f"images/s {'measured' if self.is_measured else 'estimated'}: {', '.join(rates)}"


def find_pace(anatomy: Anatomy, *, batch_size: int, optimizer: str) -> Pace:
    """Return the measured pace of a network, or else an estimate.

    Args:
        anatomy: The network.
        batch_size: Images of a step.
        optimizer: Its name.
    """
    path = _pace_file(anatomy, batch_size=batch_size, optimizer=optimizer)
    try:
        rates = {str(name): float(rate) for name, rate in read_json(path)["rates"].items()}
        if rates["float32"] > 0 and all(np.isfinite(rate) for rate in rates.values()):
            return Pace(rates, is_measured=True)
    except (CnnclfError, LookupError, TypeError, ValueError, AttributeError):
        pass  # not measured yet, or a damaged file, which the next measurement replaces
    # a multiplication and an addition each
    seconds = 2 * _PASSES_OF_A_STEP * anatomy.macs / measure_products()
    seconds += _MOVES_OF_A_STEP * anatomy.activation_bytes / _BYTES_PER_S
    return Pace({"float32": 1 / seconds}, is_measured=False)


def keep_pace(
    rates: Mapping[str, float], anatomy: Anatomy, *, batch_size: int, optimizer: str
) -> None:
    """Keep what was measured in the cache; without a cache it is measured again.

    Args:
        rates: Images per second by precision; float32 is one of them.
        anatomy: As of `find_pace`.
        batch_size: As of `find_pace`.
        optimizer: As of `find_pace`.
    """
    path = _pace_file(anatomy, batch_size=batch_size, optimizer=optimizer)
    _keep(path, {"pace_version": _PACE_VERSION, "rates": dict(rates)})


@cache
def measure_products() -> float:
    """Return the floating-point operations per second of matrix products on all processors.

    Measured once per machine and kept in the cache, so that a plan says the same each time.
    """
    facts = [_PACE_VERSION, read_cpu_name(), count_usable_cpus(), np.__version__]
    path = _cached_file("products", facts)
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
    """

    seconds: float
    pace: Pace

    @property
    def words(self) -> str:
        """The time in words, with its error."""
        low, high = (self.seconds / (1 + self.pace.error), self.seconds * (1 + self.pace.error))
        return f"about {_minutes(self.seconds)} ({_minutes(low)} to {_minutes(high)})"


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


def expect_finish_s(rate: float, counts: Mapping[str, int]) -> float:
    """Return the seconds after the last epoch: calibration on val, measuring on test, figures."""
    return _FINISH_S + count_final_images(counts) / (_PASSES_OF_A_STEP * rate)


def count_final_images(counts: Mapping[str, int]) -> int:
    """Return how many images are evaluated after the last epoch: of val, and of test if any."""
    return min(counts["val"], 2000) + (counts["test"] or counts["val"] or counts["train"])


def is_estimable() -> bool:
    """Return whether a run will use the processor, as far as is known without a framework."""
    return not find_nvidia_gpus()


def _pace_file(anatomy: Anatomy, *, batch_size: int, optimizer: str) -> Path:
    facts = [
        _PACE_VERSION,
        [(row.kind, row.output_shape, row.kernel, row.parameters) for row in anatomy.layers],
        [batch_size, optimizer, read_cpu_name(), count_usable_cpus()],
        sorted(read_versions(_PACKAGES).items()),
    ]
    return _cached_file("", facts)


def _cached_file(prefix: str, facts: list[object]) -> Path:
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return cache_dir() / "paces" / f"{prefix}{name}.json"


def _keep(path: Path, content: Mapping[str, object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, dict(content))
    except (OSError, CnnclfError):
        pass  # a cache that cannot be written is no reason to stop


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
