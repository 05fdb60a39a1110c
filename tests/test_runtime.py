import gc
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnclf import runtime
from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.hardware import GpuProblem
from cnnclf.runtime import RuntimeInfo, backends, setup_runtime
from cnnclf.runtime.backends import DeviceRequest, Devices
from cnnclf.runtime.fast_imports import fast_imports


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


def run_python(code: str, **environment: str) -> tuple[Any, str]:
    """Run code that prints one JSON value in a fresh interpreter; give the value and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "-1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def devices(**changes: Any) -> Devices:
    values: dict[str, Any] = {
        "kind": "cpu",
        "names": ("CPU:0",),
        "title": "CPU: a processor",
        "threads": 2,
    }
    return Devices(**values | changes)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set up the runtime as if the backend had found these devices."""

    def setup(found: Devices, **arguments: Any) -> RuntimeInfo:
        monkeypatch.setattr(runtime, "open_backend", lambda backend, request: found)
        monkeypatch.setattr(runtime, "_set_keras", lambda policy, seed: None)
        return setup_runtime(**arguments)

    return setup


# Choices that need no backend


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((9, 0), "bfloat16"),
        ((8, 0), "bfloat16"),
        ((7, 5), "float16"),
        ((6, 1), "float32"),
        (None, "float32"),
    ],
)
def test_precision_follows_the_gpu(
    on: Any, capability: tuple[int, int] | None, expected: str
) -> None:
    info = on(devices(kind="gpu", names=("GPU:0",), title="GPU: X", capability=capability))
    assert info.precision == expected
    assert info.precision_reason
    assert info.summary == f"GPU: X, {expected}"


def test_precision_as_requested(on: Any) -> None:
    info = on(devices(), precision="bfloat16")
    assert (info.precision, info.precision_reason) == ("bfloat16", "as requested")


def test_unknown_precision_is_refused(on: Any) -> None:
    with pytest.raises(DeviceError, match="float8"):
        on(devices(), precision="float8")


@pytest.mark.parametrize(
    ("backend", "found", "deterministic", "expected"),
    [
        ("tensorflow", devices(), False, False),
        ("tensorflow", devices(kind="gpu", names=("GPU:0",)), False, True),
        ("tensorflow", devices(kind="gpu", names=("GPU:0",)), True, False),
        ("tensorflow", devices(kind="gpu", names=("GPU:0", "GPU:1")), False, False),
        ("jax", devices(), False, True),
        ("torch", devices(kind="gpu", names=("GPU:0",)), False, False),
    ],
)
def test_compiled_by_xla(
    on: Any,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    found: Devices,
    deterministic: bool,
    expected: bool,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert on(found, deterministic=deterministic).jit_compile is expected


def test_one_line_for_people(on: Any) -> None:
    assert on(devices()).summary == "CPU: a processor, 2 threads, float32"
    assert on(devices(threads=1)).summary == "CPU: a processor, 1 thread, float32"


def test_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(DeviceError, match="theano"):
        setup_runtime()


def test_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match="torch") as caught:
        setup_runtime()
    assert caught.value.exit_code == 5


def test_several_devices_need_tensorflow_or_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(DeviceError, match="torch"):
        setup_runtime(device="gpu:all")


@pytest.mark.parametrize(
    ("device", "expected"),
    [("auto", ["a"]), ("gpu", ["a"]), ("gpu:1", ["b"]), ("gpu:all", ["a", "b"])],
)
def test_which_gpus(device: str, expected: list[str]) -> None:
    assert backends._choose(["a", "b"], device) == expected


def test_gpu_number_too_high() -> None:
    with pytest.raises(DeviceError, match="from 0 to 1"):
        backends._choose(["a", "b"], "gpu:2")


