"""The only place that sets devices, memory growth, precision, XLA, threads, seeds and log noise.

`setup_runtime` is called once by every command that computes, before TensorFlow or Keras is
imported anywhere else. It works with each backend of Keras; what is special about one is in its
row of `_BACKENDS`.
"""

import contextlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.hardware import count_usable_cpus, explain_unusable_gpu, read_cpu_name

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

_DISTRIBUTIONS = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class RuntimeInfo:
    """What a command computes on, as it was set.

    Attributes:
        backend: Keras backend: tensorflow, jax or torch.
        kind: cpu or gpu.
        summary: One line for people, such as "CPU: AMD EPYC, 2 threads, float32".
        devices: Names of the devices, such as CPU:0 or GPU:0.
        precision: The dtype policy of Keras.
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
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def to_dict(self) -> dict[str, Any]:
        """Return what belongs in run.json."""
        names = [name for name in self.__dataclass_fields__ if name != "strategy"]
        return {name: _plain(getattr(self, name)) for name in names}


@dataclass(frozen=True)
class _Request:
    """The arguments of `setup_runtime`."""

    device: str
    precision: str
    seed: int | None
    deterministic: bool
    threads: int | None
    verbose: bool
    logical_cpus: int | None


@dataclass(frozen=True)
class _Devices:
    """What a backend found and made ready."""

    kind: str
    names: tuple[str, ...]
    title: str
    capability: tuple[int, int] | None = None
    strategy: Any = None


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

    A second call in the same process may change precision, seed and determinism; devices and
    threads are fixed by the first use and keep their values.

    Args:
        device: auto (a GPU if one can be used), cpu, gpu (the first), gpu:N or gpu:all.
        precision: auto, float32, mixed_bfloat16 or mixed_float16.
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
    request = _Request(device, precision, seed, deterministic, threads, verbose, logical_cpus)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in _BACKENDS:
        raise DeviceError(
            f"expected KERAS_BACKEND to be one of {', '.join(_BACKENDS)}, received {backend!r}",
            "unset KERAS_BACKEND",
        )
    os.environ["KERAS_BACKEND"] = backend  # keras.json in the home directory must not change it
    # With another backend, too: Keras then loads TensorFlow for its data pipeline.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0" if verbose else "3"
    with _quiet(verbose=verbose):
        devices = _open_backend(backend, request)
        policy, reason = _choose_precision(precision, devices)
        _set_keras(policy, request)
    used_threads = _thread_count(request)
    width = "" if devices.kind == "gpu" else f", {used_threads} threads"
    return RuntimeInfo(
        backend=backend,
        kind=devices.kind,
        summary=f"{devices.title}{width}, {policy}",
        devices=devices.names,
        precision=policy,
        precision_reason=reason,
        jit_compile=_is_jit_wanted(backend, devices, deterministic=deterministic),
        threads=used_threads,
        seed=seed,
        deterministic=deterministic,
        versions=read_versions(),
        strategy=devices.strategy,
    )


def read_versions() -> dict[str, str]:
    """Return the versions of Python, cnnclf and the libraries, without importing these."""
    from cnnclf import __version__

    versions = {"cnnclf": __version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if "tensorflow" not in versions:  # the CPU-only package brings the same module
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions["tensorflow"] = importlib.metadata.version("tensorflow-cpu")
    return versions


# Backends


def _open_backend(name: str, request: _Request) -> _Devices:
    if name != "tensorflow" and (request.device == "gpu:all" or request.logical_cpus):
        raise DeviceError(
            f"several devices need the tensorflow backend, received KERAS_BACKEND={name}",
            "unset KERAS_BACKEND, or use --device gpu",
        )
    try:
        return _BACKENDS[name](request)
    except ImportError as error:
        raise MissingPackageError(
            f"the {name} backend of Keras cannot be imported: {error}",
            f"python -m pip install {name}"
            if (error.name or "").partition(".")[0] == name
            else "cnnclf doctor",
        ) from error


def _open_tensorflow(request: _Request) -> _Devices:
    import tensorflow as tf

    tf.get_logger().setLevel("WARNING" if request.verbose else "ERROR")
    if request.threads is not None or count_usable_cpus() < (os.cpu_count() or 1):
        _set_tensorflow_threads(tf, request.threads or count_usable_cpus())
    gpus = tf.config.list_physical_devices("GPU") if request.device != "cpu" else []
    if not gpus and request.device not in ("auto", "cpu"):
        _refuse_device(request.device, tensorflow_gpu_problem())
    chosen = _choose(gpus, request.device)
    try:
        tf.config.set_visible_devices(chosen, "GPU")
        for gpu in chosen:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:  # set by an earlier call and in use since
        if tf.config.get_visible_devices("GPU") != chosen:
            raise DeviceError(
                f"--device {request.device}: another device is in use in this process",
                "start a new process",
            ) from error
    if chosen:
        return _open_tensorflow_gpus(tf, chosen)
    cpus = _logical_cpus(tf, request.logical_cpus)
    return _Devices(
        "cpu", cpus, f"CPU: {_cpu_title(len(cpus))}", strategy=_mirrored(tf, cpus, kind="cpu")
    )


def _open_tensorflow_gpus(tf: Any, gpus: list[Any]) -> _Devices:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = tuple(f"GPU:{index}" for index in range(len(gpus)))
    _try_tensorflow_gpus(tf, names)
    label = str(details[0].get("device_name", "GPU"))
    capabilities = [each.get("compute_capability") for each in details]
    return _Devices(
        "gpu",
        names,
        f"GPU: {label}" if len(gpus) == 1 else f"GPU: {len(gpus)} x {label}",
        capability=None if None in capabilities else min(capabilities),
        strategy=_mirrored(tf, names, kind="gpu"),
    )


def _try_tensorflow_gpus(tf: Any, names: tuple[str, ...]) -> None:
    """Run one small convolution on each GPU: loads cuDNN now, quietly, or says that it cannot."""
    for name in names:
        try:
            with tf.device(name):
                picture = tf.ones((1, 8, 8, 1))
                tf.nn.conv2d(picture, tf.ones((3, 3, 1, 1)), 1, "SAME").numpy()
        except (tf.errors.OpError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise DeviceError(
                f"{name} is there and fails at a first convolution: {text}",
                "use --device cpu; cnnclf doctor --verbose shows what TensorFlow itself says",
            ) from error


def _set_tensorflow_threads(tf: Any, threads: int) -> None:
    # Fixed at the first operation; a later call in the same process keeps the first value.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(min(threads, 2))


def _logical_cpus(tf: Any, count: int | None) -> tuple[str, ...]:
    if count is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        if len(tf.config.get_logical_device_configuration(cpu) or [None]) != count:
            tf.config.set_logical_device_configuration(cpu, parts)
    return tuple(f"CPU:{index}" for index in range(count or 1))


def _mirrored(tf: Any, names: tuple[str, ...], *, kind: str) -> Any:
    """Return a strategy that splits each batch over several devices; None for one device."""
    if len(names) == 1:
        return None
    reduce_on_host = tf.distribute.ReductionToOneDevice() if kind == "cpu" else None
    return tf.distribute.MirroredStrategy(list(names), cross_device_ops=reduce_on_host)


def tensorflow_gpu_problem() -> Any:
    """Say why TensorFlow lists no GPU.

    Returns:
        A `cnnclf.hardware.GpuProblem`.
    """
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    return explain_unusable_gpu(
        built_with_cuda=bool(build.get("is_cuda_build", False)),
        cuda=str(build.get("cuda_version", "12")),
        cudnn=str(build.get("cudnn_version", "9")),
    )


def _open_jax(request: _Request) -> _Devices:
    if request.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    gpus = [each for each in jax.devices() if each.platform == "gpu"]
    if not gpus and request.device not in ("auto", "cpu"):
        _refuse_other(request.device, "JAX", "python -m pip install 'jax[cuda12]'")
    if request.device == "cpu" or not gpus:
        jax.config.update("jax_default_device", jax.devices("cpu")[0])
        return _Devices("cpu", ("CPU:0",), f"CPU: {_cpu_title(1)}, JAX")
    gpu = _choose(gpus, request.device)[0]
    jax.config.update("jax_default_device", gpu)
    major, _, minor = str(getattr(gpu, "compute_capability", "0.0")).partition(".")
    return _Devices(
        "gpu", (f"GPU:{gpu.id}",), f"GPU: {gpu.device_kind}, JAX", (int(major), int(minor or 0))
    )


def _open_torch(request: _Request) -> _Devices:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count and request.device not in ("auto", "cpu"):
        _refuse_other(request.device, "PyTorch", "install the CUDA build of torch")
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    if request.device == "cpu" or not count:
        os.environ["KERAS_TORCH_DEVICE"] = "cpu"
        return _Devices("cpu", ("CPU:0",), f"CPU: {_cpu_title(1)}, PyTorch")
    index = int(_choose(list(range(count)), request.device)[0])
    os.environ["KERAS_TORCH_DEVICE"] = f"cuda:{index}"
    major, minor = torch.cuda.get_device_capability(index)
    return _Devices(
        "gpu",
        (f"GPU:{index}",),
        f"GPU: {torch.cuda.get_device_name(index)}, PyTorch",
        (int(major), int(minor)),
    )


_BACKENDS: dict[str, Callable[[_Request], _Devices]] = {
    "tensorflow": _open_tensorflow,
    "jax": _open_jax,
    "torch": _open_torch,
}


# What all backends share


def _choose(gpus: list[Any], device: str) -> list[Any]:
    """Pick the GPUs a device name asks for: auto and gpu take the first."""
    if not gpus or device == "gpu:all":
        return gpus
    number = device.partition(":")[2]
    index = int(number) if number.isdigit() else 0
    if index >= len(gpus):
        raise DeviceError(
            f"--device {device}: expected a number below {len(gpus)}, the count of usable GPUs",
            "cnnclf doctor lists them; --device gpu takes the first",
        )
    return [gpus[index]]


def _refuse_device(device: str, problem: Any) -> None:
    raise DeviceError(f"--device {device}: {problem.reason}", problem.hint)


def _refuse_other(device: str, library: str, hint: str) -> None:
    raise DeviceError(f"--device {device}: {library} lists no GPU", f"{hint}, or use --device cpu")


def _choose_precision(precision: str, devices: _Devices) -> tuple[str, str]:
    """Return the dtype policy and the reason for it."""
    if precision not in PRECISIONS:
        raise DeviceError(
            f"expected a precision of {', '.join(PRECISIONS)}, received {precision!r}",
            "use --precision auto",
        )
    if precision != "auto":
        return precision, "as asked"
    if devices.kind == "cpu":
        return "float32", "the safe choice on a CPU"
    if devices.capability is None:
        return "float32", "the compute capability of the GPU is not known"
    words = f"compute capability {devices.capability[0]}.{devices.capability[1]}"
    if devices.capability >= (8, 0):
        return "mixed_bfloat16", f"{words} computes fast in bfloat16"
    if devices.capability >= (7, 0):
        return "mixed_float16", f"{words} computes fast in float16, not in bfloat16"
    return "float32", f"{words} has no fast short format"


def _set_keras(policy: str, request: _Request) -> None:
    import keras

    keras.config.set_dtype_policy(policy)
    if request.seed is not None:
        keras.utils.set_random_seed(request.seed)
    if not request.deterministic:
        return
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _is_jit_wanted(backend: str, devices: _Devices, *, deterministic: bool) -> bool:
    if backend == "jax":  # JAX compiles everything; without it Keras would run op by op
        return True
    return (
        backend == "tensorflow"
        and devices.kind == "gpu"
        and len(devices.names) == 1
        and not deterministic
    )


def _thread_count(request: _Request) -> int:
    if "tensorflow" in sys.modules:
        set_threads = sys.modules["tensorflow"].config.threading.get_intra_op_parallelism_threads()
        if set_threads:
            return int(set_threads)
    return request.threads or count_usable_cpus()


def _cpu_title(parts: int) -> str:
    name = read_cpu_name()
    return name if parts == 1 else f"{name} as {parts} devices"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


@contextlib.contextmanager
def _quiet(*, verbose: bool) -> Iterator[None]:
    """Keep what native code writes to stderr off the screen.

    TensorFlow writes through its C++ logger before the variable that lowers its level is read, so
    the file descriptor itself is turned away. On an error outside our own, what was written is
    shown after all, since it may be the only explanation.
    """
    if verbose:
        yield
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except (DeviceError, MissingPackageError):
            raise
        except BaseException:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
