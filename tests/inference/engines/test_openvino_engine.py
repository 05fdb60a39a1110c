"""OpenVINO as an engine: what it does beside computing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnclf.inference.engines import openvino_engine

ROOT = Path(__file__).parents[3]


def test_it_reports_nothing_to_anybody(tmp_path: Path) -> None:
    code = (
        "from cnnclf.inference.engines.openvino_engine import load_openvino\n"
        "import sys\n"
        "assert load_openvino().Core()\n"
        "print([name for name, module in sys.modules.items()"
        " if name.startswith('openvino_telemetry') and module])"
    )
    # With CI=true it would not report either.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


OURS = "OpenVinoGraph(path, precision='float32')"
# As NNCF and others make them, though one of ours is kept.
OTHERS = "load_core() and openvino.Core().compile_model(path, 'CPU')"
SHORT = "load_core() and openvino.compile_model(path, 'CPU')"


@pytest.mark.parametrize("make", [OURS, OTHERS, SHORT])
def test_ctrl_c_is_heard_after_a_graph_was_given_up_in_another_thread(
    tmp_path: Path, make: str
) -> None:
    code = (
        "import signal, sys, threading\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from cnnclf.inference.engines.openvino_engine import OpenVinoGraph, load_core\n"
        "from cnnclf.inference.engines.openvino_engine import load_openvino\n"
        "openvino = load_openvino()\n"
        "from openvino import opset13 as ops\n"
        "path = Path(sys.argv[1]) / 'm.xml'\n"
        "pixels = ops.parameter([-1, 4, 4, 3], np.float32)\n"
        "mean = ops.reduce_mean(pixels, ops.constant(np.array([1, 2])), False)\n"
        "openvino.save_model(openvino.Model([mean], [pixels]), path)\n"
        f"held = [{make}]\n"
        "thread = threading.Thread(target=held.clear)\n"
        "thread.start()\n"
        "thread.join()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('heard')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "heard"), done.stderr


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_a_converted_network_has_its_own_outputs_and_nothing_else(
    tmp_path: Path, activation: str
) -> None:
    """Swish keeps its input for the gradient, which OpenVINO takes for an output."""
    import keras

    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, activation=activation)(pixels)
    maps = keras.layers.Conv2D(5, 3, activation=activation)(maps)
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(maps))
    path = openvino_engine.convert_to_openvino(model, tmp_path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "model.bin", tmp_path / "model.xml"]
    batch = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    outputs = openvino_engine.OpenVinoGraph(path, precision="float32").compute(batch)
    assert len(outputs) == 1
    np.testing.assert_allclose(outputs[0], model(batch), rtol=1e-4, atol=1e-3)


def test_conversion_does_without_what_python_3_13_forbids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function deletes a name by `exec`, which raises NameError in Python 3.13."""
    import keras
    from openvino.frontend.tensorflow import utils

    def fail(framework: str) -> None:
        raise NameError(f"name '{framework}' is not defined")

    monkeypatch.setattr(utils, "get_environment_setup", fail)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    assert openvino_engine.convert_to_openvino(model, tmp_path).exists()
