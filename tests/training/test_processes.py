"""Training in processes of its own: Ctrl-C, kill -9, and several devices."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.errors import ExitCode
from cnnclf.runs.run_opening import open_run

# Started in the background of a shell, a process ignores Ctrl-C and so would its children.
_LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
TRAIN = [sys.executable, "-c", _LISTEN + "from cnnclf.cli.main import run; run()", "train"]
TINY = ["--filters", "4,6", "--convs-per-block", "1", "--batch-size", "8", "--device", "cpu"]


def start(dataset: Dataset, run: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*TRAIN, str(dataset.directory), "--out", str(run), *TINY, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_epoch(run: Path, epoch: int) -> None:
    """Wait until an epoch is on disk; the limit only keeps a broken build from hanging."""
    deadline = time.monotonic() + 240
    history = run / "history.csv"
    while not (history.exists() and history.read_text().count("\n") > epoch):
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.05)


def wait_for_checkpoint(run: Path, epoch: int) -> None:
    """Wait until an epoch can be continued from; not each one can."""
    deadline = time.monotonic() + 240
    state = run / "checkpoints" / "last" / "state.json"
    while not (state.exists() and json.loads(state.read_text())["epoch"] >= epoch):
        assert time.monotonic() < deadline, "no epoch was saved"
        time.sleep(0.05)


def resume(run: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TRAIN, "--resume", str(run), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_ctrl_c_keeps_the_last_state_and_resume_finishes(shapes: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(shapes, run, "--epochs", "2000", "--patience", "0")
    wait_for_checkpoint(run, 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in stderr
    assert f"cnnclf train --resume {run}" in stderr
    assert open_run(run).status() == "interrupted"
    done = json.loads((run / "checkpoints" / "last" / "state.json").read_text())["epoch"]
    assert done >= 2
    # an unfinished run can be used already, and gone on with
    plan = json.loads((run / "plan.json").read_text())
    plan["config"]["training"]["epochs"] = done + 1
    (run / "plan.json").write_text(json.dumps(plan))
    finished = resume(run)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["epochs"] == done + 1


def test_kill_leaves_whole_checkpoints(shapes: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(shapes, run, "--epochs", "2000", "--patience", "0")
    wait_for_epoch(run, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    found = open_run(run)
    assert found.status() == "interrupted", "its process is gone"
    for name in ("best", "last"):
        names = {path.name for path in found.find_checkpoint(name).iterdir()}
        assert {"model.keras", "classifier.json"} <= names


_TWO_DEVICES = """
import sys
from pathlib import Path
from cnnclf.config import TrainConfig, load_config
from cnnclf.data.manifest import load_dataset
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run
from cnnclf.runtime import setup_runtime
from cnnclf.planning.train_plan import plan_training
from cnnclf.training.run import conduct_run
from cnnclf.training.work import Work, open_work

dataset = load_dataset(Path(sys.argv[1]))
config, _ = load_config(kind=TrainConfig, options={
    "model.filters": [4, 6], "model.convs_per_block": [1], "training.epochs": 2,
    "training.batch_size": 8, "optimizer.ema": float(sys.argv[3]),
})
runtime = setup_runtime(device="cpu", seed=0, logical_cpus=2)
assert runtime.devices == ("CPU:0", "CPU:1"), runtime
plan, run = plan_training(config, dataset), create_run(Path(sys.argv[2]))
with open_work(Work(plan, dataset, run, runtime, Silent())) as work:
    result = conduct_run(work)
losses = [row.loss for row in result.state.history]
assert losses[1] < losses[0], losses
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_two_devices_train_and_the_bundle_loads_on_one(
    shapes: Dataset, tmp_path: Path, ema: str, backend: str
) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, str(shapes.directory), str(run), ema],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert open_run(run).read_record()["status"] == "finished"
    assert (run / "evaluation" / "test" / "metrics.json").exists()


_TUNE_ON_TWO_DEVICES = """
import sys
from pathlib import Path
from cnnclf.data.manifest import load_dataset
from cnnclf.runtime import setup_runtime
from tests.training import tiny_finetune

runtime = setup_runtime(device="cpu", seed=0, logical_cpus=2)
assert runtime.devices == ("CPU:0", "CPU:1"), runtime
tiny_finetune.setup_runtime = lambda **_: runtime
options = {"tail.layer_decay": 0.5, "optimizer.ema": 0.5, "head.units": 4}
dataset = load_dataset(Path(sys.argv[1]))
result = tiny_finetune.tune_tiny(dataset, Path(sys.argv[2]), **options)
losses = [row.loss for row in result.state.history]
assert losses[2] < losses[0], losses
assert losses[5] < losses[3], losses
"""


@pytest.mark.slow
def test_two_devices_fine_tune(shapes: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", _TUNE_ON_TWO_DEVICES, str(shapes.directory), str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert open_run(run).read_record()["status"] == "finished"
