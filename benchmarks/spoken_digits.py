"""How much a random split of spoken words flatters, and whether pitch should be kept to the end.

Usage: python -m benchmarks.spoken_digits FOLDER [--epochs N] [--preset NAME] [--seeds 0 1 ...]
    [--tops global_average flatten]

FOLDER holds a folder per word with files named SPEAKER_NUMBER.wav, as the Free Spoken Digit Dataset
(CC BY-SA 4.0) can be arranged. Each split is imported, trained on with the defaults of cnnclf, and
measured on its test split: with speakers apart, another seed tests another speaker. The average
over the feature maps forgets at which pitch a feature was found, flattening them does not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SPLITS = {"apart": ["--group-regex", "^([a-z0-9]+)_"], "random": []}


def main() -> None:
    """Print a line per split, seed and top of the network, as each is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tops", nargs="+", default=["global_average"])
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    options = parser.parse_args()
    given = ["--preset", options.preset]
    given += ["--epochs", str(options.epochs)] if options.epochs else []
    with tempfile.TemporaryDirectory() as name:
        for split in options.splits:
            for seed in options.seeds:
                data = f"{name}/{split}-{seed}"
                chosen = [*SPLITS[split], "--seed", str(seed)]
                _run("import", str(options.folder), "--out", data, *chosen)
                for top in options.tops:
                    run = f"{data}-{top}"
                    _run("train", data, "--out", run, "--set", f"model.top={top}", *given)
                    _report(f"speakers {split} {seed} {top}", run)


def _report(title: str, run: str) -> None:
    report = json.loads(_run("evaluate", run, "--json"))
    interval = report["accuracy_interval"]
    print(
        f"{title:30} test accuracy {report['metrics']['accuracy']:.3f} "
        f"[{interval['low']:.3f}, {interval['high']:.3f}], {report['n']} sounds",
        flush=True,
    )


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "cnnclf", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
