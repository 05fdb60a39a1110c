"""The only place that sets devices, memory growth, precision, XLA, threads, seeds and log noise.

`setup_runtime` is called once by every command that computes, before TensorFlow or Keras is
imported anywhere else. What is special about a backend of Keras is in its row of `backends.py`.
"""

import contextlib
import gc
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any

from cnnclf import __version__
from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.runtime.backends import (
    BACKENDS,
    DeviceRequest,
    Devices,
    open_backend,
    tensorflow_converter_errors,
    tensorflow_gpu_problem,
)

__all__ = [
    "POLICIES",
    "RuntimeInfo",
    "quiet",
    "read_versions",
    "setup_runtime",
    "tensorflow_converter_errors",
    "tensorflow_gpu_problem",
]

# The dtype policy of Keras for each precision: weights and logits are float32 in all of them.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# Keras loads these where they are installed, for wrappers, galleries and inputs not used here.
_NEEDLESS = ("sklearn", "matplotlib", "pandas")

_DISTRIBUTIONS = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class RuntimeInfo:
    """What a command computes on, as it was set.

    Attributes:
        backend: Keras backend: tensorflow, jax or torch.
        kind: cpu or gpu.
        summary: One line for people, such as "CPU: AMD EPYC, 2 threads, float32".
        devices: Names of the devices, such as CPU:0 or GPU:0.
        precision: float32, bfloat16 or float16; `POLICIES` has the dtype policy of Keras.
        precision_reason: Why this one.
        jit_compile: What to give to `compile`; never True for TensorFlow on a CPU, where XLA
            halves the speed.
        threads: Threads of the CPU.
        seed: What the random generators start from, None if they were left alone.
        deterministic: Whether operations give the same bits each time.
        versions: Versions of Python, cnnclf and the libraries.
        strategy: A tf.distribute strategy when there are several devices, else None.
    """

    backend: str
    kind: str
    summary: str
    devices: tuple[str, ...]
    precision: str
    precision_reason: str
    jit_compile: bool
    threads: int
    seed: int | None
    deterministic: bool
    versions: Mapping[str, str]
    strategy: Any = field(default=None, repr=False, compare=False)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which models are built and compiled."""
        if self.strategy is None:
            return contextlib.nullcontext()
        scope: AbstractContextManager[Any] = self.strategy.scope()
        return scope

    def to_dict(self) -> dict[str, Any]:
        """Return what belongs in run.json."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["strategy"]
        return values | {"devices": list(self.devices), "versions": dict(self.versions)}


def setup_runtime(
    *,
    device: str = "auto",
    precision: str = "auto",
    seed: int | None = None,
    deterministic: bool = False,
    threads: int | None = None,
    verbose: bool = False,
    logical_cpus: int | None = None,
) -> RuntimeInfo:
    """Load the backend of Keras quietly and set everything that is set once for a process.

    Keras is loaded without what it offers for scikit-learn, matplotlib and pandas, unless it or
    these are there already. A second call in the same process may change precision and seed;
    devices and threads are fixed by the first use and keep their values.

    Args:
        device: auto (a GPU if one can be used), cpu, gpu (the first), gpu:N or gpu:all.
        precision: auto, float32, bfloat16 or float16.
        seed: For Python, NumPy and the backend, 0 to 2**32 - 1; None leaves them alone.
        deterministic: Ask for operations that give the same bits each time.
        threads: Threads of the CPU; None for all that the process may use.
        verbose: Let the backend print what it likes.
        logical_cpus: Split the CPU into so many devices, to run the multi-device path without
            GPUs.

    Returns:
        What was set, and the scope for building models.

    Raises:
        DeviceError: The device is not there or cannot be used; the message says why.
        MissingPackageError: The backend of Keras is not installed.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in BACKENDS:
        raise DeviceError(
            f"expected KERAS_BACKEND to be one of {', '.join(BACKENDS)}, received {backend!r}",
            "unset KERAS_BACKEND",
        )
    os.environ["KERAS_BACKEND"] = backend  # keras.json in the home directory must not change it
    # With another backend, too: Keras then loads TensorFlow for its data pipeline.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0" if verbose else "3"
    with quiet(verbose=verbose), _collected_later(), _needless_left_out():
        devices = open_backend(backend, DeviceRequest(device, threads, logical_cpus, deterministic))
        chosen, reason = _choose_precision(precision, devices)
        _set_keras(POLICIES[chosen], seed)
    words = [devices.title]
    if devices.kind == "cpu":
        words.append(f"{devices.threads} thread{'s' if devices.threads != 1 else ''}")
    return RuntimeInfo(
        backend=backend,
        kind=devices.kind,
        summary=", ".join([*words, chosen]),
        devices=devices.names,
        precision=chosen,
        precision_reason=reason,
        jit_compile=_is_jit_wanted(backend, devices, deterministic=deterministic),
        threads=devices.threads,
        seed=seed,
        deterministic=deterministic,
        versions=read_versions(),
        strategy=devices.strategy,
    )


def read_versions() -> dict[str, str]:
    """Return the versions of Python, cnnclf and the libraries, without importing these."""
    versions = {"cnnclf": __version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name.removesuffix("-cpu")] = importlib.metadata.version(name)
    return versions


def _choose_precision(precision: str, devices: Devices) -> tuple[str, str]:
    """Return the precision and the reason for it."""
    if precision in POLICIES:
        return precision, "as requested"
    if precision != "auto":
        raise DeviceError(
            f"expected a precision of auto, {', '.join(POLICIES)}, received {precision!r}",
            "use --precision auto",
        )
    if devices.kind == "cpu":
        return "float32", "the safe choice on a CPU"
    if devices.capability is None:
        return "float32", "the compute capability of the GPU is not known"
    words = f"compute capability {devices.capability[0]}.{devices.capability[1]}"
    if devices.capability >= (8, 0):
        return "bfloat16", f"{words} computes fast in bfloat16"
    if devices.capability >= (7, 0):
        return "float16", f"{words} computes fast in float16, not in bfloat16"
    return "float32", f"{words} is not fast in reduced precision"


def _set_keras(policy: str, seed: int | None) -> None:
    import keras

    keras.config.set_dtype_policy(policy)
    if seed is not None:
        keras.utils.set_random_seed(seed)


def _is_jit_wanted(backend: str, devices: Devices, *, deterministic: bool) -> bool:
    if backend == "jax":  # JAX compiles everything; without it Keras would run op by op
        return True
    is_one_gpu = devices.kind == "gpu" and len(devices.names) == 1
    return backend == "tensorflow" and is_one_gpu and not deterministic


@contextlib.contextmanager
def _collected_later() -> Iterator[None]:
    """Put off the search for garbage while libraries are loaded.

    Loading makes a million objects that stay. To look through them again and again takes a seventh
    of the time, and what was there at its end need not be looked through ever after.
    """
    is_first = "keras" not in sys.modules
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _needless_left_out() -> Iterator[None]:
    """Let Keras be loaded as where its optional libraries are not installed: a second sooner.

    Whoever wants its wrappers for scikit-learn or pandas as input imports Keras first.
    """
    hidden = [name for name in _NEEDLESS if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # an import says that there is none
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def quiet(*, verbose: bool = False) -> Iterator[None]:
    """Keep what native code writes to stderr off the screen.

    TensorFlow writes through its C++ logger before the variable that lowers its level is read, so
    the file descriptor itself is turned away. On an error that is not one of ours, what was written
    is shown after all, since it may be the only explanation.
    """
    if verbose:
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except (DeviceError, MissingPackageError):
            raise
        except Exception:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
