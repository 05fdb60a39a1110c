"""B9: peak memory of `cnnclf predict` on 100,000 files, compared with 1,000.

The files are links to the 300 sample images, the model is the one of the sample data, and the
command runs in its own process. `--resume` also measures resuming a job that was nearly done,
`--formats` other row formats.
Run from the root of the project: python -m benchmarks.b9_memory
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "sample_data"
COUNTS = (1_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs=2, default=COUNTS)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--formats", nargs="+", default=["csv"])
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        # A copy, because the first run stores the converted model next to it.
        run = shutil.copytree(SAMPLES / "tiny_run", folder / "run")
        photos = {count: link_photos(folder / str(count), count) for count in arguments.counts}
        common = ["predict", str(run), "--engine", arguments.engine]
        measure([*common, str(photos[arguments.counts[0]]), "--out", str(folder / "first.csv")])
        for suffix in arguments.formats:
            peaks = {}
            for count, files in photos.items():
                rows = folder / f"{count}.{suffix}"
                peaks[count] = measure([*common, str(files), "--out", str(rows)])
                print(f"{count:9,} files to {suffix:8} {peaks[count]:7.1f} MiB", flush=True)
            small, large = arguments.counts
            print(f"ratio {peaks[large] / peaks[small]:.3f}  (goal 1.1)", flush=True)
        if arguments.resume:
            measure_resume([*common, str(photos[large])], folder / f"{large}.csv")


def link_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    images = sorted((SAMPLES / "x_or_o").glob("*/*.*"))
    for number in range(count):
        (folder / f"{number:07d}.jpg").symlink_to(images[number % len(images)])
    return folder


def measure(words: list[str]) -> float:
    """Run the command; return its peak memory in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnclf", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(told.decode())
    return usage.ru_maxrss / 1024


def measure_resume(words: list[str], finished: Path) -> None:
    """Give a new job all but the last 100 rows of a finished one, and resume it."""
    rows = finished.with_name("resumed.csv")
    partial = finished.with_name("resumed.csv.partial")
    command = [*words, "--out", str(rows)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnclf", *command], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not partial.with_name(f"{partial.name}.json").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    lines = finished.read_bytes().splitlines(keepends=True)[:-100]
    partial.write_bytes(b"".join(lines))
    peak = measure([*command, "--resume"])
    print(f"resuming after {len(lines) - 1:,} rows: {peak:.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
