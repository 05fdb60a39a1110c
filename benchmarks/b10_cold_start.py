"""B10: predicting one image in a new process with a cached engine, compared with Keras.

All variants run the real command, `cnnclf predict RUN IMAGE`, interleaved so that a busy machine
slows them equally; the ratio is that of the medians. User plus system time shows what an idle
machine would need. One more run of each checks whether TensorFlow was loaded.
Run from the root of the project: python -m benchmarks.b10_cold_start [--rounds N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.images import draw_jpegs

GOAL_S = 1.0
HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "matplotlib", "h5py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--engines", nargs="+", default=["openvino", "onnxruntime", "litert"])
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-predict"
    )
    arguments = parser.parse_args()
    bundle = arguments.folder / arguments.model
    if not (bundle / "classifier.json").exists():
        command = ["-m", "benchmarks.b8_predict", "--make", arguments.model, str(bundle)]
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
    draw_jpegs(arguments.folder / "1", count=1, height=384, width=512, classes=1)
    [image] = (arguments.folder / "1").rglob("*.jpg")
    ways = {
        name: ["predict", str(bundle), str(image), "--engine", name, "--device", "cpu"]
        for name in ("keras", *arguments.engines)
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):  # the first converts and warms the disk cache
        for name, way in ways.items():
            seconds, cpu_s = time_process(["-m", "cnnclf", *way])
            if number:
                wall[name].append(seconds)
                work[name].append(cpu_s)
    keras = statistics.median(wall["keras"])
    print(f"{'':12} {'wall s':>7} {'cpu s':>7} {'keras / it':>11}   loaded")
    for name, way in ways.items():
        median, cpu_s = statistics.median(wall[name]), statistics.median(work[name])
        heavy = ", ".join(list_heavy(way)) or "neither TensorFlow nor Keras"
        print(f"{name:12} {median:7.2f} {cpu_s:7.2f} {keras / median:11.2f}   {heavy}")
    best = min(statistics.median(wall[name]) for name in arguments.engines)
    print(f"fastest: {best:.2f} s, goal {GOAL_S:.1f} s: {'ok' if best < GOAL_S else 'MISSED'}")


def time_process(arguments: list[str]) -> tuple[float, float]:
    """Return the wall time of a process, and its user and system time."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    seconds, after = time.perf_counter() - start, os.times()
    children = after.children_user + after.children_system
    return seconds, children - before.children_user - before.children_system


def list_heavy(way: list[str]) -> list[str]:
    """Return which of the heavy packages a command imports."""
    code = (
        "import sys; from cnnclf.cli.main import main; main(sys.argv[1:]); "
        "print(*(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *way], capture_output=True, text=True, check=True
    )
    names = set(done.stderr.splitlines()[-1].split())
    return [name for name in HEAVY if name in names]


if __name__ == "__main__":
    main()