def test_jax_shares_batches_among_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [
        SimpleNamespace(platform="gpu", id=index, device_kind="X", compute_capability=text)
        for index, text in enumerate(("9.0", "8.6"))
    ]
    shared: list[object] = []
    config = SimpleNamespace(update=lambda name, value: None)
    distribution = SimpleNamespace(
        DataParallel=lambda devices: devices, set_distribution=shared.append
    )
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=lambda: gpus, config=config))
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(distribution=distribution))
    both, second = (
        backends.open_backend("jax", DeviceRequest(device, None, None, False))
        for device in ("gpu:all", "gpu:1")
    )
    assert (both.names, second.names) == (("GPU:0", "GPU:1"), ("GPU:1",))
    assert (both.title, second.title) == ("GPU: 2 x X, JAX", "GPU: X, JAX")
    assert both.capability == second.capability == (8, 6)
    assert shared == [["gpu:0", "gpu:1"], None]


class FakeTensorFlow:
    """TensorFlow on a machine with GPUs: what of it opens devices."""

    def __init__(self, *gpus: tuple[str, tuple[int, int]]) -> None:
        self.capabilities = dict(gpus)
        self.visible: list[str] = []
        self.growing: list[str] = []
        self.mirrored: list[str] = []
        self.config = SimpleNamespace(
            list_physical_devices=lambda kind: list(self.capabilities) if kind == "GPU" else ["c"],
            set_visible_devices=lambda chosen, kind: self.visible.extend(chosen),
            threading=SimpleNamespace(
                set_intra_op_parallelism_threads=lambda count: None,
                set_inter_op_parallelism_threads=lambda count: None,
                get_intra_op_parallelism_threads=lambda: 0,
            ),
            experimental=SimpleNamespace(
                set_memory_growth=lambda gpu, wanted: self.growing.append(gpu),
                get_device_details=lambda gpu: {
                    "device_name": gpu,
                    "compute_capability": self.capabilities[gpu],
                },
            ),
        )
        self.distribute = SimpleNamespace(
            MirroredStrategy=self.mirror,
            ReductionToOneDevice=lambda: None,
        )
        self.errors = SimpleNamespace(OpError=RuntimeError)
        self.nn = SimpleNamespace(conv2d=lambda *arguments: SimpleNamespace(numpy=lambda: None))

    def mirror(self, names: list[str], *, cross_device_ops: object) -> str:
        self.mirrored = names
        return "all"

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(setLevel=lambda level: None)

    def device(self, name: str) -> Any:
        return nullcontext()

    def ones(self, shape: tuple[int, ...]) -> object:
        return shape


@pytest.mark.parametrize(
    ("device", "visible", "names"),
    [
        ("auto", ["A"], ("GPU:0",)),
        ("gpu:1", ["B"], ("GPU:0",)),
        ("gpu:all", ["A", "B"], ("GPU:0", "GPU:1")),
    ],
)
def test_gpus_are_opened_with_memory_growth(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: list[str], names: tuple[str, ...]
) -> None:
    fake = FakeTensorFlow(("A", (9, 0)), ("B", (7, 5)))
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    found = backends.open_backend("tensorflow", DeviceRequest(device, None, None, False))
    assert found.kind == "gpu"
    assert fake.visible == fake.growing == visible
    assert found.names == names
    assert found.capability == min(fake.capabilities[gpu] for gpu in visible)
    assert fake.mirrored == (list(names) if len(names) > 1 else [])
    assert found.strategy == ("all" if len(names) > 1 else None)
    assert found.title == ("GPU: 2 x A" if len(names) > 1 else f"GPU: {visible[0]}")


def test_cpu_leaves_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorFlow(("A", (9, 0)))
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    found = backends.open_backend("tensorflow", DeviceRequest("cpu", None, None, False))
    assert (found.kind, fake.visible, fake.growing) == ("cpu", [], [])


WHILE_LOADING = """
import importlib, json, threading
from types import SimpleNamespace
from cnnclf import runtime
from cnnclf.runtime.backends import Devices

failed = {}

def import_all(where):
    for name in ("sklearn.metrics", "matplotlib.figure", "pandas"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed.setdefault(where, []).append(error.name)

def open_backend(backend, request):
    import_all("here")
    thread = threading.Thread(target=import_all, args=["in another thread"])
    thread.start()
    thread.join()
    return Devices("cpu", ("CPU:0",), "a processor", 2)

runtime.open_backend = open_backend
runtime._set_keras = lambda policy, seed: None
runtime.setup_runtime()
import_all("afterwards")
print(json.dumps(failed))
"""


