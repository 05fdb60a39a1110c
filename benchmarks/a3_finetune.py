"""A3: `cnnclf finetune` with its defaults against fastai's `fine_tune` and the Keras guide.

Same images, splits, backbone (EfficientNet-Lite0) and ImageNet weights, one after the other on the
same cores, each in a process that is timed from its start; test accuracy. The guide is
`transfer_guide` with ten frozen epochs, tested on its last one; fastai gets 4 and 15 epochs.
Results are added to RESULTS, one JSON line each, so it can be run in pieces; --sum prints a table.
Run from the root of the project, with a Python that has what `fastai_finetune` needs:
    python -m benchmarks.a3_finetune RESULTS FOLDER --peer PYTHON --train 20 --seed 0
    python -m benchmarks.a3_finetune RESULTS --sum
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

VAL, TEST = 10, 100  # images of a class
ORDER = ("cnnclf", "fastai 4", "fastai 15", "guide")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("source", type=Path, nargs="?", help="class folders of photos")
    parser.add_argument("--peer", type=Path, help="a Python with fastai")
    parser.add_argument("--train", type=int, default=20, help="training images of a class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--sum", action="store_true")
    arguments = parser.parse_args()
    if arguments.sum:
        report([json.loads(line) for line in arguments.results.read_text().splitlines()])
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, arguments.source.name)
        link_images(arguments.source.resolve(), folder, train=arguments.train, seed=arguments.seed)
        for name in arguments.only:
            found = measure(name, folder, arguments)
            row = {"set": folder.name, "train": arguments.train, "seed": arguments.seed}
            row |= {"name": name} | found
            print(row, flush=True)
            with arguments.results.open("a") as file:
                file.write(json.dumps(row) + "\n")


def link_images(source: Path, out: Path, *, train: int, seed: int) -> None:
    """Link images drawn by class into train, val and test."""
    for label in sorted(each for each in source.iterdir() if each.is_dir()):
        files = sorted(each for each in label.iterdir() if each.suffix)
        random.Random(f"{seed} {label.name}").shuffle(files)
        parts = {"train": train, "val": VAL, "test": TEST}
        for split, count in parts.items():
            (out / split / label.name).mkdir(parents=True)
            for file in files[:count]:
                (out / split / label.name / file.name).symlink_to(file)
            files = files[count:]


def measure(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    if name == "cnnclf":
        return measure_cnnclf(folder, arguments.seed)
    if name == "guide":
        command = [sys.executable, "-m", "benchmarks.transfer_guide"]
        command += [str(folder / "train"), str(folder / "test"), "--backbone", "efficientnet-lite0"]
        found = call([*command, "--weights", "imagenet"])
        return {"seconds": found["seconds"], "accuracy": found["val_accuracy"][-1]}
    epochs = name.partition(" ")[2]
    script = Path(__file__).with_name("fastai_finetune.py")
    return call([str(arguments.peer), str(script), str(folder), epochs, str(arguments.seed)])


def measure_cnnclf(folder: Path, seed: int) -> dict[str, Any]:
    """Import and fine-tune as a user would, with empty caches."""
    with tempfile.TemporaryDirectory() as work:
        run = Path(work, "run")
        start = time.perf_counter()
        command = [sys.executable, "-m", "cnnclf", "finetune", str(folder), "--out", str(run)]
        subprocess.run(
            [*command, "--seed", str(seed), "--quiet"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=work,
            env=os.environ | {"CNNCLF_CACHE_DIR": work, "PYTHONPATH": str(Path.cwd())},
        )
        seconds = time.perf_counter() - start
        content = json.loads((run / "run.json").read_text())
    return {"seconds": seconds, "accuracy": content["evaluation"]["metrics"]["accuracy"]}


def call(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(rows: list[dict[str, Any]]) -> None:
    cells: dict[tuple[str, int], dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        cell = cells.setdefault((row["set"], row["train"]), defaultdict(list))
        cell[row["name"]].append((row["accuracy"], row["seconds"]))
    for (name, count), cell in sorted(cells.items()):
        parts = []
        for peer in ORDER:
            if found := cell.get(peer):
                accuracy = statistics.fmean(each for each, _ in found)
                seconds = statistics.fmean(each for _, each in found)
                parts.append(f"{peer} {accuracy:.3f} in {seconds:.0f} s ({len(found)})")
        print(f"{name}, {count} of a class: {'; '.join(parts)}")


if __name__ == "__main__":
    main()
