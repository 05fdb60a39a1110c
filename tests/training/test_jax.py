"""The command line on JAX, on the CPU, where TensorFlow is not installed."""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.errors import ExitCode
from cnnclf.runs.run_opening import open_run
from cnnclf.training.recording import read_epochs
from tests.training import test_scratch
from tests.training.conftest import SHAPES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed"),
]

ROOT = Path(__file__).parents[2]
TINY = [
    "--filters",
    "4,6",
    "--convs-per-block",
    "1",
    "--batch-size",
    "8",
    "--epochs",
    "2",
    "--device",
    "cpu",
]

_WITHOUT_TENSORFLOW = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def hide(name, *more):
    return None if name.partition(".")[0] == "tensorflow" else find(name, *more)
PathFinder.find_spec = hide
from cnnclf.cli.main import run
run()
"""


def call(*arguments: object, backend: str = "jax") -> "subprocess.CompletedProcess[str]":
    program = ["-c", _WITHOUT_TENSORFLOW] if backend == "jax" else ["-m", "cnnclf"]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )


def read_probabilities(file: Path) -> tuple[list[str], np.ndarray]:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    values = [[float(row[label]) for label in SHAPES] for row in rows]
    return [row["path"] for row in rows], np.array(values)


def test_without_tensorflow_a_run_is_trained_evaluated_and_predicts_as_with_it(
    shapes: Dataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained = call("train", shapes.directory, "--out", run, *TINY, "--ema", "0.9")
    assert trained.returncode == 0, trained.stderr
    assert ", JAX, " in trained.stderr
    # which of the two is said depends on the processor
    reasons = ("the run is too short to measure others", "the processor has no bfloat16 arithmetic")
    assert any(f"float32 ({reason})" in trained.stderr for reason in reasons)
    losses = [row.loss for row in read_epochs(open_run(run))]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    evaluated = call("evaluate", run, shapes.directory)
    assert evaluated.returncode == 0, evaluated.stderr
    found = []
    for backend, engine in (("jax", "auto"), ("tensorflow", "keras")):
        out = tmp_path / f"{backend}.csv"
        options = ["--all-probabilities", "--precision", "float32", "--device", "cpu"]
        done = call(
            "predict", run, shapes.root, *options, "--engine", engine, "--out", out, backend=backend
        )
        assert done.returncode == 0, done.stderr
        found.append(read_probabilities(out))
    assert len(found[0][0]) == 48
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("--device gpu:all", "--device gpu:all: JAX lists no GPU"),
        ("--trace", "gradients need the TensorFlow backend (KERAS_BACKEND=jax)"),
    ],
)
def test_what_jax_cannot_do_here_is_said_before_there_is_a_run(
    shapes: Dataset, tmp_path: Path, options: str, error: str
) -> None:
    done = call("train", shapes.directory, "--out", tmp_path / "run", *TINY, *options.split())
    assert done.returncode == ExitCode.DEVICE
    assert f"error: {error}\n" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(900)
def test_training_is_exact_although_jax_reuses_the_memory_of_weights() -> None:
    """Averages are swapped in, checkpoints written, and runs resumed between epochs."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"),
            *(test_scratch.__file__, "-k", "resuming_equals or average_best or same_seed"),
        ],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
