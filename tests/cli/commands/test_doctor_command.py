import json
from pathlib import Path
from typing import Any

import pytest

from cnnclf import hardware, runtime
from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.hardware import GpuProblem, NvidiaGpu
from cnnclf.runtime import RuntimeInfo
from tests.conftest import Cli

GPU = NvidiaGpu("NVIDIA T4", "535.1", 16 * 10**9)


def info(**changes: Any) -> RuntimeInfo:
    values: dict[str, Any] = {
        "backend": "tensorflow",
        "kind": "cpu",
        "summary": "CPU: X, 2 threads, float32",
        "devices": ("CPU:0",),
        "precision": "float32",
        "precision_reason": "because",
        "jit_compile": False,
        "threads": 2,
        "seed": None,
        "deterministic": False,
        "versions": {"python": "3.11.7", "tensorflow": "2.21.0"},
    }
    return RuntimeInfo(**values | changes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put GPUs and a runtime (or its error) in place."""

    def place(gpus: tuple[NvidiaGpu, ...], found: RuntimeInfo | Exception) -> None:
        def setup(**arguments: object) -> RuntimeInfo:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(hardware, "find_nvidia_gpus", lambda: gpus)
        monkeypatch.setattr(runtime, "setup_runtime", setup)
        problem = GpuProblem("TensorFlow cannot open libcudnn.so.9", "pip install 'cnnclf[gpu]'")
        monkeypatch.setattr(runtime, "tensorflow_gpu_problem", lambda: problem)

    return place


def test_healthy_without_gpu(cli: Cli, machine: Any, own_cache: Path) -> None:
    machine((), info())
    (own_cache / "pixels").mkdir(parents=True)
    (own_cache / "pixels" / "a.bin").write_bytes(b"0" * 2500)
    result = cli("doctor")
    assert result.code == 0
    for words in ("2.21.0", "no NVIDIA GPU", "CPU: X, 2 threads", "2.5 kB", "no problems found"):
        assert words in result.stdout
    assert str(own_cache) in result.stdout
    assert result.stderr == "checking this machine\n"


def test_healthy_with_gpu(cli: Cli, machine: Any) -> None:
    machine((GPU,), info(kind="gpu", summary="GPU: NVIDIA T4, mixed_float16"))
    result = cli("doctor")
    assert result.code == 0
    assert "NVIDIA T4, 16.0 GB, driver 535.1" in result.stdout


def test_gpu_that_is_not_used(cli: Cli, machine: Any) -> None:
    machine((GPU,), info())
    result = cli("doctor")
    assert result.code == 6
    assert "error: NVIDIA T4 was found, but" in result.stderr
    assert "libcudnn.so.9" in result.stderr
    assert "hint: pip install 'cnnclf[gpu]'" in result.stderr


def test_gpu_that_another_backend_does_not_use(cli: Cli, machine: Any) -> None:
    machine((GPU,), info(backend="torch"))
    result = cli("doctor")
    assert result.code == 6
    assert "torch cannot use it" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceError("GPU:0 is there and fails", "use --device cpu"), 6),
        (MissingPackageError("TensorFlow cannot be imported", "install it"), 5),
    ],
)
def test_runtime_that_fails_is_a_diagnosis(
    cli: Cli, machine: Any, error: Exception, code: int
) -> None:
    machine((GPU,), error)
    result = cli("doctor")
    assert result.code == code
    assert f"error: {error}" in result.stderr
    assert "Versions" in result.stdout


def test_json(cli: Cli, machine: Any) -> None:
    machine((GPU,), info())
    result = cli("doctor", "--json")
    document = json.loads(result.stdout)
    assert result.code == 6
    assert document["gpus"] == [
        {"name": "NVIDIA T4", "driver": "535.1", "memory_bytes": 16 * 10**9}
    ]
    assert document["problem"]["hint"] == "pip install 'cnnclf[gpu]'"
    assert document["cache"]["free_bytes"] > 0
    assert document["cpu"]["usable_cores"] >= 1
