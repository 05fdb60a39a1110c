"""B19: where a step of the second phase of a fine-tuning goes, by operation, and against PyTorch.

The tail of EfficientNet-Lite0 as `cnnclf finetune` trains it: from the cached maps after stage4 to
the logits, batch normalization frozen, AdamW, 32 images. In turns, each in a process of its own: as
training compiles it, the layers of Keras as they are, and the same in PyTorch (channels_last, fused
AdamW). Images/s by the clock, the fastest step; then the milliseconds of each kind of operation
that TensorFlow's profiler saw in a step. Run from the root of the project:
    python -m benchmarks.b19_tail_parts [--torch PYTHON]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

BATCH, CLASSES, SIDE = 32, 5, 224
BACKBONE, FROZEN = "efficientnet-lite0", "stage4"
PRECISIONS = "float32", "bfloat16"
TORCH_TAIL = Path(__file__).with_name("torch_tail.py")
_STEPS, _PROFILED, _SHOWN = 15, 3, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", help="an interpreter that has PyTorch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--keras", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.keras:
        measure_keras(*arguments.keras)
        return
    ours = [sys.executable, "-m", "benchmarks.b19_tail_parts", "--keras"]
    commands = {
        f"{name}, {precision}": [*ours, kind, precision]
        for precision in PRECISIONS
        for kind, name in (("trained", "cnnclf"), ("plain", "layers of Keras"))
    }
    if arguments.torch:
        theirs = [arguments.torch, str(TORCH_TAIL), str(BATCH), str(CLASSES)]
        commands |= {f"PyTorch, {precision}": [*theirs, precision] for precision in PRECISIONS}
    best = dict.fromkeys(commands, 0.0)
    parts = {}
    for _ in range(arguments.turns):
        for name, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            first, *lines = done.stdout.splitlines()
            if (rate := float(first)) > best[name]:
                best[name], parts[name] = rate, lines
    for name in commands:
        print(f"{name:28} {best[name]:6.1f} images/s")
    for name, lines in parts.items():
        print("\n".join(["", name, *lines]) if lines else "")


def measure_keras(kind: str, precision: str) -> None:
    """Print the images per second of a step, and the milliseconds of its operations."""
    from cnnclf.config import HeadConfig
    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.transfer import build_transfer
    from cnnclf.runtime import setup_runtime
    from cnnclf.runtime.fused_norms import fuse_norms

    setup_runtime(device="cpu", precision=precision, seed=0)
    import keras

    head = HeadConfig().model_copy(update={"pooling": "global_average", "dropout": 0.2})
    transfer = build_transfer(
        find_backbone(BACKBONE), head, height=SIDE, width=SIDE, num_classes=CLASSES
    )
    part = transfer.cut(FROZEN)[1]
    if kind == "trained":
        fuse_norms(part)
    part.compile(
        keras.optimizers.AdamW(1e-3),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    maps = rng.random((BATCH, *part.input_shape[1:]), np.float32)
    truth = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, BATCH)]

    def step() -> Any:
        return part.train_on_batch(maps, truth)

    seconds = []
    for _ in range(_STEPS):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    print(BATCH / min(seconds))
    for name, total in profile(step).most_common(_SHOWN):
        print(f"{1e3 * total:8.1f} ms {name}")


def profile(step: Any) -> "Counter[str]":
    """Return the seconds of each kind of operation in a step."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(_PROFILED):
                step()
        [path] = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    seconds: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if name:  # of an operation: its name and its kind
                seconds[kind.removeprefix("_Mkl")] += event.duration_ps / 1e12 / _PROFILED
    return seconds


if __name__ == "__main__":
    main()
