"""B7: training the last stage from cached activations, compared with the whole network per step.

Both run `cnnclf finetune` with the last stage of the backbone unfrozen, with and without
--feature-cache. Without it, each step computes the frozen layers again, as plain Keras does. The
rate is that of the best epoch of the second phase after its first, including 16 val images.
Run from the root of the project: python -m benchmarks.b7_tail [--backbone resnet50]
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.images import draw_jpegs

EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--count", type=int, default=192, help="images")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-tail")
    arguments = parser.parse_args()
    counts = {"train": arguments.count, "val": 16, "test": 8}
    for seed, (split, count) in enumerate(counts.items()):
        draw_jpegs(arguments.folder / split, count=count, height=384, width=512, seed=seed)
    print(f"{arguments.backbone}, last stage unfrozen, {arguments.count} images, batch 16")
    rates = {}
    for name, option in (("whole network", "--no-feature-cache"), ("cached", "--feature-cache")):
        rates[name] = measure(arguments, option)
        print(f"  {name:14}{rates[name]:7.1f} images/s", flush=True)
    print(f"  cached / whole {rates['cached'] / rates['whole network']:.2f}  (goal 2)", flush=True)


def measure(arguments: argparse.Namespace, option: str) -> float:
    with tempfile.TemporaryDirectory() as work:
        run = Path(work) / "run"
        settings = {
            "head.epochs": 1,
            "tail.epochs": EPOCHS,
            "training.batch_size": 16,
            "training.patience": 0,
            "augment.preset": "none",
        }
        command = ["finetune", str(arguments.folder), "--out", str(run), "--quiet", option]
        command += ["--backbone", arguments.backbone, "--weights", "none", "--unfreeze", "1"]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        subprocess.run(
            [sys.executable, "-m", "cnnclf", *command],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"CNNCLF_CACHE_DIR": str(Path(work) / "cache")},
        )
        with (run / "history.csv").open(newline="") as file:
            tail = [row for row in csv.DictReader(file) if row["phase"] == "tail"]
        if len(tail) != EPOCHS:
            raise SystemExit(f"not {EPOCHS} epochs: {json.dumps(tail)}")
        return float(arguments.count / min(float(row["seconds"]) for row in tail[1:]))


if __name__ == "__main__":
    main()