def test_other_threads_import_what_is_hidden_while_keras_is_loaded() -> None:
    failed, _ = run_python(WHILE_LOADING)
    assert failed == {"here": ["sklearn", "matplotlib", "pandas"]}


@pytest.mark.parametrize(("backend", "is_hidden"), [("tensorflow", True), ("jax", False)])
def test_jax_is_loaded_only_as_the_backend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str, is_hidden: bool
) -> None:
    (tmp_path / "jax.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with fast_imports(), pytest.raises(ImportError) if is_hidden else nullcontext():
        importlib.import_module("jax")
    monkeypatch.delitem(sys.modules, "jax", raising=False)


def test_garbage_is_collected_while_keras_is_loaded() -> None:
    """Rarely, but never switched off or frozen: other threads may be busy."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with fast_imports():
        thresholds = gc.get_threshold()
        with fast_imports():  # of another thread
            assert gc.get_threshold() == thresholds
        assert gc.isenabled()
        assert thresholds[0] > before[0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)


# With TensorFlow


REPORT = """
import json
from cnnclf.runtime import setup_runtime
info = setup_runtime({arguments})
print(json.dumps(info.to_dict()))
"""


COUNT_FAULTS = """
import ctypes, json, resource
from cnnclf.runtime.backends import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
libc.free.argtypes = (ctypes.c_void_p,)

def count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        block = libc.malloc(40 * 2**20)
        libc.memset(block, 1, 40 * 2**20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = count()
keep_freed_memory()
print(json.dumps([before, count(), count()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator of glibc")
def test_freed_memory_is_kept_unless_the_environment_says_how() -> None:
    (before, _, kept), _ = run_python(COUNT_FAULTS)
    assert kept < before / 15  # at most one of twenty blocks is new
    (before, _, again), _ = run_python(COUNT_FAULTS, MALLOC_ARENA_MAX="2")
    assert again > before / 2


def test_fresh_interpreter_is_quiet_and_set() -> None:
    values, stderr = run_python(REPORT.format(arguments="seed=5, threads=1, deterministic=True"))
    assert stderr == ""
    assert values["threads"] == 1
    assert values["seed"] == 5
    assert values["deterministic"] is True
    assert values["jit_compile"] is False
    assert values["devices"] == ["CPU:0"]
    assert values["summary"].startswith("CPU: ")
    assert {"python", "keras", "tensorflow", "cnnclf"} <= values["versions"].keys()


CONFIGURED = """
import json
from cnnclf.runtime import setup_runtime
setup_runtime(device="cpu", precision="float32")
import keras
layer = keras.layers.Conv2D(2, 3)
maps = layer(keras.ops.zeros((1, 8, 9, 3)))
values = [layer.data_format, list(maps.shape), keras.config.floatx(), keras.config.epsilon()]
print(json.dumps([*values, keras.backend.standardize_dtype(maps.dtype)]))
"""


def test_what_keras_is_told_in_the_home_directory_changes_nothing(tmp_path: Path) -> None:
    settings = {
        "floatx": "float64",
        "epsilon": 0.1,
        "backend": "torch",
        "image_data_format": "channels_first",
    }
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    values, _ = run_python(CONFIGURED, KERAS_HOME=str(tmp_path))
    assert values == ["channels_last", [1, 6, 7, 2], "float32", 1e-7, "float32"]


LOADED = """
import json, sys
from cnnclf.runtime import setup_runtime
{before}
setup_runtime(device="cpu")
loaded = [name for name in ("sklearn", "matplotlib", "pandas") if name in sys.modules]
import matplotlib.pyplot, sklearn.metrics
print(json.dumps([loaded, sklearn.metrics.accuracy_score([1, 0], [1, 1])]))
"""


@pytest.mark.parametrize(("before", "expected"), [("", []), ("import matplotlib", ["matplotlib"])])
def test_what_keras_does_not_need_is_loaded_when_it_is_wanted(
    before: str, expected: list[str]
) -> None:
    assert run_python(LOADED.format(before=before))[0] == [expected, 0.5]


def test_verbose_lets_tensorflow_speak() -> None:
    _, stderr = run_python(REPORT.format(arguments="verbose=True"))
    assert re.search(r"\w\.cc:\d+\] ", stderr), "which lines its C++ code prints depends on the CPU"


TWO_DEVICES = """
import json
import numpy as np
from cnnclf.runtime import setup_runtime
info = setup_runtime(seed=1, logical_cpus={count})
import keras
with info.scope():
    model = keras.Sequential([
        keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 3), keras.layers.Flatten(),
        keras.layers.Dense(2),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=info.jit_compile)
values = np.random.default_rng(0)
x = values.random((32, 6, 6, 1), np.float32)
y = values.integers(0, 2, 32)
history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
replicas = 1 if info.strategy is None else info.strategy.num_replicas_in_sync
print(json.dumps([replicas, info.devices, history.history["loss"]]))
"""


@pytest.mark.slow
def test_two_devices_train_like_one() -> None:
    (one, _, losses), _ = run_python(TWO_DEVICES.format(count="None"))
    (two, names, mirrored), stderr = run_python(TWO_DEVICES.format(count=2))
    assert (one, two) == (1, 2)
    assert names == ["CPU:0", "CPU:1"]
    assert mirrored == pytest.approx(losses, rel=1e-4)
    assert "Traceback" not in stderr


def test_twice_in_one_process_and_errors_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    import tensorflow as tf

    before = keras.config.dtype_policy().name
    first = setup_runtime(device="cpu", seed=7)
    drawn = float(tf.random.uniform(()))
    problem = GpuProblem("none here", "--device cpu")
    monkeypatch.setattr(backends, "tensorflow_gpu_problem", lambda: problem)
    with pytest.raises(DeviceError, match="--device gpu:3: none here"):
        setup_runtime(device="gpu:3")
    second = setup_runtime(device="auto", seed=7, precision="bfloat16")
    try:
        assert second.precision == "bfloat16"
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert second.devices == first.devices
        assert float(tf.random.uniform(())) == drawn
    finally:
        keras.config.set_dtype_policy(before)


def test_same_seed_same_numbers() -> None:
    import numpy as np

    setup_runtime(device="cpu", seed=11)
    first = np.random.random(4)  # noqa: NPY002 - the global generator is what is seeded
    setup_runtime(device="cpu", seed=11)
    assert np.array_equal(first, np.random.random(4))  # noqa: NPY002


def test_gpu_that_fails_at_its_first_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def fail(*arguments: object, **options: object) -> None:
        raise tf.errors.InternalError(None, None, "no kernel image is available")

    monkeypatch.setattr(tf.nn, "conv2d", fail)
    with pytest.raises(DeviceError, match="no kernel image"):
        backends._try_tensorflow_gpus(tf, ("CPU:0",))


# The descriptor of stderr


def test_native_noise_is_kept_off_and_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    with runtime.quiet(verbose=False):
        os.write(2, b"noise\n")
    os.write(2, b"ours\n")
    assert capfd.readouterr().err == "ours\n"


def test_threads_that_are_quiet_at_the_same_time_give_stderr_back() -> None:
    before = os.fstat(2)
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with runtime.quiet():
            entered.set()
            left.wait(10)

    with runtime.quiet():
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(0.2)  # it waits until this block ends
    left.set()
    thread.join()
    assert os.path.samestat(before, os.fstat(2))


def test_native_noise_is_shown_when_something_unexpected_happens(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        with runtime.quiet(verbose=False):
            os.write(2, b"the reason\n")
            raise ValueError("unexpected")

    with pytest.raises(ValueError, match="unexpected"):
        fail()
    assert "the reason" in capfd.readouterr().err
