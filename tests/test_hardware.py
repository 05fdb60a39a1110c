import ctypes
from collections.abc import Callable

import pytest

from cnnclf import hardware
from cnnclf.hardware import GpuProblem, NvidiaGpu, explain_unusable_gpu

GPU = (NvidiaGpu("NVIDIA T4", "535.1", 2**34),)


class FakeDriver:
    """Stands for libcuda.so.1."""

    def __init__(self, *, init_code: int = 0, version: int = 12040) -> None:
        self.init_code = init_code
        self.version = version

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        return self.init_code

    def cuDriverGetVersion(self, target: object) -> int:  # noqa: N802 - the driver's name
        ctypes.cast(target, ctypes.POINTER(ctypes.c_int)).contents.value = self.version  # type: ignore[arg-type]
        return 0


def open_library(missing: set[str], driver: FakeDriver) -> Callable[[str], object]:
    def fake_cdll(name: str) -> object:
        if name in missing:
            raise OSError(f"{name}: cannot open shared object file")
        return driver if name == "libcuda.so.1" else object()

    return fake_cdll


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "find_nvidia_gpus", lambda: GPU)
    monkeypatch.setattr(hardware, "_wheel_copies", lambda name: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def explain(
    monkeypatch: pytest.MonkeyPatch, missing: set[str], driver: FakeDriver | None = None
) -> GpuProblem:
    monkeypatch.setattr(ctypes, "CDLL", open_library(missing, driver or FakeDriver()))
    return explain_unusable_gpu(built_with_cuda=True, cuda="12.5.1", cudnn="9")


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "find_nvidia_gpus", tuple)
    assert "no NVIDIA GPU" in explain_unusable_gpu(built_with_cuda=True).reason


@pytest.mark.usefixtures("with_gpu")
def test_build_without_cuda() -> None:
    problem = explain_unusable_gpu(built_with_cuda=False)
    assert "without CUDA" in problem.reason
    assert "cnnclf[gpu]" in problem.hint


@pytest.mark.usefixtures("with_gpu")
def test_hidden_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES" in explain(monkeypatch, set()).reason


@pytest.mark.usefixtures("with_gpu")
def test_windows_is_sent_to_wsl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_is_windows", lambda: True)
    problem = explain_unusable_gpu(built_with_cuda=False)
    assert "Windows" in problem.reason
    assert "WSL" in problem.hint


@pytest.mark.usefixtures("with_gpu")
def test_names_each_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = explain(monkeypatch, {"libcudnn.so.9", "libcufft.so.11"})
    assert "libcudnn.so.9" in problem.reason
    assert "libcufft.so.11" in problem.reason
    assert "libcublas" not in problem.reason
    assert "cnnclf[gpu]" in problem.hint


@pytest.mark.usefixtures("with_gpu")
def test_library_in_a_python_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_wheel_copies", lambda name: [f"/site/nvidia/cudnn/lib/{name}"])
    assert "libcudnn" not in explain(monkeypatch, {"libcudnn.so.9"}).reason


@pytest.mark.usefixtures("with_gpu")
def test_driver_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = explain(monkeypatch, {"libcuda.so.1"})
    assert "libcuda.so.1" in problem.reason
    assert "driver" in problem.hint


@pytest.mark.usefixtures("with_gpu")
def test_driver_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = explain(monkeypatch, set(), FakeDriver(init_code=803))
    assert "803" in problem.reason
    assert "versions of driver and library differ" in problem.reason


@pytest.mark.usefixtures("with_gpu")
def test_driver_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = explain(monkeypatch, set(), FakeDriver(version=11080))
    assert "too old" in problem.reason
    assert "11.8" in problem.reason


@pytest.mark.usefixtures("with_gpu")
def test_nothing_found_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--verbose" in explain(monkeypatch, set()).hint


def test_gpus_as_the_driver_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "NVIDIA H100 80GB HBM3, 550.54.15, 81559\nNVIDIA T4, 550.54.15, [N/A]"
    monkeypatch.setattr(hardware, "_command_output", lambda *command: listed)
    first, second = hardware.find_nvidia_gpus()
    assert first == NvidiaGpu("NVIDIA H100 80GB HBM3", "550.54.15", 81559 * 2**20)
    assert second.memory_bytes is None


