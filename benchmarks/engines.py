"""Engines on one model: images per second, and per second of processor time.

Each engine gets decoded arrays: batches of 32 through `stream`, single images through `logits`;
runs are interleaved. Processor time depends little on other programs.
Run from the root of the project: python -m benchmarks.engines [--model NAME]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.engine import Pixels
from cnnclf.inference.engines.engine_table import ENGINES, find_missing

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-predict"
    )
    arguments = parser.parse_args()
    bundle = arguments.folder / arguments.model
    if not (bundle / "classifier.json").exists():
        command = ["-m", "benchmarks.b8_predict", "--make", arguments.model, str(bundle)]
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
    ways = build_ways(bundle, arguments.count)
    for way in ways.values():
        way()
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            began, work = time.perf_counter(), time.process_time()
            count = way()
            wall_s, work_s = time.perf_counter() - began, time.process_time() - work
            figures[name].append((count / wall_s, count / work_s))
    print(f"{arguments.model}, {os.cpu_count()} cores: images/s (median), images per cpu second")
    base = statistics.median(rate for _, rate in figures["keras float32 stream"])
    for name, rates in figures.items():
        wall, work = (statistics.median(each) for each in zip(*rates, strict=True))
        print(f"  {name:32} {wall:8.1f} {work:8.1f}   {work / base:5.2f} x keras")


def build_ways(bundle: Path, count: int) -> dict[str, Callable[[], int]]:
    """Return the functions to measure; each returns the number of images it computed."""
    ways: dict[str, Callable[[], int]] = {}
    for row in ENGINES:
        if find_missing(row, converting=True):
            continue
        for precision in row.precisions:
            found = Classifier.load(bundle, engine=row.name, precision=precision)
            shape = found.input_spec.shape
            pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
            name = f"{row.name} {precision}"
            ways[f"{name} stream"] = stream(found, pixels, count)
            ways[f"{name} one by one"] = one_by_one(found, pixels, max(8, count // 8))
    return ways


def stream(found: Classifier, pixels: Pixels, count: int) -> Callable[[], int]:
    def run() -> int:
        batches = ((number, pixels) for number in range(count // BATCH))
        return sum(len(logits) for _, logits in found.stream(batches))

    return run


def one_by_one(found: Classifier, pixels: Pixels, count: int) -> Callable[[], int]:
    def run() -> int:
        for number in range(count):
            found.logits(pixels[number % BATCH : number % BATCH + 1])
        return count

    return run


if __name__ == "__main__":
    main()
