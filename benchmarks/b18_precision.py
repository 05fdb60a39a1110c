"""B18: whether `cnnclf train` is as accurate in bfloat16 as in float32, over several seeds.

Both precisions, or any two sets of options, train on the same images with the same seed and are
compared image by image on test. Run from the root of the project:
    python -m benchmarks.b18_precision FASHION-MNIST CIFAR10.zip FOLDER --train 100 --test 100
    ... --between "--optimizer adamw" "--optimizer muon" --epochs 8
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from cnnclf.data.manifest import load_dataset
from cnnclf.errors import ExitCode
from cnnclf.evaluation.paired_statistics import difference_interval, mcnemar_mid_p

PRECISIONS = ("--precision float32", "--precision bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs="+", help="anything that import can read")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=100, help="training images of a class")
    parser.add_argument("--test", type=int, default=100, help="test images of a class")
    parser.add_argument("--between", nargs=2, metavar="OPTIONS", default=PRECISIONS)
    parser.add_argument("--work", type=Path, help="keep the runs here, and continue with them")
    arguments, more = parser.parse_known_args()  # more options for cnnclf train
    work = arguments.work or Path(tempfile.mkdtemp(prefix="precision-"))
    print(" against ".join(arguments.between))
    print(f"{'set':16} seed  first   second  only first, second right  difference (95 %)", end="")
    print("      p    processor s")
    for source in arguments.sources:
        data = work / source.stem
        if not data.exists():
            limits = {"train": arguments.train, "val": arguments.test, "test": arguments.test}
            link_subset(source, data, limits=limits)
        gained, lost, total = 0, 0, 0
        for seed in arguments.seeds:
            results = [train(data, [*each.split(), *more], seed) for each in arguments.between]
            first, second = (right for right, _ in results)
            only_second = sum(second[path] and not first[path] for path in first)
            only_first = sum(first[path] and not second[path] for path in first)
            gained, lost, total = gained + only_second, lost + only_first, total + len(first)
            show(
                source.stem,
                str(seed),
                first,
                second,
                only_second,
                only_first,
                [took for _, took in results],
            )
        low, high = difference_interval(gained, lost, total=total)
        print(
            f"{source.stem:16} all  {(gained - lost) / total:+.4f} [{low:+.4f}, {high:+.4f}], "
            f"p {mcnemar_mid_p(gained, lost):.3f}: {gained} and {lost} of {total}",
            flush=True,
        )


def link_subset(source: Path, out: Path, *, limits: dict[str, int]) -> None:
    """Link some images of each class and split into a folder that can be imported."""
    dataset = Path(f"{out}-dataset")
    command = ["import", str(source), "--out", str(dataset), "--quiet"]
    execute(command)
    loaded = load_dataset(dataset)
    manifest, rng = loaded.manifest, random.Random(0)
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for split in limits:
        for row in manifest.select(split).tolist():
            groups[split, int(manifest.class_indices[row])].append(row)
    for (split, index), rows in groups.items():
        folder = out / split / loaded.labels[index]
        folder.mkdir(parents=True)
        for row in rng.sample(rows, min(limits[split], len(rows))):
            file = loaded.file(row)
            (folder / f"{row}{file.suffix}").symlink_to(file.resolve())


def train(data: Path, options: list[str], seed: int) -> tuple[dict[str, bool], str]:
    """Train once; return which test images are right, and the processor seconds."""
    name = "".join(options).replace("--", "-").replace("/", "")
    run = data.with_name(f"{data.name}{name}-{seed}")
    if not (run / "evaluation" / "test").exists():
        command = ["train", str(data), "--out", str(run), "--seed", str(seed), "--overwrite"]
        command += ["--quiet", *options]
        start = children_s()
        execute(command)
        (run / "processor_s.json").write_text(json.dumps(children_s() - start))
    with (run / "evaluation" / "test" / "predictions.csv").open(newline="") as file:
        right = {row["path"]: row["correct"] == "true" for row in csv.DictReader(file)}
    return right, f"{json.loads((run / 'processor_s.json').read_text()):.0f}"


def execute(command: list[str]) -> None:
    """Run cnnclf in a process of its own; images that cannot be read are no failure."""
    done = subprocess.run(
        [sys.executable, "-m", "cnnclf", *command], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode not in {ExitCode.OK, ExitCode.SOME_FAILED}:
        raise SystemExit(done.returncode)


def children_s() -> float:
    """Return the processor seconds of all processes that ended."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def show(
    name: str,
    seed: str,
    first: dict[str, bool],
    second: dict[str, bool],
    more: int,
    less: int,
    seconds: list[str],
) -> None:
    total = len(first)
    low, high = difference_interval(more, less, total=total)
    print(
        f"{name:16} {seed:4} {sum(first.values()) / total:7.4f} {sum(second.values()) / total:8.4f}"
        f"  {less:4} {more:4}  {(more - less) / total:+.4f} [{low:+.4f}, {high:+.4f}]"
        f"  {mcnemar_mid_p(more, less):.3f}  {' and '.join(seconds)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
