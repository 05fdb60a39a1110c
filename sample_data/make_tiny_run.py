"""Trains `tiny_run/`, the small finished run of tests and documentation.

Run from the root of the project, with cnnclf installed: python sample_data/make_tiny_run.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from cnnclf.cli.main import main as cnnclf
from cnnclf.files import write_json_atomic
from cnnclf.inference.classifier import Classifier

HERE = Path(__file__).parent
KEPT = ("plan.json", "run.json", "history.csv", "checkpoints/best")
IMAGES = tuple(f"{label}/{label}{number:03d}.jpg" for label in "ox" for number in (0, 1, 2))


def main() -> None:
    """Train, keep the files needed, and write the logits of a few images."""
    with tempfile.TemporaryDirectory() as work:
        run = Path(work) / "run"
        options = ["--preset", "tiny", "--filters", "8,16,24,32", "--seed", "0"]
        options += ["--deterministic", "--device", "cpu", "--threads", "2"]
        code = cnnclf(["train", str(HERE / "x_or_o"), "--out", str(run), *options])
        if code:
            raise SystemExit(code)
        target = HERE / "tiny_run"
        if target.exists():
            shutil.rmtree(target)
        for name in KEPT:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (run / name).is_dir() else shutil.copyfile
            copy(run / name, target / name)
    forget_machine(target)
    write_reference_logits(target)


def forget_machine(run: Path) -> None:
    """Replace everything that is specific to the machine that trained."""
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    plan["dataset"]["path"] = "sample_data/x_or_o"
    write_json_atomic(run / "plan.json", plan)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    command = "cnnclf train sample_data/x_or_o --preset tiny --filters 8,16,24,32 --deterministic"
    write_json_atomic(run / "run.json", record | {"command": command, "host": "", "pid": 0})


def write_reference_logits(run: Path) -> None:
    """Write the logits of a few sample images, to detect changes of decoding or the model."""
    classifier = Classifier.load(run)
    logits = classifier.logits(
        np.stack([classifier.decode(HERE / "x_or_o" / name) for name in IMAGES])
    )
    rows = {
        name: [round(float(value), 5) for value in row]
        for name, row in zip(IMAGES, logits, strict=True)
    }
    (run / "reference_logits.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
