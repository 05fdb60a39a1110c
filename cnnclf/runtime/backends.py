"""The backends of Keras: one row each, with the functions that set up devices and determinism.

The first operation of a process fixes devices and threads; a later call keeps them.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.hardware import GpuProblem, count_usable_cpus, explain_unusable_gpu, read_cpu_name
from cnnclf.packages import install_command


@dataclass(frozen=True)
class DeviceRequest:
    """The settings of a backend; see `setup_runtime`."""

    device: str
    threads: int | None
    logical_cpus: int | None
    deterministic: bool


@dataclass(frozen=True)
class Devices:
    """The devices that a backend set up.

    Attributes:
        kind: cpu or gpu.
        names: Such as CPU:0 or GPU:0.
        title: Device name for the terminal, such as "GPU: NVIDIA H100".
        threads: Number of CPU threads.
        capability: CUDA compute capability; of several GPUs, the lowest.
        strategy: A tf.distribute strategy for several devices.
    """

    kind: str
    names: tuple[str, ...]
    title: str
    threads: int
    capability: tuple[int, int] | None = None
    strategy: Any = None


@dataclass(frozen=True)
class Backend:
    """One row of `BACKENDS`."""

    open_devices: Callable[[DeviceRequest], Devices]
    make_deterministic: Callable[[], None]


# Options of mallopt: one arena, nothing mapped on its own, nothing trimmed, grown by 64 MiB.
_MALLOC_OPTIONS = {-8: 1, -4: 0, -1: -1, -2: 64 * 2**20}


def keep_freed_memory() -> None:
    """Let the C library keep memory that was freed, as the next step needs as much again.

    By default glibc returns the outputs of large layers to the system, which clears every page of
    them for the next step: half of the processor time of training. Variables of the environment
    for its allocator (MALLOC_...) take precedence; other C libraries are left as they are.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)


def open_backend(name: str, request: DeviceRequest) -> Devices:
    """Import a backend and set up its devices.

    Args:
        name: A key of `BACKENDS`.
        request: Its settings.

    Returns:
        The devices.

    Raises:
        DeviceError: The device was not found or cannot be used.
        MissingPackageError: The backend cannot be imported.
    """
    if name == "torch" and (request.device == "gpu:all" or request.logical_cpus):
        raise DeviceError(
            f"the {name} backend does not support several devices (KERAS_BACKEND={name})",
            "unset KERAS_BACKEND, or use --device gpu",
        )
    try:
        if request.deterministic:  # first, since some of it is read when the backend starts
            BACKENDS[name].make_deterministic()
        return BACKENDS[name].open_devices(request)
    except ImportError as error:
        is_absent = error.name == name
        raise MissingPackageError(
            f"the {name} backend of Keras cannot be imported: {error}",
            install_command(name) if is_absent else "run cnnclf doctor",
        ) from error


def tensorflow_gpu_problem() -> GpuProblem:
    """Return why TensorFlow lists no GPU. Call it only when it lists none."""
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    return explain_unusable_gpu(
        built_with_cuda=bool(build.get("is_cuda_build", False)),
        cuda=str(build.get("cuda_version", "12")),
        cudnn=str(build.get("cudnn_version", "9")),
    )


def tensorflow_converter_errors() -> tuple[type[Exception], ...]:
    """Return the errors that TensorFlow's LiteRT converter raises for unsupported models."""
    from tensorflow.lite.python.convert_phase import ConverterError

    return (ConverterError,)


# TensorFlow


def _open_tensorflow(request: DeviceRequest) -> Devices:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    threads = _set_tensorflow_threads(tf, request.threads)
    gpus = tf.config.list_physical_devices("GPU") if request.device != "cpu" else []
    if not gpus and request.device not in ("auto", "cpu"):
        problem = tensorflow_gpu_problem()
        raise DeviceError(f"--device {request.device}: {problem.reason}", problem.hint)
    chosen = _choose(gpus, request.device)
    try:
        tf.config.set_visible_devices(chosen, "GPU")
        for gpu in chosen:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:  # an earlier call has initialized the devices
        if tf.config.get_visible_devices("GPU") != chosen:
            raise DeviceError(
                f"--device {request.device}: this process already uses another device",
                "start a new process",
            ) from error
    if chosen:
        return _open_tensorflow_gpus(tf, chosen, threads)
    names = _split_cpu(tf, request.logical_cpus)
    title = _count_devices(_cpu_title(), names)
    # Without GPUs there is no NCCL to sum gradients.
    summing = tf.distribute.ReductionToOneDevice()
    return Devices("cpu", names, title, threads, strategy=_mirrored(tf, names, summing))


def _open_tensorflow_gpus(tf: Any, gpus: list[Any], threads: int) -> Devices:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = tuple(f"GPU:{index}" for index in range(len(gpus)))
    _try_tensorflow_gpus(tf, names)
    label = str(details[0].get("device_name", "unnamed"))
    capabilities = [each.get("compute_capability") for each in details]
    return Devices(
        "gpu",
        names,
        f"GPU: {label}" if len(gpus) == 1 else f"GPU: {len(gpus)} x {label}",
        threads,
        capability=None if None in capabilities else min(capabilities),
        strategy=_mirrored(tf, names, None),
    )


