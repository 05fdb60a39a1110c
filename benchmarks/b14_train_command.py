"""B14: how busy `cnnclf train` keeps the processors, including validation and epoch ends.

Runs the real command on Fashion-MNIST in its own process and samples the processor time of that
process and its children from the end of the first epoch to the end of the last.
  busy     processor seconds per wall second and core, over those epochs (goal: 0.9)
  slowest  the longest epoch divided by the median epoch
Run from the root of the project: python -m benchmarks.b14_train_command
"""

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("more", nargs="*", help="more options of cnnclf train, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        run = Path(work) / "run"
        command = [sys.executable, "-m", "cnnclf", "train", str(arguments.source)]
        command += ["--out", str(run), "--epochs", str(arguments.epochs), "--patience", "0"]
        moments = watch(command + arguments.more, run / "history.csv")
    show(moments, arguments.cores)


def watch(command: list[str], history: Path) -> list[tuple[float, float]]:
    """Run the command; return wall and processor seconds at the end of each epoch."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    moments: list[tuple[float, float]] = []
    while process.poll() is None:
        time.sleep(0.05)
        if history.exists() and count_epochs(history) > len(moments):
            moments.append((time.perf_counter(), processor_seconds(process.pid)))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return moments


def count_epochs(history: Path) -> int:
    with history.open(newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


def processor_seconds(pid: int) -> float:
    """Read user and system time of a process from /proc; 0 when it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def show(moments: list[tuple[float, float]], cores: int) -> None:
    clock, busy = moments[-1][0] - moments[0][0], moments[-1][1] - moments[0][1]
    epochs = [later[0] - earlier[0] for earlier, later in itertools.pairwise(moments)]
    print(f"epochs {', '.join(f'{each:.1f}' for each in epochs)} s")
    print(f"busy    {busy / clock / cores:.2f} of {cores} cores (goal: 0.9)")
    print(f"slowest {max(epochs) / statistics.median(epochs):.2f} of the median epoch")


if __name__ == "__main__":
    main()
