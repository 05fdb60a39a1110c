"""Networks to explain: the tiny trained run, and bundles of networks with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import ExplainConfig
from cnnclf.explainers.explain_opening import open_context
from cnnclf.explainers.explainer import ExplainContext
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Silent

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"
RUN = SAMPLE_DATA / "tiny_run"
IMAGES = SAMPLE_DATA / "x_or_o"

OpenModel = Callable[..., ExplainContext]


@pytest.fixture(scope="session")
def tiny_classifier() -> Classifier:
    return Classifier.load(RUN, engine="keras", device="cpu")


@pytest.fixture
def tiny(tiny_classifier: Classifier) -> ExplainContext:
    """Open the tiny run with its sample images as training images."""
    return open_context(
        tiny_classifier, RUN, config=ExplainConfig(samples=24), data=IMAGES, progress=Silent()
    )


@pytest.fixture
def open_model(tmp_path: Path) -> OpenModel:
    """Save a Keras model as a bundle and open it."""

    def open_(model: Any, **settings: Any) -> ExplainContext:
        height, width, channels = model.input_shape[1:]
        labels = [f"class {index}" for index in range(model.output_shape[-1])]
        spec = InputSpec(height, width, channels)
        save_bundle(tmp_path / "bundle", model, labels=labels, input_spec=spec, dataset={})
        classifier = Classifier.load(tmp_path / "bundle", engine="keras", device="cpu")
        config = ExplainConfig(**settings)
        return open_context(classifier, tmp_path / "bundle", config=config, progress=Silent())

    return open_


def draw_noise(context: ExplainContext, seed: int = 0) -> Any:
    """Draw an image of the size of the network, with a bright square."""
    height, width, channels = context.network.classifier.input_spec.shape
    pixels = np.random.default_rng(seed).integers(0, 120, (height, width, channels), np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 250
    return pixels
