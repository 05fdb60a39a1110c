"""The only place that sets devices, memory growth, precision, XLA, threads, seeds and log levels.

Every command that computes calls `setup_runtime` once, before TensorFlow or Keras is imported
anywhere else. What differs between the backends of Keras is in the rows of `backends.py`.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.names import count_of
from cnnclf.packages import read_versions
from cnnclf.progress import Progress
from cnnclf.runtime.backends import (
    BACKENDS,
    DeviceRequest,
    Devices,
    keep_freed_memory,
    open_backend,
    tensorflow_converter_errors,
    tensorflow_gpu_problem,
)
from cnnclf.runtime.fast_imports import fast_imports

__all__ = [
    "POLICIES",
    "RUNTIME_PACKAGES",
    "RuntimeInfo",
    "keeping_policy",
    "quiet",
    "setup_runtime",
    "tensorflow_converter_errors",
    "tensorflow_gpu_problem",
]

# The dtype policy of Keras for each precision: weights and logits are float32 in all of them.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# Packages whose versions are kept with a run.
RUNTIME_PACKAGES = (
    "python",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "numpy",
    "pillow",
)


_STDERR = threading.RLock()  # who redirects it: threads that overlap would restore each other's

_TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


@dataclass(frozen=True)
class RuntimeInfo:
    """The device, precision and other settings that a command computes with.

    Attributes:
        backend: Keras backend: tensorflow, jax or torch.
        kind: cpu or gpu.
        summary: One line for the terminal, such as "CPU: AMD EPYC, 2 threads, float32".
        devices: Names of the devices, such as CPU:0 or GPU:0.
        precision: float32, bfloat16 or float16; `POLICIES` has the dtype policy of Keras.
        precision_reason: Why this precision was chosen.
        jit_compile: The argument for `compile`; never True for TensorFlow on a CPU, where XLA
            halves the speed.
        threads: Number of CPU threads.
        seed: Random seed; None if no generator was seeded.
        deterministic: Whether operations are bitwise reproducible.
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
        """Return the entry of run.json, as JSON values."""
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
    progress: Progress | None = None,
) -> RuntimeInfo:
    """Load the backend of Keras without log output and apply all settings of the process.

    Keras is imported without its integrations for scikit-learn, matplotlib and pandas, unless Keras
    or these packages were imported before. A second call in the same process can change precision
    and seed; devices and threads keep the values of the first call.

    Args:
        device: auto (a GPU if one can be used), cpu, gpu (the first), gpu:N or gpu:all.
        precision: auto, float32, bfloat16 or float16.
        seed: Random seed for Python, NumPy and the backend, 0 to 2**32 - 1; None seeds nothing.
        deterministic: Use bitwise reproducible operations only.
        threads: Number of CPU threads; None for all that the process may use.
        verbose: Show the log output of the backend.
        logical_cpus: Split the CPU into this many devices, to run the multi-device code without
            GPUs.
        progress: Receives a note if the backend has to be loaded first, which takes seconds.

    Returns:
        The settings in effect, and the scope for building models.

    Raises:
        DeviceError: The device was not found or cannot be used; the message says why.
        MissingPackageError: The backend of Keras is not installed.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in BACKENDS:
        raise DeviceError(
            f"expected KERAS_BACKEND to be one of {', '.join(BACKENDS)}, received {backend!r}",
            "unset KERAS_BACKEND",
        )
    os.environ["KERAS_BACKEND"] = backend  # keras.json in the home directory must not change it
    # For other backends too: Keras then loads TensorFlow for its data pipeline.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0" if verbose else "3"
    if progress is not None and backend not in sys.modules:
        progress.note(f"starting {_TITLES[backend]}")
    keep_freed_memory()
    with quiet(verbose=verbose), fast_imports():
        devices = open_backend(backend, DeviceRequest(device, threads, logical_cpus, deterministic))
        chosen, reason = _choose_precision(precision, devices)
        _set_keras(POLICIES[chosen], seed)
    words = [devices.title]
    if devices.kind == "cpu":
        words.append(count_of(devices.threads, "thread"))
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
        versions=read_versions(RUNTIME_PACKAGES),
        strategy=devices.strategy,
    )


@contextlib.contextmanager
def keeping_policy() -> Iterator[None]:
    """Restore the dtype policy of Keras after the block: layers of the caller's own follow it."""
    before = sys.modules["keras"].config.dtype_policy() if "keras" in sys.modules else None
    try:
        yield
    finally:
        if keras := sys.modules.get("keras"):
            keras.config.set_dtype_policy(before or keras.config.floatx())


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
        return "float32", "the default on a CPU"
    if devices.capability is None:
        return "float32", "the compute capability of the GPU is unknown"
    words = f"compute capability {devices.capability[0]}.{devices.capability[1]}"
    if devices.capability >= (8, 0):
        return "bfloat16", f"{words} has fast bfloat16 arithmetic"
    if devices.capability >= (7, 0):
        return "float16", f"{words} has fast float16 arithmetic, but no bfloat16"
    return "float32", f"{words} has no fast 16-bit arithmetic"


def _set_keras(policy: str, seed: int | None) -> None:
    import keras

    # Unlike the file keras.json in the home directory may say.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy(policy)
    if seed is not None:
        keras.utils.set_random_seed(seed)


def _is_jit_wanted(backend: str, devices: Devices, *, deterministic: bool) -> bool:
    if backend == "jax":  # without it, Keras would run JAX operation by operation
        return True
    is_one_gpu = devices.kind == "gpu" and len(devices.names) == 1
    return backend == "tensorflow" and is_one_gpu and not deterministic


@contextlib.contextmanager
def quiet(*, verbose: bool = False) -> Iterator[None]:
    """Keep what native code writes to stderr off the screen.

    TensorFlow's C++ logger writes before the variable that lowers its level is read, so the file
    descriptor itself is redirected. After an error other than ours, the output is shown, since it
    may be the only explanation.
    """
    if verbose:
        yield
        return
    with _STDERR, _redirected_stderr():
        yield


@contextlib.contextmanager
def _redirected_stderr() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    sys.stderr.flush()
    with _open_sink() as sink:
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


def _open_sink() -> IO[bytes]:
    """Open a temporary file; where there is no place for one, what is written is lost."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return Path(os.devnull).open("w+b")
