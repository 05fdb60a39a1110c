"""A tiny model that need not be trained, and images that it can look at."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.files import read_json, write_json_atomic
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.calibration_data import FIELD, CalibrationData, save_calibration
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.familiarity import Familiarity, find_distances, quantize
from cnnclf.inference.label_sets import score_truth

LABELS = ("red", "green", "blue")
SPEC = InputSpec(16, 16)


def build_tiny(labels: int = 3) -> Any:
    """Build a model that names the strongest of the colors."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3), name="pixels"),
            keras.layers.Rescaling(1 / 127.5, offset=-1.0),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(labels, name="logits"),
        ]
    )
    kernel = np.zeros((3, 3, 3, 4), np.float32)
    kernel[1, 1, range(3), range(3)] = 1
    model.layers[1].set_weights([kernel, np.ones(4, np.float32)])
    model.layers[-1].set_weights([3 * np.eye(4, labels, dtype=np.float32), np.zeros(labels)])
    return model


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny model; not to be changed."""
    directory = tmp_path_factory.mktemp("bundle") / "tiny"
    save_bundle(
        directory,
        build_tiny(),
        labels=LABELS,
        input_spec=SPEC,
        dataset={"name": "colors", "fingerprint": "0" * 64},
        extra={"epoch": 3},
    )
    return directory


@pytest.fixture(scope="session")
def calibrated(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle, with what training stores; not to be changed."""
    return add_calibration(shutil.copytree(bundle, tmp_path_factory.mktemp("sure") / "tiny"))


def add_calibration(directory: Path) -> Path:
    """Store what 120 images with one strong color say, as `cnnclf train` does at its end."""
    classifier = Classifier.load(directory, features=None)
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 3
    colors = np.where(rng.random((120, 3)) < 0.7, 9, rng.integers(0, 150, (120, 3)))
    colors[np.arange(120), truth] = rng.integers(200, 256, 120)
    pixels = np.zeros((120, *classifier.input_spec.shape)) + colors[:, None, None]
    [(_, outputs)] = classifier.stream_outputs([(0, pixels.astype(np.uint8))])
    logits, features = np.split(outputs, [3], axis=1)
    index = quantize(features[:60])
    data = CalibrationData(
        truth[60:].astype(np.int32),
        score_truth(classifier.probabilities(logits[60:]), truth[60:]),
        Familiarity(index, np.sort(find_distances(index, features[60:]))),
    )
    path = directory / "classifier.json"
    write_json_atomic(path, read_json(path) | {FIELD: save_calibration(directory, data)})
    return directory


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    return Classifier.load(bundle)


Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draw an image of one color: `draw("a/b.png", "red")`."""

    def call(name: str, color: str = "red") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rgb = {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}[color]
        Image.new("RGB", (20, 18), rgb).save(path, format="PNG")
        return path

    return call


@pytest.fixture(scope="session")
def own_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle, for engines to put their cache beside."""
    return Path(shutil.copytree(bundle, tmp_path_factory.mktemp("own") / "tiny"))
