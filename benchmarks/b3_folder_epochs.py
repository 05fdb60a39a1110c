"""B3: epochs after the first on a folder of JPEGs, compared with image_dataset_from_directory.

2,000 drawn 512x384 JPEGs, seen at 128x128 by the same small CNN. Three feeds take turns:
  baseline image_dataset_from_directory(...).prefetch, as in the Keras guides
  limit    model.fit on a NumPy array that is already in memory: the model's own speed
  cnnclf   the decoded store and Batches, as `cnnclf train` uses them, without augmentation
Run from the root of the project: python -m benchmarks.b3_folder_epochs
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.images import draw_jpegs
from cnnclf.config import ImportConfig, TrainConfig, load_config
from cnnclf.data.manifest import load_dataset
from cnnclf.data.store import open_pixels
from cnnclf.images.decode import InputSpec
from cnnclf.importers import import_source
from cnnclf.models.cnn import build_cnn
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.runtime import setup_runtime
from cnnclf.training.feeding.batches import Batches

SIZE, BATCH = (128, 128), 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measured epochs of each feed")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--preset", default="tiny", help="the network")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-jpegs")
    arguments = parser.parse_args()
    photos = arguments.folder / f"{arguments.count}"
    draw_jpegs(photos, count=arguments.count, height=384, width=512)
    setup_runtime(device="cpu", precision="float32", seed=0, deterministic=False, threads=None)
    run_preset(arguments.preset, photos, arguments.count, arguments.rounds)


def run_preset(preset: str, photos: Path, count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        feeds = build_feeds(preset, photos, count, Path(work))
        seconds: dict[str, list[float]] = {name: [] for name in feeds}
        for _ in range(rounds + 1):  # the first epoch fills caches and traces; it is dropped
            for name, run_epoch in feeds.items():
                start = time.perf_counter()
                run_epoch()
                seconds[name].append(time.perf_counter() - start)
    rates = {name: count / statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"preset {preset}: {count} JPEGs of 512x384 at 128x128, median of {rounds} epochs")
    for name, rate in rates.items():
        print(f"  {name:9}{rate:9.0f} images/s")
    print(f"  cnnclf / baseline {rates['cnnclf'] / rates['baseline']:5.2f}  (goal 5, or the limit)")
    print(f"  cnnclf / limit  {rates['cnnclf'] / rates['limit']:6.2f}  (goal 0.95)", flush=True)


def build_feeds(preset: str, photos: Path, count: int, work: Path) -> dict[str, Callable[[], Any]]:
    import keras
    import numpy as np

    import_source(
        photos, work / "dataset", options=ImportConfig(split=(1, 0, 0)), progress=Silent()
    )
    dataset = load_dataset(work / "dataset")
    config, _ = load_config(
        options={"model.preset": preset, "data.image_size": SIZE, "data.fit": "squash"},
        kind=TrainConfig,
    )
    plan = plan_training(config, dataset)
    classes = len(dataset.labels)
    spec = InputSpec(*SIZE, channels=3, fit="squash")
    pixels = open_pixels(dataset, spec, cache="disk", progress=Silent())
    rows = np.arange(count)
    indices = dataset.manifest.class_indices

    def model() -> Any:
        net = build_cnn(plan.config.model, (*SIZE, 3), num_classes=classes)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        net.compile("adamw", loss, metrics=["accuracy"], jit_compile=False)
        return net

    baseline, limit, ours = model(), model(), model()
    folder = keras.utils.image_dataset_from_directory(
        photos, label_mode="categorical", image_size=SIZE, batch_size=BATCH, seed=0, verbose=False
    ).prefetch(2)
    x = pixels.gather(rows).astype("float32")
    y = np.eye(classes, dtype="float32")[indices]
    batches = Batches(
        pixels,
        rows,
        class_indices=indices,
        num_classes=classes,
        batch_size=BATCH,
        seed=0,
        shuffle=True,
    )
    epoch = iter(range(1_000_000))
    return {
        "baseline": lambda: baseline.fit(folder, shuffle=False, verbose=0),
        "limit": lambda: limit.fit(x, y, batch_size=BATCH, verbose=0),
        "cnnclf": lambda: ours.fit(
            batches.as_keras(next(epoch), None),
            steps_per_epoch=len(batches),
            shuffle=False,
            verbose=0,
        ),
    }


if __name__ == "__main__":
    main()
