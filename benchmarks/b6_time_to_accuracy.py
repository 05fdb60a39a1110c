"""B6: time to the accuracy that the Keras transfer learning guide reaches after its frozen epochs.

Both use the same images, splits, backbone and ImageNet weights, each in a separate process that is
timed from its start. The guide's time covers all its frozen epochs; its accuracy is the one on val
after the last of them. cnnclf runs with its defaults and stops after the first epoch whose accuracy
on val is not lower.
Run from the root of the project: python -m benchmarks.b6_time_to_accuracy PHOTOS
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.importers import import_source
from cnnclf.progress import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="class folders of real images")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--epochs", type=int, default=10, help="frozen epochs of the guide")
    parser.add_argument("--rounds", type=int, default=3, help="runs of cnnclf")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        measure_one(arguments.source, arguments.backbone, arguments.one)
        return
    with tempfile.TemporaryDirectory() as work:
        compare(arguments, Path(work))


def compare(arguments: argparse.Namespace, work: Path) -> None:
    import_source(arguments.source, work / "data", options=ImportConfig(), progress=Silent())
    dataset = load_dataset(work / "data")
    link_splits(dataset, work / "folders")
    guide = run(
        [
            "benchmarks.transfer_guide",
            str(work / "folders/train"),
            str(work / "folders/val"),
            "--backbone",
            arguments.backbone,
            "--weights",
            "imagenet",
            "--epochs",
            str(arguments.epochs),
        ],
        work / "cache",
    )
    wanted, seconds = guide["val_accuracy"][-1], guide["epoch_ends"][-1]
    counts = {split: len(dataset.manifest.select(split)) for split in ("train", "val")}
    print(f"{arguments.backbone}, {counts['train']} images, {counts['val']} of val")
    print(f"  guide   {seconds:7.1f} s  val accuracy {wanted:.4f} after {arguments.epochs} epochs")
    runs = []
    for _ in range(arguments.rounds):
        shutil.rmtree(work / "cache", ignore_errors=True)
        shutil.rmtree(work / "data/cache", ignore_errors=True)
        command = ["benchmarks.b6_time_to_accuracy", str(work / "data")]
        command += ["--backbone", arguments.backbone, "--one", repr(wanted)]
        runs.append(run(command, work / "cache"))
    ours = statistics.median(each["seconds"] for each in runs)
    reached = ", ".join(f"{each['val_accuracy']:.4f} in epoch {each['epoch']}" for each in runs)
    print(f"  cnnclf  {ours:7.1f} s  val accuracy {reached}")
    print(f"  guide / cnnclf  {seconds / ours:.1f}  (goal 8)", flush=True)


def link_splits(dataset: Dataset, folder: Path) -> None:
    """Link the same splits as class folders for the guide."""
    manifest = dataset.manifest
    for split in ("train", "val"):
        for row in manifest.select(split):
            label = dataset.labels[manifest.class_indices[row]]
            target = folder / split / label / f"{row}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(dataset.file(int(row)).absolute())


def run(command: list[str], cache: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"CNNCLF_CACHE_DIR": str(cache)},
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_one(source: Path, backbone: str, wanted: float) -> None:
    start = time.perf_counter()
    from cnnclf.config import FinetuneConfig, load_config
    from cnnclf.planning.finetune_plan import plan_finetuning
    from cnnclf.runs.run_opening import create_run
    from cnnclf.runtime import setup_runtime
    from cnnclf.training.epochs import EpochRow, StopRequest
    from cnnclf.training.run import conduct_run
    from cnnclf.training.work import Work, open_work

    config, given = load_config(options={"backbone.name": backbone}, kind=FinetuneConfig)
    dataset = load_dataset(source)
    plan = plan_finetuning(config, dataset, given=given)
    runtime = setup_runtime(device="cpu", seed=0, deterministic=False, threads=None)

    def stop(row: EpochRow, _best: bool) -> StopRequest | None:
        if row.val_accuracy is None or row.val_accuracy < wanted:
            return None
        result = {"seconds": time.perf_counter() - start, "epoch": row.epoch}
        print(json.dumps(result | {"val_accuracy": row.val_accuracy}), flush=True)
        return StopRequest.PRUNE

    with tempfile.TemporaryDirectory() as folder:
        handle = create_run(Path(folder) / "run", command="benchmark")
        work = Work(plan, dataset, handle, runtime, Silent(), listeners=[stop])
        with open_work(work):
            result = conduct_run(work)
    if result.state.stopped is None:
        raise SystemExit(f"no epoch reached val accuracy {wanted}")


if __name__ == "__main__":
    main()
