"""A run that tells three colors apart, the data it could have been trained on, and its exports."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cnnclf.config import ImportConfig, TrainConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.files import write_json_atomic
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run

COLORS = {"blue": (40, 60, 200), "green": (40, 190, 70), "red": (210, 50, 40)}
SPEC = InputSpec(56, 42, fit="crop", interpolation="bicubic", crop_fraction=0.875)
TEMPERATURE = 1.7
SEED = 3


class Place(NamedTuple):
    """A run and the data it was trained on."""

    run: Path
    dataset: Path
    photos: Path


def make_place(root: Path) -> Place:
    """Draw images, import them, and save a run whose model is made by hand."""
    place = Place(root / "run", root / "colors", root / "photos")
    rng = np.random.default_rng(SEED)
    for label, color in COLORS.items():
        (place.photos / label).mkdir(parents=True)
        for number in range(24):
            pixels = np.array(color) + rng.normal(0, 35, (60, 66, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(place.photos / label / f"{number}.png")
    options = ImportConfig(split=(0.5, 0.25, 0.25), seed=SEED)
    import_source(place.photos, place.dataset, options=options, progress=Silent())
    dataset = load_dataset(place.dataset)
    run = create_run(place.run, command="cnnclf train")
    write_json_atomic(run.plan, plan_training(TrainConfig(), dataset).to_dict())
    save_bundle(
        run.best,
        build_model(),
        labels=dataset.labels,
        input_spec=SPEC,
        dataset={"name": "colors", "fingerprint": dataset.fingerprint},
        temperature=TEMPERATURE,
    )
    run.update_run(status="finished")
    return place


def build_model() -> "keras.Model":  # type: ignore[name-defined] # noqa: F821
    """Build a small CNN whose logits are the means of blue, green and red."""
    import keras

    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((*SPEC.shape,), name="pixels"),
            keras.layers.Rescaling(1 / 127.5, offset=-1.0),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(6.0),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    rng = np.random.default_rng(SEED)
    kernel = rng.normal(0, 0.05, (3, 3, 3, 8)).astype(np.float32)
    kernel[1, 1, range(3), range(3)] = 1
    dense = rng.normal(0, 0.05, (8, 3)).astype(np.float32)
    dense[range(3), (2, 1, 0)] = 6
    gamma, variance = rng.uniform(0.9, 1.1, (2, 8))
    beta, mean = rng.normal(0, 0.05, (2, 8))
    model.layers[1].set_weights([kernel])
    model.layers[2].set_weights([gamma, beta, mean, variance])
    model.layers[-1].set_weights([dense, np.array([0.1, -0.1, 0.0], np.float32)])
    return model


def open_exact(run: Path) -> Classifier:
    """Open a run as an export does."""
    return Classifier.load(run, engine="keras", precision="float32")
