"""How much a random split of spoken words flatters, against one that keeps speakers apart.

Usage: python -m benchmarks.spoken_digits FOLDER [--epochs N]

FOLDER holds a folder per word with files named SPEAKER_NUMBER.wav, as the Free Spoken Digit Dataset
(CC BY-SA 4.0) can be arranged. Each split is imported, trained on with the defaults of cnnclf, and
measured on its test split.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Print a line per split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    epochs = ["--epochs", str(options.epochs)] if options.epochs else []
    with tempfile.TemporaryDirectory() as name:
        for split, grouping in (
            ("random", []),
            ("speakers apart", ["--group-regex", "^([a-z0-9]+)_"]),
        ):
            place = Path(name, split.replace(" ", "_"))
            _run("import", str(options.folder), "--out", f"{place}/data", *grouping)
            _run("train", f"{place}/data", "--out", f"{place}/run", *epochs)
            report = json.loads(_run("evaluate", f"{place}/run", "--json"))
            interval = report["accuracy_interval"]
            print(
                f"{split:15} test accuracy {report['metrics']['accuracy']:.3f} "
                f"[{interval['low']:.3f}, {interval['high']:.3f}], {report['n']} sounds"
            )


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "cnnclf", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
