"""B13, first part: how long `cnnclf describe` takes for every backbone, without weights.

One process, Keras loaded and one small backbone built before. For each backbone, in turn, three
times: build it without weights and lay it out, as the first `describe` does; describe it again,
from the cache; and build it with random weights, as all other commands do. Medians of seconds of
the processor.
  first      with an empty cache
  again      from the cache (goal: under 2)
  times      building with weights divided by describing first
Run from the root of the project: python -m benchmarks.b13_describe [NAME ...]
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from unittest import mock

from cnnclf.data.cache import CACHE_VARIABLE
from cnnclf.explainers.network_sources import describe_backbone
from cnnclf.models.backbones import BACKBONES, find_backbone
from cnnclf.models.trunk import build_backbone
from cnnclf.runtime import setup_runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[row.name for row in BACKBONES])
    parser.add_argument("--only-describe", action="store_true", help="build none with weights")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    setup_runtime(device="cpu", precision="float32")
    describe_backbone("mobilenet-0.25")
    print(f"{'backbone':<24}{'first':>8}{'again':>8}{'times':>8}")
    for name in arguments.names:
        first, again, whole = measure(name, arguments.rounds, only_describe=arguments.only_describe)
        times = f"{whole / first:8.1f}" if whole else ""
        print(f"{name:<24}{first:8.2f}{again:8.3f}{times}", flush=True)


def measure(name: str, count: int, *, only_describe: bool) -> tuple[float, float, float]:
    """Return medians of processor seconds: to describe, to describe again, to build."""
    import keras

    row = find_backbone(name)
    side = row.default_size
    rounds = []
    for _ in range(count):
        keras.backend.clear_session()
        gc.collect()
        with (
            tempfile.TemporaryDirectory() as cache,
            mock.patch.dict(os.environ, {CACHE_VARIABLE: cache}),
        ):
            first, again = (clock(lambda: describe_backbone(name)) for _ in range(2))
        built = 0.0
        if not only_describe:
            built = clock(lambda: build_backbone(row, height=side, width=side))
        rounds.append((first, again, built))
    first, again, whole = (statistics.median(each) for each in zip(*rounds, strict=True))
    return first, again, whole


def clock(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
