"""What this machine has, found without loading TensorFlow: processor, memory, NVIDIA GPUs.

Also why a GPU that is there cannot be used: TensorFlow opens the CUDA libraries by name while it
starts and goes on without a GPU if one is missing, without naming it. `explain_unusable_gpu` looks
for the same files.
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

# What is worth knowing of a processor's instructions: the flag and how people call it.
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

# The libraries that TensorFlow opens by name, by the major version of CUDA it was built for.
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

_INSTALL_GPU = "python -m pip install 'cnnclf[gpu]'"


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; a container's limit counts. None: not known."""

    total_bytes: int | None
    available_bytes: int | None


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU as the driver names it."""

    name: str
    driver: str
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuProblem:
    """Why TensorFlow cannot use a GPU, and what to do about it."""

    reason: str
    hint: str


def read_cpu_name() -> str:
    """Return the processor's name, such as AMD EPYC."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    if sys.platform == "darwin":
        return _command_output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine() or "unknown processor"


def read_cpu_features() -> tuple[str, ...]:
    """Return the instruction sets that matter to a CNN: avx2, avx512, bf16, neon, ..."""
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
    """Tell whether the processor computes in bfloat16 itself, rather than converting."""
    return bool({"bf16", "amx-bf16"} & set(read_cpu_features()))


def count_usable_cpus() -> int:
    """Return how many cores this process may use: affinity and a container's quota count."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def read_memory() -> Memory:
    """Return total and available memory."""
    total = available = None
    with contextlib.suppress(OSError):
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE))
        total = int(fields["MemTotal"]) * 1024 if "MemTotal" in fields else None
        available = int(fields["MemAvailable"]) * 1024 if "MemAvailable" in fields else None
    if total is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        limit = int(_read("/sys/fs/cgroup/memory.max"))
        used = int(_read("/sys/fs/cgroup/memory.current"))
        total = min(limit, total or limit)
        available = min(limit - used, available or limit)
    return Memory(total, available)


def find_nvidia_gpus() -> tuple[NvidiaGpu, ...]:
    """Return the NVIDIA GPUs, also when the driver's own tool is missing (then unnamed)."""
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
    # /dev/dxg is WSL's door to any GPU; NVIDIA's library beside it tells whose.
    if any(Path(path).exists() for path in evidence[:2]) or (
        Path(evidence[2]).exists() and Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
    ):
        return (NvidiaGpu("NVIDIA GPU", "", None),)
    return ()


def is_gpu_usable(backend: str = "tensorflow") -> bool:
    """Tell whether Keras will find a GPU here, as far as can be seen without loading anything.

    Args:
        backend: Of Keras; the libraries that TensorFlow needs are looked for, those of others not.
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
    """Return the names of the libraries TensorFlow would open and not find.

    Args:
        cuda_major: The CUDA version TensorFlow was built for, 12 for example.
        cudnn_major: The cuDNN version it was built for, 9 for example.

    Returns:
        File names, empty if all of them open.
    """
    nearest = min(CUDA_LIBRARIES, key=lambda major: abs(major - cuda_major))
    names = (*CUDA_LIBRARIES[nearest], f"libcudnn.so.{cudnn_major}")
    return tuple(name for name in names if not _can_open(name))


def explain_unusable_gpu(
    *, built_with_cuda: bool, cuda: str = "12", cudnn: str = "9"
) -> GpuProblem:
    """Say why TensorFlow has no GPU here; asked when it lists none.

    Args:
        built_with_cuda: What TensorFlow says about itself.
        cuda: The CUDA version it was built for.
        cudnn: The cuDNN version it was built for.

    Returns:
        The first cause that is found, and the command that mends it.
    """
    problem = _find_gpu_problem(built_with_cuda=built_with_cuda, cuda=cuda, cudnn=cudnn)
    return problem or GpuProblem(
        "TensorFlow does not list the GPU, though its driver and libraries can be opened",
        "cnnclf doctor --verbose shows what TensorFlow itself says",
    )


def _find_gpu_problem(*, built_with_cuda: bool, cuda: str, cudnn: str) -> GpuProblem | None:
    if not find_nvidia_gpus():
        return GpuProblem(
            "no NVIDIA GPU was found on this machine",
            "use --device cpu; if there is one, install its driver, or start the container with "
            "access to it (--gpus all)",
        )
    if _is_windows():
        return GpuProblem(
            "TensorFlow on Windows itself has had no GPU support since version 2.10",
            f"install cnnclf in WSL 2 (wsl --install), there with: {_INSTALL_GPU}",
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
            f"{_INSTALL_GPU} (brings the libraries; no CUDA toolkit is needed)",
        )
    return None


def _explain_driver(cuda_major: int) -> GpuProblem | None:
    """Ask the driver, through its library, whether it works and which CUDA it can run."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return GpuProblem(
            f"the driver's libcuda.so.1 cannot be opened: {error}",
            "install or repair the NVIDIA driver; in a container, start it with --gpus all",
        )
    code = int(driver.cuInit(0))
    if code != 0:
        words = _DRIVER_ERRORS.get(code, "unknown error")
        return GpuProblem(
            f"the NVIDIA driver does not start: cuInit gave {code}, {words}",
            "restart the machine after a driver update; nvidia-smi must work first",
        )
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if version.value and major < cuda_major:
        return GpuProblem(
            f"the NVIDIA driver is too old: it runs CUDA {major}.{minor}, TensorFlow needs "
            f"{cuda_major}",
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
    803: "driver and library have different versions",
    804: "forward compatibility is not supported on this GPU",
    999: "unknown error",
}


def _read_tensorflow_build() -> dict[str, str]:
    """Read what TensorFlow was built for out of its files, without importing it."""
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
    """Find a library in NVIDIA's Python packages, where TensorFlow's own search path points."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [str(path) for root in roots for path in sorted(Path(root).glob(f"*/lib/{name}"))]


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _command_output(*command: str) -> str:
    """Return what a system tool prints, empty if it is missing, fails or hangs."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no user input
            command, capture_output=True, text=True, timeout=15, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
