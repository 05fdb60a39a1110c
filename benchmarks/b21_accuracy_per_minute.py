"""B21: test accuracy that a number of minutes buys, from scratch, of cnnclf and of its peers.

  cnnclf     cnnclf train DATASET --minutes N, with the preset that it chooses
  default    the same with --preset default
  keras      the network of Keras' first example, constant rate (benchmarks/keras_small_net.py)
  torch      the network and the recipe of the CIFAR-10 speed runs (benchmarks/torch_small_net.py)

Each is a process timed from its start to its end, one after the other; cnnclf decodes, plans,
measures its precision, calibrates and draws its figures in this time, the peers are given arrays.
Results are added to a file, and what it has is not run again. Run from the root of the project:
    python -m benchmarks.b21_accuracy_per_minute RESULTS DATASET --minutes 3 --seeds 0 1 2 \
        [--torch PYTHON] [--flip] [--programs cnnclf torch]
    python -m benchmarks.b21_accuracy_per_minute RESULTS --plot minutes.png
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.data.manifest import load_dataset
from cnnclf.data.store import keep_readable, open_pixels
from cnnclf.images.input_spec import InputSpec
from cnnclf.progress import Silent

PROGRAMS = "cnnclf", "default", "keras", "torch"
COLORS = {"cnnclf": "#1f6fb4", "default": "#7fb0d8", "keras": "#d1495b", "torch": "#e8a33d"}
FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="lines of JSON")
    parser.add_argument("dataset", type=Path, nargs="?", help="an imported dataset")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=["cnnclf", "default"])
    parser.add_argument("--flip", action="store_true", help="images may be mirrored")
    parser.add_argument("--torch", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--plot", type=Path, help="draw all results")
    arguments, more = parser.parse_known_args()  # more options for cnnclf train
    if arguments.dataset is not None:
        measure_all(arguments, more)
    rows = read_results(arguments.results)
    report(rows)
    if arguments.plot:
        plot(rows, arguments.plot)


def measure_all(arguments: argparse.Namespace, more: list[str]) -> None:
    done = {name_row(row) for row in read_results(arguments.results)}
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "images.npz"
        write_arrays(arguments.dataset, arrays)
        for seed in arguments.seeds:
            for program in arguments.programs:
                row: dict[str, Any] = {
                    "dataset": arguments.dataset.name,
                    "minutes": arguments.minutes,
                    "options": " ".join(more),
                    "program": program,
                    "seed": seed,
                }
                if name_row(row) in done:
                    continue
                if program in {"keras", "torch"}:
                    row |= run_peer(program, arrays, seed, arguments=arguments)
                else:
                    row |= run_cnnclf(program, Path(folder), seed, arguments=arguments, more=more)
                with arguments.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def name_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(row[key] for key in ("dataset", "minutes", "options", "program", "seed"))


def read_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_arrays(directory: Path, path: Path) -> None:
    """Write the splits as arrays, so that peers spend no time on files."""
    dataset = load_dataset(directory)
    manifest = dataset.manifest
    channels = 1 if set(manifest.modes) <= {"L", "1"} else 3
    spec = InputSpec(int(manifest.heights[0]), int(manifest.widths[0]), channels=channels)
    pixels = open_pixels(dataset, spec, progress=Silent())
    content: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        rows = keep_readable(manifest.select(split), pixels.failed)
        content[f"{split}_images"] = pixels.gather(rows)
        content[f"{split}_labels"] = manifest.class_indices[rows]
    np.savez(path, **content)


def run_peer(
    program: str, arrays: Path, seed: int, *, arguments: argparse.Namespace
) -> dict[str, Any]:
    python = arguments.torch if program == "torch" else sys.executable
    script = FOLDER / f"{program}_small_net.py"
    command = [python, str(script), str(arrays), str(arguments.minutes), str(seed)]
    command += ["--flip"] if arguments.flip and program == "torch" else []
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"seconds": time.perf_counter() - begin}


def run_cnnclf(
    program: str, folder: Path, seed: int, *, arguments: argparse.Namespace, more: list[str]
) -> dict[str, Any]:
    run = folder / f"{program}-{seed}"
    command = [sys.executable, "-m", "cnnclf", "train", str(arguments.dataset), "--quiet"]
    command += ["--minutes", str(arguments.minutes), "--seed", str(seed), "--out", str(run), *more]
    command += ["--preset", "default"] if program == "default" else []
    command += ["--flip", "0.5"] if arguments.flip else []
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - begin
    record = json.loads((run / "run.json").read_text())
    curve, now = [], float(record["start_s"])
    with (run / "history.csv").open(newline="") as file:
        for epoch in csv.DictReader(file):
            now += float(epoch["seconds"])
            curve.append((now, float(epoch["val_accuracy"])))
    return {
        "accuracy": record["evaluation"]["metrics"]["accuracy"],
        "curve": curve,
        "seconds": seconds,
        "parameters": record["parameters"],
    }


def report(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print mean and standard deviation of the seeds."""
    groups: dict[tuple[object, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[name_row(row)[:-1]].append(row)
    print("| set | minutes | program | parameters | epochs | seconds | seeds | test accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for (dataset, minutes, options, program), found in sorted(groups.items(), key=str):
        accuracies = [row["accuracy"] for row in found]
        spread = f" (sd {statistics.stdev(accuracies):.4f})" if len(found) > 1 else ""
        epochs = statistics.mean(len(row["curve"]) for row in found)
        seconds = statistics.mean(row["seconds"] for row in found)
        name = " ".join(map(str, filter(None, (program, options))))
        print(
            f"| {dataset} | {minutes:g} | {name} | {found[0]['parameters']:,} | {epochs:.0f} | "
            f"{seconds:.0f} | {len(found)} | {statistics.mean(accuracies):.4f}{spread} |"
        )


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw val accuracy over minutes for each run, and test accuracy where it ended."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    datasets = sorted({row["dataset"] for row in rows})
    figure, panels = plt.subplots(1, len(datasets), figsize=(5 * len(datasets), 3.6), squeeze=False)
    for axes, dataset in zip(panels[0], datasets, strict=True):
        here = [row for row in rows if row["dataset"] == dataset]
        for row in here:
            color = COLORS[row["program"]]
            minutes = [seconds / 60 for seconds, _ in row["curve"]]
            axes.plot(minutes, [accuracy for _, accuracy in row["curve"]], color=color, lw=0.8)
            axes.plot(row["seconds"] / 60, row["accuracy"], "o", color=color, ms=4)
        best = max(row["accuracy"] for row in here)
        axes.set(title=dataset, xlabel="minutes from the command", ylim=(best - 0.12, best + 0.01))
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy: lines val, dots test")
    used = [program for program in PROGRAMS if any(row["program"] == program for row in rows)]
    handles = [plt.Line2D([], [], color=COLORS[program], label=program) for program in used]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(used), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
