"""Images per second of every augmentation and preset, on one thread.

Measures processor time of the thread, which depends little on other programs, and takes the best
of several rounds.
Run from the root of the project: python benchmarks/augmentation.py
"""

import argparse
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from cnnclf.augmentation.table import AUGMENTATIONS, PRESETS, Augmenter

SIZES = ((128, 28, 28, 1), (64, 128, 128, 3), (32, 224, 224, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    rows = {name: {name: row.default} for name, row in AUGMENTATIONS.items()}
    rows |= {f"preset {name}": dict(operations) for name, operations in PRESETS.items()}
    print(f"| {'operation':14} |" + "".join(f" {h}x{w}x{c:<4} |" for _, h, w, c in SIZES))
    for name, operations in rows.items():
        rates = [measure(operations, shape, arguments.rounds) for shape in SIZES]
        print(f"| {name:14} |" + "".join(f" {rate:10,.0f} |" for rate in rates), flush=True)


def measure(operations: dict[str, float], shape: tuple[int, ...], rounds: int) -> float:
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    y = np.eye(10, dtype=np.float32)[np.arange(len(x)) % 10]
    augmenter = Augmenter(operations)
    seconds = []
    for round_ in range(rounds):
        copies = x.copy(), y.copy()
        start = time.thread_time()
        augmenter(*copies, augmenter.rng(0, round_))
        seconds.append(time.thread_time() - start)
    return shape[0] / min(seconds)


if __name__ == "__main__":
    main()
