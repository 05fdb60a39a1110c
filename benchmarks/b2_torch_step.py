"""B2, second part: a training step of the default network, compared with PyTorch and arithmetic.

  keras    train_on_batch as `cnnclf train` compiles it, in float32 and in bfloat16
  torch    the same layers and optimizer with channels_last, in float32 and in bfloat16 autocast
  limit    what a float32 matrix product needs for the same multiplications
All are processes of their own that take turns, a few steps each; medians of the turns, by the
clock. Run from the root of the project, on idle cores:
    python -m benchmarks.b2_torch_step PYTHON-WITH-TORCH [--size 28 28 1]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.config import TrainConfig, load_config
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning.network_settings import resolve_model

CLASSES = 10
SIDE = 1024  # of the matrices of the limit
PRECISIONS = ("float32", "bfloat16")
TORCH_STEP = Path(__file__).with_name("torch_step.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torch", nargs="?", help="an interpreter that has PyTorch")
    parser.add_argument("--size", type=int, nargs=3, default=(28, 28, 1), help="of the images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--keras", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = tuple(options.size)
    if options.keras:
        serve_keras(options.keras, shape, options.batch, options.steps)
        return
    anatomy = plan_network(shape)[1]
    numbers = [str(each) for each in (options.batch, *shape, options.steps)]
    layers = json.dumps(list_layers(anatomy))
    ours = [sys.executable, "-m", "benchmarks.b2_torch_step", "--size", *map(str, shape)]
    ours += ["--batch", numbers[0], "--steps", numbers[-1], "--keras"]
    commands = {f"keras {each}": [*ours, each] for each in PRECISIONS}
    if options.torch:
        theirs = [options.torch, str(TORCH_STEP), layers]
        commands |= {f"torch {each}": [*theirs, each, *numbers] for each in PRECISIONS}
    seconds = take_turns(commands, options.turns)
    best = min(seconds.values())
    for name, step_s in seconds.items():
        print(f"{name:16} {options.batch / step_s:7.0f} images/s {best / step_s:6.2f} of the best")
    limit = 3 * 2 * anatomy.macs * options.batch / multiply_per_s()
    print(f"limit in float32 {options.batch / limit:7.0f} images/s")


def plan_network(shape: tuple[int, ...]) -> tuple[Any, Anatomy]:
    """Return the settings of the default network, and its layers on paper."""
    # the optimizer that PyTorch has in a fused form
    options = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3}
    config, given = load_config(options=options, kind=TrainConfig)
    height, width, channels = shape
    model, _ = resolve_model(config.model, (height, width), given=given)
    return (config, model), plan_cnn(model, (height, width, channels), num_classes=CLASSES)


def list_layers(anatomy: Anatomy) -> list[list[object]]:
    """Return convolutions and pooling as the other interpreter reads them."""
    rows: list[list[object]] = []
    for row in anatomy.layers:
        if row.kind == "conv":
            rows.append(["conv", row.units, row.window])
        elif row.kind == "pool":
            rows.append(["pool", row.window])
    return rows


def serve_keras(precision: str, shape: tuple[int, ...], batch: int, steps: int) -> None:
    """Answer each line on stdin with the seconds of a step."""
    from cnnclf.models.cnn import build_cnn
    from cnnclf.runtime import setup_runtime
    from cnnclf.runtime.fused_norms import fuse_norms
    from cnnclf.training.fitting.fit import build_loss
    from cnnclf.training.fitting.optimizers import build_optimizer

    setup_runtime(device="cpu", precision=precision, seed=0)
    (config, model), _ = plan_network(shape)
    height, width, channels = shape
    net = build_cnn(model, (height, width, channels), num_classes=CLASSES)
    fuse_norms(net)
    net.compile(
        build_optimizer(config.optimizer, total_steps=1000),
        loss=build_loss(config.training),
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, *shape), np.uint8)
    truth = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)]
    for _ in range(3):
        net.train_on_batch(pixels, truth)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(steps):
            net.train_on_batch(pixels, truth)
        print((time.perf_counter() - begin) / steps, flush=True)


def take_turns(commands: dict[str, list[str]], turns: int) -> dict[str, float]:
    """Start all, let one after the other compute, and return the median seconds of a step."""
    pipe = subprocess.PIPE
    processes = {
        name: subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        for name, command in commands.items()
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(turns + 1):  # the first one only waits until all have started
        for name, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            answer = float(process.stdout.readline())
            if turn:
                times[name].append(answer)
    for process in processes.values():
        process.communicate()
    return {name: statistics.median(each) for name, each in times.items()}


def multiply_per_s() -> float:
    """Return the operations per second of a matrix product of this process."""
    matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    fastest = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        matrix @ matrix
        fastest = min(fastest, time.perf_counter() - begin)
    return 2 * SIDE**3 / fastest


if __name__ == "__main__":
    main()
