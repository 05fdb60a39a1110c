"""A1: test accuracy of `cnnclf train` with default settings, over several seeds.

Runs the command in its own process and reads the run directory.
Run from the root of the project:
    python benchmarks/a1_accuracy.py /usr/share/datasets/fashion-mnist --seeds 0 1 2
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="dataset or source")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, help="keep the runs here")
    parser.add_argument("options", nargs="*", help="more options for cnnclf train, after --")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="accuracy-"))
    accuracies = []
    print(
        f"{'seed':>4} {'accuracy':>9} {'epochs':>7} {'best':>5} {'parameters':>11} {'seconds':>8}"
    )
    for seed in arguments.seeds:
        run = work / f"seed-{seed}"
        start = time.perf_counter()
        command = ["train", str(arguments.source), "--out", str(run), "--seed", str(seed)]
        subprocess.run(
            [sys.executable, "-m", "cnnclf", *command, "--quiet", *arguments.options],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
        record = json.loads((run / "run.json").read_text())
        metrics = record["evaluation"]["metrics"]
        accuracies.append(metrics["accuracy"])
        print(
            f"{seed:4} {metrics['accuracy']:9.4f} {record['epochs']:7} {record['best_epoch']:5} "
            f"{record['parameters']:11,} {seconds:8.0f}",
            flush=True,
        )
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"mean {statistics.mean(accuracies):.4f}, sd {spread:.4f}, n {len(accuracies)}")


if __name__ == "__main__":
    main()