def test_this_machine_is_described() -> None:
    memory = hardware.read_memory()
    assert hardware.read_cpu_name()
    assert hardware.count_usable_cpus() >= 1
    assert memory.total_bytes is None or memory.total_bytes > 2**28
    assert set(hardware.read_cpu_features()) <= {name for _, name in hardware._CPU_FEATURES}


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\nbugs\t: x avx512_vnni\n", "avx2 avx512 bf16"),
        ("Features\t: fp asimd sve bf16\n", "neon bf16 sve"),
        ("nothing of the kind", ""),
    ],
)
def test_cpu_features(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, expected: str) -> None:
    monkeypatch.setattr(hardware, "_read", lambda path: cpuinfo)
    assert hardware.read_cpu_features() == tuple(expected.split())


def fake_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Let the system have these files and no others."""

    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(hardware, "_read", read)


GROUP = "/sys/fs/cgroup/system.slice/slurm/job_7"


@pytest.mark.parametrize(
    "files",
    [
        {"/sys/fs/cgroup/cpu.max": "100000 100000"},
        {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "50000 100000"},
        {
            "/proc/self/cgroup": "4:cpu,cpuacct:/docker/7f\n0::/\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    ],
    ids=["container", "group in a group", "version 1"],
)
def test_cores_are_limited_by_the_control_group(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    fake_files(monkeypatch, files)
    assert hardware.count_usable_cpus() == 1


@pytest.mark.parametrize(
    "files",
    [
        {"/sys/fs/cgroup/cpu.max": "max 100000", "/proc/self/cgroup": "0::/../other\n"},
        {
            "/proc/self/cgroup": "1:cpu:/\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        {"/proc/self/cgroup": "no group"},
        {},
    ],
)
def test_without_a_quota_all_cores_are_usable(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    fake_files(monkeypatch, files)
    assert hardware.count_usable_cpus() == 8


@pytest.mark.parametrize(
    "files",
    [
        {
            "/sys/fs/cgroup/memory.max": "4096000",
            "/sys/fs/cgroup/memory.current": "1024000",
        },
        {
            "/proc/self/cgroup": "0::/system.slice/slurm/job_7\n",
            "/sys/fs/cgroup/system.slice/memory.max": "max",
            f"{GROUP}/memory.max": "4096000",
            f"{GROUP}/memory.current": "1024000",
        },
        {
            "/proc/self/cgroup": "3:memory:/job_7\n0::/\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes": "2048000",
            "/sys/fs/cgroup/memory/job_7/memory.limit_in_bytes": "4096000",
            "/sys/fs/cgroup/memory/job_7/memory.usage_in_bytes": "3072000",
            "/sys/fs/cgroup/memory/job_7/memory.stat": (
                "inactive_file 1\ntotal_inactive_file 2048000\n"
            ),
        },
        {
            "/sys/fs/cgroup/memory.max": "4096000",
            "/sys/fs/cgroup/memory.current": "4095000",
            "/sys/fs/cgroup/memory.stat": "anon 1024000\nfile 9\ninactive_file 3071000\n",
        },
    ],
    ids=["container", "group in a group", "version 1", "files that were read"],
)
def test_memory_is_limited_by_the_control_group(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    meminfo = "MemTotal:  8000 kB\nMemAvailable:  6000 kB\n"
    fake_files(monkeypatch, files | {"/proc/meminfo": meminfo})
    assert hardware.read_memory() == hardware.Memory(4096000, 3072000)


def test_a_gpu_is_usable_unless_a_problem_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "find_nvidia_gpus", lambda: GPU)
    problems: list[GpuProblem | None] = [None, GpuProblem("no driver", "")]
    monkeypatch.setattr(hardware, "_find_gpu_problem", lambda **_: problems.pop(0))
    assert hardware.is_gpu_usable()
    assert not hardware.is_gpu_usable()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not hardware.is_gpu_usable("torch")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert hardware.is_gpu_usable("torch")
    monkeypatch.setattr(hardware, "find_nvidia_gpus", tuple)
    assert not hardware.is_gpu_usable("torch")


def test_the_build_of_tensorflow_is_read_without_importing_it() -> None:
    build = hardware._read_tensorflow_build()
    assert build["is_cuda_build"] in {"True", "False"}


def test_either_feature_means_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, expected in ((("avx2", "amx-bf16"), True), (("neon", "bf16"), True), ((), False)):
        monkeypatch.setattr(hardware, "read_cpu_features", lambda features=features: features)
        assert hardware.has_bfloat16() is expected
