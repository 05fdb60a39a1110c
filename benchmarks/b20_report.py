"""B20: how long `cnnclf report` takes for 1,000 classes and 100,000 test images, and its size.

With 10 classes and 1,000 images, the goals are 20 seconds and 5 MB.

A run made of rows: a copy of the tiny run with an evaluation of random predictions of 1,000
classes, on a dataset of 2,000 small images, each of which stands for 50; the network is the
default one with random weights, for which evidence maps are drawn as for any run.
  processor  seconds (goal: under 120)
  memory     the highest of the process, MB (goal: under 1,000)
  page       MB (goal: under 20)
Run from the root of the project: python -m benchmarks.b20_report [CLASSES IMAGES]
"""

import csv
import json
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cnnclf.cli.main import main as run_command
from cnnclf.config import ModelConfig
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundles import save_bundle
from cnnclf.models.cnn import build_cnn

EACH = 2  # images of a class that are on disk


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    classes, images = given or (1000, 100_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = draw_images(folder / "images", classes)
        words = ["import", folder / "images", "--out", folder / "data", "--split", "0.5,0,0.5"]
        run_command([*map(str, words), "--quiet"])
        make_run(folder / "run", folder / "data", paths=paths, images=images)
        before = resource.getrusage(resource.RUSAGE_SELF)
        page = folder / "report.html"
        if run_command(["report", str(folder / "run"), "--out", str(page)]):
            raise SystemExit("the report failed")
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = page.stat().st_size
    memory_mb, page_mb = after.ru_maxrss / 1e3, size / 1e6
    print(f"processor {seconds:.1f} s, memory {memory_mb:.0f} MB, page {page_mb:.1f} MB")


def draw_images(folder: Path, classes: int) -> list[list[str]]:
    """Draw noise; returns the paths of each class."""
    rng, paths = np.random.default_rng(0), []
    for number in range(classes):
        label = f"class {number:04d}"
        (folder / label).mkdir(parents=True)
        for each in range(EACH):
            pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{each}.jpg")
        paths.append([f"{label}/{each}.jpg" for each in range(EACH)])
    return paths


def make_run(run: Path, dataset: Path, *, paths: list[list[str]], images: int) -> None:
    """Copy the tiny run, and write an evaluation in which 70 % are right."""
    shutil.copytree("sample_data/tiny_run", run, ignore=shutil.ignore_patterns("checkpoints"))
    plan = json.loads((run / "plan.json").read_text())
    labels = [f"class {number:04d}" for number in range(len(paths))]
    plan["dataset"]["path"], plan["labels"] = str(dataset), labels
    (run / "plan.json").write_text(json.dumps(plan))
    settings = ModelConfig(blocks=4, filters=(24, 48, 72, 88), convs_per_block=(1, 2, 2, 2))
    model = build_cnn(settings, (64, 64, 3), num_classes=len(labels))
    save_bundle(
        run / "checkpoints/best", model, labels=labels, input_spec=InputSpec(64, 64), dataset={}
    )
    rng, place = np.random.default_rng(0), run / "evaluation/test"
    place.mkdir(parents=True)
    truth = np.arange(images) % len(labels)
    is_right = rng.random(images) < 0.7
    predicted = np.where(is_right, truth, rng.integers(0, len(labels), images))
    probability = np.round(rng.random(images), 6)
    with (place / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label", "predicted", "probability", "correct"])
        for at, (true, guess, odds) in enumerate(zip(truth, predicted, probability, strict=True)):
            rows.writerow(
                [paths[true][at % EACH], labels[true], labels[guess], odds, true == guess]
            )
    correct = int((truth == predicted).sum())
    metrics = {
        "schema_version": 1,
        "split": "test",
        "n": images,
        "correct": correct,
        "metrics": {"accuracy": correct / images},
        "accuracy_interval": {"low": correct / images, "high": correct / images},
        "labels": labels,
        "dataset": {"trained_on": True},
    }
    (place / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
