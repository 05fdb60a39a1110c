"""B4: `cnnclf import` of a JPEG folder, compared with Pillow decoding alone; and a million files.

  limit    Image.open(file).load() of every file on as many threads: no checks, no hashes
  cnnclf   import_source: listing, full decode check, hashes, duplicates, split, manifest
Run from the root of the project: python -m benchmarks.b4_import [--million]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from benchmarks.images import draw_jpegs, write_tiny_pngs
from cnnclf.config import ImportConfig
from cnnclf.importers import import_source
from cnnclf.progress import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-jpegs")
    parser.add_argument("--million", action="store_true", help="also 1,000,000 tiny files")
    parser.add_argument("--tiny", type=int, default=1_000_000, help="how many tiny files")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure_one(arguments.one)
        return
    photos = arguments.folder / f"{arguments.count}"
    draw_jpegs(photos, count=arguments.count, height=384, width=512)
    compare(photos, arguments.count, arguments.rounds)
    if arguments.million:
        tiny = arguments.folder / f"tiny-{arguments.tiny}"
        if not tiny.exists():
            write_tiny_pngs(tiny, count=arguments.tiny)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.b4_import", "--one", str(tiny)], check=True
        )


def compare(photos: Path, count: int, rounds: int) -> None:
    threads = os.cpu_count() or 1
    files = sorted(photos.rglob("*.jpg"))
    limit, ours = [], []
    for _ in range(rounds + 1):  # the first round warms the page cache and is dropped
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, files))
        limit.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as work:
            start = time.perf_counter()
            import_source(
                photos,
                Path(work) / "dataset",
                options=ImportConfig(threads=threads),
                progress=Silent(),
            )
            ours.append(time.perf_counter() - start)
    rates = [count / statistics.median(times[1:]) for times in (limit, ours)]
    print(f"{count} JPEGs of 512x384, {threads} threads, median of {rounds}")
    print(f"  limit   {rates[0]:8.0f} files/s")
    print(f"  cnnclf  {rates[1]:8.0f} files/s")
    print(f"  cnnclf / limit  {rates[1] / rates[0]:.2f}  (goal 0.75)")


def decode(file: Path) -> None:
    with Image.open(file) as image:
        image.load()


def measure_one(source: Path) -> None:
    """Import in a separate process, to measure its peak memory."""
    with tempfile.TemporaryDirectory(dir=source.parent) as work:
        start = time.perf_counter()
        report = import_source(
            source, Path(work) / "dataset", options=ImportConfig(), progress=Silent()
        )
        seconds = time.perf_counter() - start
        size = (Path(work) / "dataset" / "manifest.csv").stat().st_size
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"tiny files: {report.images:,} in {seconds:.0f} s, manifest {size / 1e6:.0f} MB")
    print(
        f"  {report.images / (usage.ru_utime + usage.ru_stime):,.0f} files per processor s, peak "
        f"RSS {usage.ru_maxrss / 1024:.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
