"""A tiny dataset on disk and a way to train on it in a second or two."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from cnnclf.config import ImportConfig, TrainConfig, load_config
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.importers import import_source
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.runtime import setup_runtime
from cnnclf.training.epochs import EpochListener
from cnnclf.training.fitting import checkpoints
from cnnclf.training.run import TrainResult, conduct_run
from cnnclf.training.work import Work, open_work

SHAPES = ("disc", "square", "stripe")


def draw_shapes(folder: Path, *, per_class: int = 16, side: int = 16) -> Path:
    """Draw three classes that a tiny network tells apart."""
    rng = random.Random(0)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for index in range(per_class):
            image = Image.new("RGB", (side, side), (rng.randrange(60),) * 3)
            pen, bright = ImageDraw.Draw(image), (rng.randrange(150, 256),) * 3
            x, y = rng.randrange(2, side - 9), rng.randrange(2, side - 9)
            match shape:
                case "disc":
                    pen.ellipse((x, y, x + 7, y + 7), fill=bright)
                case "square":
                    pen.rectangle((x, y, x + 7, y + 7), fill=bright)
                case _:
                    pen.line((0, y, side, y), fill=bright, width=2)
            image.save(folder / shape / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures empty: they take a third of a tiny run, and other tests look at them."""

    def touch(_content: object, path: Path, **_options: object) -> None:
        path.touch()

    monkeypatch.setattr("cnnclf.evaluation.learning_curves.draw_curves", touch)
    monkeypatch.setattr("cnnclf.evaluation.report_files.draw_confusion", touch)
    monkeypatch.setattr("cnnclf.evaluation.report_files.draw_sheet", touch)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """48 images of three shapes, imported."""
    work = tmp_path_factory.mktemp("shapes")
    source = draw_shapes(work / "source")
    import_source(source, work / "dataset", options=ImportConfig(), progress=Silent())
    return load_dataset(work / "dataset")


@pytest.fixture(scope="session")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """48 noisy images in three colors, imported; random features tell them apart."""
    work, rng = tmp_path_factory.mktemp("colors"), random.Random(0)
    for channel, label in enumerate(("red", "green", "blue")):
        (work / "source" / label).mkdir(parents=True)
        for index in range(16):
            base = [190 if each == channel else 90 for each in range(3)]
            pixels = bytes(value + rng.randrange(-60, 60) for _ in range(256) for value in base)
            image = Image.frombytes("RGB", (16, 16), pixels)
            image.save(work / "source" / label / f"{index}.png")
    import_source(work / "source", work / "dataset", options=ImportConfig(), progress=Silent())
    return load_dataset(work / "dataset")


TINY = {
    "model.filters": [4, 6],
    "model.convs_per_block": [1],
    "training.epochs": 3,
    "training.batch_size": 8,
    "runtime.deterministic": True,
    "runtime.device": "cpu",
}

Train = Callable[..., TrainResult]


@pytest.fixture
def train_tiny(shapes: Dataset) -> Iterator[Train]:
    """Train a tiny network: `train_tiny(path, **{"model.dropout": 0.5})`."""

    def call(
        path: Path,
        *,
        resume: bool = False,
        listeners: Sequence[EpochListener] = (),
        **options: object,
    ) -> TrainResult:
        config, given = load_config(options=TINY | options, kind=TrainConfig)
        runtime = setup_runtime(
            device="cpu",
            precision=config.runtime.precision,
            seed=config.runtime.seed,
            deterministic=config.runtime.deterministic,
        )
        run: RunDirectory = open_run(path) if resume else create_run(path)
        plan = plan_training(config, shapes, given=given)
        work = Work(plan, shapes, run, runtime, Silent(), resume=resume, listeners=listeners)
        with open_work(work):
            return conduct_run(work)

    yield call
    import keras

    keras.config.set_dtype_policy("float32")  # a test may have asked for another precision


@pytest.fixture
def saves_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after each epoch, however short it is."""
    monkeypatch.setattr(checkpoints, "_MAX_SHARE", float("inf"))
