"""B2: training speed on Fashion-MNIST, compared with plain Keras `fit` on a NumPy array.

The same network (preset textbook), optimizer and loss, batch 128, float32, no augmentation:
  bare     model.fit(x, y) with the uint8 images in memory
  cnnclf   fit_phase with the store and Batches: what `cnnclf train` runs, callbacks included
They alternate epoch by epoch in one process; the first epoch of each is dropped. Images per
processor second depend less on other programs than images per second.
Run from the root of the project: python benchmarks/b2_scratch_training.py
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnnclf.config import ImportConfig, TrainConfig, load_config
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.data.store import open_pixels
from cnnclf.importers import import_source
from cnnclf.models.cnn import build_cnn
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent, Task
from cnnclf.runs.run_opening import create_run
from cnnclf.runtime import setup_runtime
from cnnclf.training.epochs import EpochRow
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.fitting.checkpoints import BundleContent
from cnnclf.training.fitting.fit import Phase, build_loss, fit_phase
from cnnclf.training.fitting.optimizers import build_optimizer

BATCH = 128
Times = list[tuple[float, float]]  # seconds on the clock and of all processors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--rounds", type=int, default=5, help="measured epochs of each")
    parser.add_argument("--steps", type=int, default=300, help="steps of an epoch, at most 390")
    parser.add_argument("--work", type=Path, help="keep the imported dataset here")
    arguments = parser.parse_args()
    setup_runtime(device="cpu", precision="float32", seed=0, deterministic=False, threads=None)
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (work / "dataset").exists():
            work.mkdir(parents=True, exist_ok=True)
            import_source(
                arguments.source, work / "dataset", options=ImportConfig(), progress=Silent()
            )
        runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        times = measure(load_dataset(work / "dataset"), runs, arguments.steps, arguments.rounds)
    show(times, arguments.steps)


def measure(dataset: Dataset, runs: Path, steps: int, rounds: int) -> dict[str, Times]:
    """Alternate: after each epoch of cnnclf, run one of plain Keras."""
    import keras

    config, _ = load_config(
        options={
            "model.preset": "textbook",
            "training.epochs": rounds + 1,
            "training.batch_size": BATCH,
            "training.patience": 0,
            "augment.preset": "none",
        },
        kind=TrainConfig,
    )
    plan = plan_training(config, dataset)
    settings, labels, spec = plan.config, plan.labels, plan.input_spec
    pixels = open_pixels(dataset, spec, cache="disk", progress=Silent())
    rows = dataset.manifest.select("train")[: steps * BATCH]
    indices = dataset.manifest.class_indices
    bare = build_cnn(settings.model, spec.shape, num_classes=len(labels))
    bare.compile(
        build_optimizer(settings.optimizer, total_steps=steps * (rounds + 1)),
        build_loss(settings.training),
        metrics=["accuracy"],
        jit_compile=False,
    )
    x, y = pixels.gather(rows), np.eye(len(labels), dtype=np.float32)[indices[rows]]
    times: dict[str, Times] = {"bare": [], "cnnclf": []}
    clock = Clock()
    # From start to end of the epoch, without what `fit` sets up before it.
    began: list[tuple[float, float]] = []
    timer = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_, **__: began.append((time.perf_counter(), time.process_time())),
        on_epoch_end=lambda *_, **__: times["bare"].append(
            (time.perf_counter() - began[-1][0], time.process_time() - began[-1][1])
        ),
    )

    def on_epoch(row: EpochRow, is_best: bool) -> None:  # noqa: ARG001
        times["cnnclf"].append((row.seconds, clock.last_step - clock.began))
        bare.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[timer])
        clock.restart()

    clock.restart()
    fit_phase(
        build_cnn(settings.model, spec.shape, num_classes=len(labels)),
        Phase("train", settings.training, settings.optimizer),
        batches=Batches(
            pixels, rows, class_indices=indices, num_classes=len(labels), batch_size=BATCH
        ),
        val_batches=None,
        run=create_run(runs / "run"),
        content=BundleContent(labels, spec, {"name": "b2", "fingerprint": dataset.fingerprint}),
        scope=contextlib.nullcontext,
        jit_compile=False,
        resume=False,
        on_epoch=on_epoch,
        progress=clock,
    )
    return times


class Clock(Silent):
    """Processor seconds, updated at every step, so that saving after the last does not count."""

    def restart(self) -> None:
        """Begin to measure."""
        self.began = self.last_step = time.process_time()

    def advance(self, amount: int = 1) -> None:
        """A step is done."""
        del amount
        self.last_step = time.process_time()

    def describe(self, text: str) -> None:
        """Nothing to show."""

    def expect(self, total: int) -> None:
        """Nothing to show."""

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> Iterator[Task]:
        """Give itself as the task."""
        del name, total, unit, since
        yield self


def show(times: dict[str, Times], steps: int) -> None:
    count = steps * BATCH
    rates: dict[str, tuple[float, float]] = {}
    print(f"{'':8} {'images/s':>9} {'images / processor s':>21}   each epoch, images/s")
    for name in ("bare", "cnnclf"):
        wall, processor = (statistics.median(kind) for kind in zip(*times[name][1:], strict=True))
        rates[name] = count / wall, count / processor
        each = " ".join(f"{count / seconds:.0f}" for seconds, _ in times[name][1:])
        print(f"{name:8} {rates[name][0]:9.0f} {rates[name][1]:21.0f}   {each}")
    ratio, by_processor = (
        ours / bare for ours, bare in zip(rates["cnnclf"], rates["bare"], strict=True)
    )
    print(f"ratio    {ratio:9.3f} {by_processor:21.3f}   goal 0.97")


if __name__ == "__main__":
    main()