def _try_tensorflow_gpus(tf: Any, names: tuple[str, ...]) -> None:
    """Run a small convolution on each GPU, which loads cuDNN or shows that it cannot be loaded."""
    for name in names:
        try:
            with tf.device(name):
                image = tf.ones((1, 8, 8, 1))
                tf.nn.conv2d(image, tf.ones((3, 3, 1, 1)), 1, "SAME").numpy()
        except (tf.errors.OpError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise DeviceError(
                f"{name.replace(':', ' ')} was found, but a test convolution failed: {text}",
                "use --device cpu; cnnclf doctor --verbose shows the log of TensorFlow",
            ) from error


def _set_tensorflow_threads(tf: Any, threads: int | None) -> int:
    """Set the threads of an operation, unless it may use all cores, which is the default."""
    usable = count_usable_cpus()
    if threads is not None or usable < (os.cpu_count() or 1):
        with contextlib.suppress(RuntimeError):  # fixed by the first operation
            tf.config.threading.set_intra_op_parallelism_threads(threads or usable)
            tf.config.threading.set_inter_op_parallelism_threads(min(threads or usable, 2))
    return int(tf.config.threading.get_intra_op_parallelism_threads()) or usable


def _split_cpu(tf: Any, count: int | None) -> tuple[str, ...]:
    if count is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        if len(tf.config.get_logical_device_configuration(cpu) or [None]) != count:
            parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
            tf.config.set_logical_device_configuration(cpu, parts)
    return tuple(f"CPU:{index}" for index in range(count or 1))


def _mirrored(tf: Any, names: tuple[str, ...], summing: Any) -> Any:
    """Return a strategy that splits each batch across several devices; None for one device."""
    if len(names) == 1:
        return None
    return tf.distribute.MirroredStrategy(list(names), cross_device_ops=summing)


def _make_tensorflow_deterministic() -> None:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


# JAX


def _open_jax(request: DeviceRequest) -> Devices:
    if request.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    if request.logical_cpus:
        _add_xla_flag(f"--xla_force_host_platform_device_count={request.logical_cpus}")
    import jax

    gpus = [each for each in jax.devices() if each.platform == "gpu"]
    if not gpus and request.device not in ("auto", "cpu"):
        raise DeviceError(
            f"--device {request.device}: JAX lists no GPU",
            f"{install_command('jax[cuda12]')}, or use --device cpu",
        )
    threads = count_usable_cpus()
    if request.device == "cpu" or not gpus:
        cpus = jax.devices("cpu")[: request.logical_cpus or 1]
        names = _share_jax_batches(jax, cpus)
        return Devices("cpu", names, f"{_count_devices(_cpu_title(), names)}, JAX", threads)
    chosen = _choose(gpus, request.device)
    names = _share_jax_batches(jax, chosen)
    capabilities = [_read_jax_capability(each) for each in chosen]
    label = chosen[0].device_kind
    title = f"GPU: {label if len(names) == 1 else f'{len(names)} x {label}'}, JAX"
    return Devices("gpu", names, title, threads, min(capabilities))


def _share_jax_batches(jax: Any, devices: list[Any]) -> tuple[str, ...]:
    """Compute on these devices, several of which share each batch; return their names."""
    import keras

    jax.config.update("jax_default_device", devices[0])
    names = tuple(f"{each.platform.upper()}:{each.id}" for each in devices)
    several = [name.lower() for name in names] if len(names) > 1 else None
    shared = several and keras.distribution.DataParallel(devices=several)
    keras.distribution.set_distribution(shared)
    return names


def _read_jax_capability(gpu: Any) -> tuple[int, int]:
    major, _, minor = str(getattr(gpu, "compute_capability", "0.0")).partition(".")
    return int(major), int(minor or 0)


def _make_jax_deterministic() -> None:
    """Set the flag of XLA; on a CPU it is always deterministic."""
    _add_xla_flag("--xla_gpu_deterministic_ops=true")


def _add_xla_flag(flag: str) -> None:
    """Add a flag of XLA, which reads them when it starts, unless the environment has it."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


# PyTorch


def _open_torch(request: DeviceRequest) -> Devices:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count and request.device not in ("auto", "cpu"):
        raise DeviceError(
            f"--device {request.device}: PyTorch lists no GPU",
            "install the CUDA build of torch, or use --device cpu",
        )
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    threads = int(torch.get_num_threads())
    if request.device == "cpu" or not count:
        os.environ["KERAS_TORCH_DEVICE"] = "cpu"
        return Devices("cpu", ("CPU:0",), f"{_cpu_title()}, PyTorch", threads)
    index = int(_choose(list(range(count)), request.device)[0])
    os.environ["KERAS_TORCH_DEVICE"] = f"cuda:{index}"
    major, minor = torch.cuda.get_device_capability(index)
    title = f"GPU: {torch.cuda.get_device_name(index)}, PyTorch"
    return Devices("gpu", (f"GPU:{index}",), title, threads, (int(major), int(minor)))


def _make_torch_deterministic() -> None:
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


BACKENDS: dict[str, Backend] = {
    "tensorflow": Backend(_open_tensorflow, _make_tensorflow_deterministic),
    "jax": Backend(_open_jax, _make_jax_deterministic),
    "torch": Backend(_open_torch, _make_torch_deterministic),
}


def _choose(gpus: list[Any], device: str) -> list[Any]:
    """Return the GPUs that a device name selects: auto and gpu select the first."""
    if not gpus or device == "gpu:all":
        return gpus
    number = device.partition(":")[2]
    index = int(number) if number.isdigit() else 0
    if index >= len(gpus):
        raise DeviceError(
            f"--device {device}: expected a GPU number from 0 to {len(gpus) - 1}",
            "cnnclf doctor lists the GPUs; --device gpu uses the first",
        )
    return [gpus[index]]


def _count_devices(title: str, names: tuple[str, ...]) -> str:
    return title if len(names) == 1 else f"{title} as {len(names)} devices"


def _cpu_title() -> str:
    return f"CPU: {read_cpu_name()}"
