"""B13, first part: how long `cnnclf describe` takes for every backbone, without weights.

One process, Keras loaded and one small backbone built before. For each backbone, in turn, three
times: build it without weights and lay it out, as `describe` does; and build it with random
weights, as all other commands do. Medians.
  describe   wall seconds, and seconds of the processor (goal: under 2)
  times      building with weights divided by describing
Run from the root of the project: python -m benchmarks.b13_describe [NAME ...]
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable

from cnnclf.explainers.network_sources import describe_backbone
from cnnclf.models.backbones import BACKBONES, find_backbone
from cnnclf.models.trunk import build_backbone
from cnnclf.runtime import setup_runtime

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[row.name for row in BACKBONES])
    parser.add_argument("--only-describe", action="store_true", help="build none with weights")
    arguments = parser.parse_args()
    setup_runtime(device="cpu", precision="float32")
    describe_backbone("mobilenet-0.25")
    print(f"{'backbone':<24}{'describe':>10}{'processor':>11}{'times':>8}")
    for name in arguments.names:
        wall, processor, whole = measure(name, only_describe=arguments.only_describe)
        times = f"{whole / wall:8.1f}" if whole else ""
        print(f"{name:<24}{wall:10.2f}{processor:11.2f}{times}", flush=True)


def measure(name: str, *, only_describe: bool) -> tuple[float, float, float]:
    """Return the medians: wall and processor seconds to describe, wall seconds with weights."""
    import keras

    row = find_backbone(name)
    side = row.default_size
    rounds = []
    for _ in range(ROUNDS):
        keras.backend.clear_session()
        gc.collect()
        described = clock(lambda: describe_backbone(name))
        built = (0.0, 0.0)
        if not only_describe:
            built = clock(lambda: build_backbone(row, height=side, width=side))
        rounds.append((*described, built[0]))
    wall, processor, whole = (statistics.median(each) for each in zip(*rounds, strict=True))
    return wall, processor, whole


def clock(work: Callable[[], object]) -> tuple[float, float]:
    start, began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - began


if __name__ == "__main__":
    main()
