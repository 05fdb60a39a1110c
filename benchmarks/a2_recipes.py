"""A2: test accuracy of fine-tuning recipes on several data sets, over seeds.

Each recipe is a set of `--set` assignments of `cnnclf finetune`, run as a user would, each in its
own process. Rows are recipes, columns are data sets; the last column is the mean over data sets.
Run from the root of the project, for example:
    python -m benchmarks.a2_recipes photos/ drawn/ --seeds 0 1 \
        --recipe default --recipe "lr 1e-3: tail.learning_rate=1e-3"
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs="+", help="datasets or sources")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--recipe", action="append", help='"name: key=value key=value"')
    parser.add_argument("--work", type=Path, help="keep runs and cached features here")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="recipes-"))
    recipes = dict(parse(text) for text in arguments.recipe or ["default"])
    names = [source.name for source in arguments.sources]
    print(f"{'recipe':28}" + "".join(f"{name[:18]:>20}" for name in names) + f"{'mean':>8}{'s':>7}")
    for recipe, assignments in recipes.items():
        cells, means, seconds = [], [], 0.0
        for source in arguments.sources:
            values = []
            for seed in arguments.seeds:
                start = time.perf_counter()
                values.append(measure(source, seed, recipe, assignments, work))
                seconds += time.perf_counter() - start
            means.append(statistics.mean(values))
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{means[-1]:.4f} +- {spread:.4f}")
        mean = statistics.mean(means)
        print(
            f"{recipe[:27]:28}" + "".join(f"{cell:>20}" for cell in cells) + f"{mean:8.4f}"
            f"{seconds:7.0f}",
            flush=True,
        )


def parse(text: str) -> tuple[str, list[str]]:
    name, _, assignments = text.partition(":")
    return name.strip(), assignments.split()


def measure(source: Path, seed: int, recipe: str, assignments: list[str], work: Path) -> float:
    """Fine-tune once, or read the result of an earlier call with the same work folder."""
    run = work / "runs" / f"{source.name}-{recipe.replace(' ', '-').replace('/', '-')}-{seed}"
    if not (run / "run.json").exists() or "evaluation" not in read(run):
        options = [part for each in assignments for part in ("--set", each)]
        subprocess.run(
            [
                sys.executable,
                "-m",
                "cnnclf",
                "finetune",
                str(source),
                "--out",
                str(run),
                "--seed",
                str(seed),
                "--quiet",
                *options,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"CNNCLF_CACHE_DIR": str(work / "cache")},
        )
    return float(read(run)["evaluation"]["metrics"]["accuracy"])


def read(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    content: dict[str, dict[str, dict[str, float]]] = json.loads((run / "run.json").read_text())
    return content


if __name__ == "__main__":
    main()
