"""B5: ten epochs of a head on a frozen backbone, compared with the Keras transfer learning guide.

1,000 synthetic JPEGs of 512x384 for training, 40 each for val and test. Every run is a separate
process, timed from its start: imports, building, conversion, decoding, the head.
  guide      benchmarks/transfer_guide.py (--xla: compiled as Keras does by default, slower here)
  phase      cnnclf finetune --unfreeze none, until the last epoch of the head
  command    the same until the network is saved and tested
Run from the root of the project: python -m benchmarks.b5_frozen_phase [--backbones resnet50 ...]
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.images import draw_jpegs

EPOCHS = 10
PARTS = {"train": 1000, "val": 40, "test": 40}
GOALS = {"resnet50": 15, "efficientnet-lite0": 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=list(GOALS))
    parser.add_argument("--precisions", nargs="+", default=["auto", "float32"])
    parser.add_argument("--rounds", type=int, default=3, help="runs of cnnclf")
    parser.add_argument("--guide-epochs", type=int, default=EPOCHS, help="fewer are extrapolated")
    parser.add_argument("--xla", action="store_true", help="the guide with Keras's default compile")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-frozen")
    parser.add_argument("--one", nargs=2, metavar=("BACKBONE", "PRECISION"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure_one(arguments.folder, *arguments.one)
        return
    for seed, (split, count) in enumerate(PARTS.items()):
        draw_jpegs(arguments.folder / split, count=count, height=384, width=512, seed=seed)
    for backbone in arguments.backbones:
        compare(arguments, backbone)


def compare(arguments: argparse.Namespace, backbone: str) -> None:
    guide = run(
        "benchmarks.transfer_guide",
        str(arguments.folder / "train"),
        str(arguments.folder / "val"),
        "--backbone",
        backbone,
        "--epochs",
        str(arguments.guide_epochs),
        *(["--xla"] if arguments.xla else []),
    )
    seconds = extrapolate(guide["epoch_ends"])
    measured = "" if arguments.guide_epochs == EPOCHS else f" ({arguments.guide_epochs} measured)"
    print(f"{backbone}, {PARTS['train']} images, {EPOCHS} epochs{measured}")
    print(f"  guide               {seconds:7.1f} s           peak {guide['peak_mib']:6.0f} MiB")
    for precision in arguments.precisions:
        runs = [
            run("benchmarks.b5_frozen_phase", "--one", backbone, precision, "--folder", folder)
            for folder in [str(arguments.folder)] * arguments.rounds
        ]
        for part in ("phase", "command"):
            ours = statistics.median(each[part] for each in runs)
            goal = f"  (goal {GOALS[backbone]})" if backbone in GOALS and part == "phase" else ""
            peak = max(each["peak_mib"] for each in runs)
            print(
                f"  {part:8}{runs[0]['engine']:>13} {ours:6.1f} s  {seconds / ours:5.1f}x   "
                f"peak {peak:6.0f} MiB{goal}",
                flush=True,
            )


def extrapolate(ends: list[float]) -> float:
    """Return the end of the last epoch, assuming the median time for epochs that were not run."""
    if len(ends) >= EPOCHS:
        return ends[EPOCHS - 1]
    later = [end - start for start, end in itertools.pairwise(ends)]
    return ends[-1] + (EPOCHS - len(ends)) * statistics.median(later)


def run(module: str, *arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"CNNCLF_CACHE_DIR": cache},
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_one(folder: Path, backbone: str, precision: str) -> None:
    start = time.perf_counter()
    from cnnclf.config import FinetuneConfig, ImportConfig, load_config
    from cnnclf.importers import open_dataset
    from cnnclf.planning.finetune_plan import plan_finetuning
    from cnnclf.progress import Silent
    from cnnclf.runs.run_opening import create_run
    from cnnclf.runtime import setup_runtime
    from cnnclf.training.run import conduct_run
    from cnnclf.training.work import Work, decode_ahead, open_work

    config, given = load_config(
        options={
            "backbone.name": backbone,
            "backbone.weights": "none",
            "tail.unfreeze": "none",
            "head.epochs": EPOCHS,
            "training.patience": 0,
            "features.precision": precision,
        },
        kind=FinetuneConfig,
    )
    dataset = open_dataset(folder, options=ImportConfig(), progress=Silent())
    plan = plan_finetuning(config, dataset, given=given)
    ends = []
    with tempfile.TemporaryDirectory() as work, decode_ahead(plan, dataset) as ahead:
        runtime = setup_runtime(device="cpu", seed=0, deterministic=False, threads=None)
        handle = create_run(Path(work) / "run", command="benchmark")
        opened = Work(
            plan,
            dataset,
            handle,
            runtime,
            Silent(),
            listeners=[lambda _row, _best: ends.append(time.perf_counter() - start)],
            ahead=ahead,
        )
        with open_work(opened):
            conduct_run(opened)
        engine = handle.read_record().get("feature_engine", precision)
    result = {
        "phase": ends[-1],
        "command": time.perf_counter() - start,
        "engine": engine,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if len(ends) != EPOCHS:
        raise SystemExit(f"the head was trained for {len(ends)} epochs instead of {EPOCHS}")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
