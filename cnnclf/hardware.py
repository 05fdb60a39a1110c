"""Processor, memory and NVIDIA GPUs of this machine, found without importing TensorFlow.

Also why TensorFlow cannot use a GPU: it opens the CUDA libraries by name when it is imported, and
if one is missing, it runs without a GPU and does not name the library. `explain_unusable_gpu` looks
for the same files. Why psutil is not used: docs/decisions/0012-hardware.md.
"""

import contextlib
import ctypes
import importlib.util
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cnnclf.packages import install_command

# Instruction sets that matter to a CNN: the flag in /proc/cpuinfo and the usual name.
_CPU_FEATURES = (
    ("avx2", "avx2"),
    ("avx512f", "avx512"),
    ("avx512_bf16", "bf16"),
    ("amx_bf16", "amx-bf16"),
    ("avx512_vnni", "vnni"),
    ("asimd", "neon"),
    ("bf16", "bf16"),
    ("sve", "sve"),
)

# Libraries that TensorFlow opens by name, per major version of CUDA that it was built for.
CUDA_LIBRARIES: dict[int, tuple[str, ...]] = {
    11: (
        "libcudart.so.11.0",
        "libcublas.so.11",
        "libcublasLt.so.11",
        "libcufft.so.10",
        "libcusolver.so.11",
        "libcusparse.so.11",
    ),
    12: (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
    ),
    13: (
        "libcudart.so.13",
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcufft.so.12",
        "libcusolver.so.12",
        "libcusparse.so.12",
    ),
}

# Limit, use and the field of memory.stat with files that can be dropped: cgroup version 2 and 1.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

_INSTALL_GPU = install_command("cnnclf[gpu]")


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes, or the limit of the container if that is lower. None: unknown."""

    total_bytes: int | None
    available_bytes: int | None


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU, named as by the driver."""

    name: str
    driver: str
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuProblem:
    """Why TensorFlow cannot use a GPU, and how to fix it."""

    reason: str
    hint: str


def read_cpu_name() -> str:
    """Return the name of the processor, such as AMD EPYC."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    if sys.platform == "darwin":
        return _command_output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine() or "unknown processor"


def read_cpu_features() -> tuple[str, ...]:
    """Return the instruction sets that matter to a CNN, such as avx2, avx512, bf16 and neon."""
    if sys.platform == "darwin":
        flags = set(re.split(r"[\s.:]+", _command_output("sysctl", "-a").lower()))
        flags |= {"asimd"} if platform.machine() == "arm64" else set()
    else:
        flags = set()
        with contextlib.suppress(OSError):
            found = re.search(r"^(?:flags|Features)\s*:(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
            flags = set(found[1].split()) if found else set()
    return tuple(dict.fromkeys(name for flag, name in _CPU_FEATURES if flag in flags))


def has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 arithmetic."""
    return bool({"bf16", "amx-bf16"} & set(read_cpu_features()))


def count_usable_cpus() -> int:
    """Return how many cores this process may use, given its affinity and its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for group in _control_groups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            limit = _read(f"{group}/cpu.max").split()
            cores = _within_quota(cores, *limit)
        with contextlib.suppress(OSError, ValueError):  # version 1
            limit = [_read(f"{group}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
            cores = _within_quota(cores, *limit)
    return cores


def read_memory() -> Memory:
    """Return total and available memory, given the limits of the container."""
    total = available = None
    with contextlib.suppress(OSError):
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE))
        total = int(fields["MemTotal"]) * 1024 if "MemTotal" in fields else None
        available = int(fields["MemAvailable"]) * 1024 if "MemAvailable" in fields else None
    if total is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _control_groups("memory"):
        for limit_file, usage_file, idle_field in _MEMORY_FILES:
            with contextlib.suppress(OSError, ValueError):
                limit = int(_read(f"{group}/{limit_file}"))
                free = limit - int(_read(f"{group}/{usage_file}"))
                with contextlib.suppress(OSError):
                    # Files that were read count as used, but are dropped when memory is needed.
                    idle = re.search(
                        rf"^{idle_field} (\d+)$", _read(f"{group}/memory.stat"), re.MULTILINE
                    )
                    free += int(idle[1]) if idle else 0
                total = min(limit, total or limit)
                available = max(0, min(free, limit if available is None else available))
    return Memory(total, available)


def read_peak_memory() -> int | None:
    """Return the most bytes that this process has held at once; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def find_nvidia_gpus() -> tuple[NvidiaGpu, ...]:
    """Return the NVIDIA GPUs; without nvidia-smi, an unnamed one if there is a driver."""
    listed = _command_output(
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader,nounits",
    )
    gpus = []
    for line in listed.splitlines():
        name, driver, memory = (part.strip() for part in [*line.split(","), "", ""][:3])
        memory_bytes = int(memory) * 2**20 if memory.isdigit() else None
        gpus.append(NvidiaGpu(name, driver, memory_bytes))
    if gpus:
        return tuple(gpus)
    evidence = ("/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/dxg")
    # /dev/dxg is the device of any GPU in WSL; the library shows that it is from NVIDIA.
    if any(Path(path).exists() for path in evidence[:2]) or (
        Path(evidence[2]).exists() and Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
    ):
        return (NvidiaGpu("NVIDIA GPU", "", None),)
    return ()


def is_gpu_usable(backend: str = "tensorflow") -> bool:
    """Return whether Keras will find a GPU, as far as can be seen without importing anything.

    Args:
        backend: Backend of Keras; only for TensorFlow are the CUDA libraries looked for.
    """
    if not find_nvidia_gpus():
        return False
    if backend != "tensorflow":
        return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() not in ("", "-1")
    build = _read_tensorflow_build()
    problem = _find_gpu_problem(
        built_with_cuda=build.get("is_cuda_build", "True") == "True",
        cuda=build.get("cuda_version", "12"),
        cudnn=build.get("cudnn_version", "9"),
    )
    return problem is None


def find_missing_cuda_libraries(cuda_major: int, cudnn_major: int) -> tuple[str, ...]:
    """Return the libraries that TensorFlow needs and that cannot be opened.

    Args:
        cuda_major: CUDA version that TensorFlow was built for, such as 12.
        cudnn_major: cuDNN version that it was built for, such as 9.

    Returns:
        File names; empty if all can be opened.
    """
    nearest = min(CUDA_LIBRARIES, key=lambda major: abs(major - cuda_major))
    names = (*CUDA_LIBRARIES[nearest], f"libcudnn.so.{cudnn_major}")
    return tuple(name for name in names if not _can_open(name))


def explain_unusable_gpu(
    *, built_with_cuda: bool, cuda: str = "12", cudnn: str = "9"
) -> GpuProblem:
    """Return why TensorFlow lists no GPU. Call it only when it lists none.

    Returns:
        The first cause that is found, and how to fix it.
    """
    problem = _find_gpu_problem(built_with_cuda=built_with_cuda, cuda=cuda, cudnn=cudnn)
    return problem or GpuProblem(
        "TensorFlow does not list the GPU, although its driver and libraries can be opened",
        "cnnclf doctor --verbose shows the log of TensorFlow",
    )


def _find_gpu_problem(*, built_with_cuda: bool, cuda: str, cudnn: str) -> GpuProblem | None:
    if not find_nvidia_gpus():
        return GpuProblem(
            "no NVIDIA GPU was found on this machine",
            "use --device cpu; if the machine has one, install its driver, or start the container "
            "with --gpus all",
        )
    if _is_windows():
        return GpuProblem(
            "TensorFlow does not support GPUs on native Windows since version 2.11",
            f"install WSL 2 (wsl --install) and run in it: {_INSTALL_GPU}",
        )
    if not built_with_cuda:
        return GpuProblem("this TensorFlow was built without CUDA", _INSTALL_GPU)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return GpuProblem(
            f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU", "unset CUDA_VISIBLE_DEVICES"
        )
    return _explain_driver(int(cuda.partition(".")[0])) or _explain_libraries(cuda, cudnn)


def _explain_libraries(cuda: str, cudnn: str) -> GpuProblem | None:
    majors = int(cuda.partition(".")[0]), int(cudnn.partition(".")[0])
    missing = find_missing_cuda_libraries(*majors)
    if missing:
        return GpuProblem(
            f"TensorFlow cannot open {', '.join(missing)} (CUDA {cuda}, cuDNN {cudnn})",
            f"{_INSTALL_GPU} (includes these libraries; no CUDA toolkit is needed)",
        )
    return None


def _explain_driver(cuda_major: int) -> GpuProblem | None:
    """Check through its library that the driver works and supports the version of CUDA."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return GpuProblem(
            f"libcuda.so.1 of the NVIDIA driver cannot be opened: {error}",
            "install the NVIDIA driver again; start a container with --gpus all",
        )
    code = int(driver.cuInit(0))
    if code != 0:
        words = _DRIVER_ERRORS.get(code, "unknown error")
        return GpuProblem(
            f"the NVIDIA driver failed to start: cuInit returned {code}, {words}",
            "restart the machine after a driver update, and check that nvidia-smi works",
        )
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if version.value and major < cuda_major:
        return GpuProblem(
            f"the NVIDIA driver is too old: it supports CUDA {major}.{minor}, but TensorFlow needs "
            f"CUDA {cuda_major}",
            "update the NVIDIA driver",
        )
    return None


_DRIVER_ERRORS = {
    2: "out of memory",
    3: "not initialized",
    34: "only a stub library is installed",
    100: "no CUDA device",
    101: "invalid device",
    802: "the system is not ready yet",
    803: "the versions of driver and library differ",
    804: "forward compatibility is not supported on this GPU",
    999: "unknown error",
}


def _read_tensorflow_build() -> dict[str, str]:
    """Read the build information of TensorFlow from its files, without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        with contextlib.suppress(OSError):
            text = _read(f"{root}/python/platform/build_info.py")
            return dict(re.findall(r"\('(\w+)', '?([\w.]+)'?\)", text))
    return {}


def _is_windows() -> bool:
    return os.name == "nt"


def _can_open(name: str) -> bool:
    for candidate in [name, *_wheel_copies(name)]:
        with contextlib.suppress(OSError):
            ctypes.CDLL(candidate)
            return True
    return False


def _wheel_copies(name: str) -> list[str]:
    """Find a library in the Python packages of NVIDIA, where TensorFlow also looks."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [str(path) for root in roots for path in sorted(Path(root).glob(f"*/lib/{name}"))]


def _control_groups(controller: str) -> list[str]:
    """Return the directories of the control groups of this process that may limit it.

    That of a container is the root; a job of Slurm or a service of systemd is further down. In
    version 2 all controllers share a tree, in version 1 each has one.
    """
    groups = ["/sys/fs/cgroup"]
    with contextlib.suppress(OSError):
        for line in _read("/proc/self/cgroup").splitlines():
            controllers, path = (*line.split(":", 2)[1:], "", "")[:2]
            if not controllers or controller in controllers.split(","):
                root = f"/sys/fs/cgroup/{controller}" if controllers else "/sys/fs/cgroup"
                parts = [part for part in path.split("/") if part]
                ends = range(len(parts) + 1 if ".." not in parts else 1)
                groups += ["/".join([root, *parts[:end]]) for end in ends]
    return list(dict.fromkeys(groups))


def _within_quota(cores: int, quota: str, period: str) -> int:
    """Return how many of the cores a quota of processor time allows; `max` and -1 mean all."""
    if quota == "max" or int(quota) < 0:
        return cores
    return min(cores, max(1, round(int(quota) / int(period))))


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _command_output(*command: str) -> str:
    """Return the output of a system tool; empty if it is missing, fails or hangs."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no user input
            command, capture_output=True, text=True, timeout=15, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
