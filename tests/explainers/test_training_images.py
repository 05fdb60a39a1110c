"""Training images that an image is compared with: their classes, and what if there are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import DataError
from cnnclf.explainers.training_images import TrainingImages, sample_images
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source
from cnnclf.progress import Silent

SPEC = InputSpec(8, 8, channels=1)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    for label in ("dog", "elk"):
        for number in range(10):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    import_source(tmp_path / "photos", tmp_path / "data", progress=Silent())
    return load_dataset(tmp_path / "data")


def sample(dataset: Dataset, *labels: str) -> TrainingImages:
    return sample_images(dataset, SPEC, labels=labels, count=20, seed=0, progress=Silent())


def test_classes_are_those_of_the_network_by_name(dataset: Dataset) -> None:
    images = sample(dataset, "cat", "dog")
    names = [path.split("/")[0] for path in images.paths]
    assert images.class_indices.tolist() == [1 if name == "dog" else -1 for name in names]
    assert len(set(names)) == 2


def test_images_that_are_gone_are_an_error_with_advice(dataset: Dataset, tmp_path: Path) -> None:
    for path in (tmp_path / "photos").rglob("*.png"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"none of 14 training images of .* can be decoded"
    ) as caught:
        sample(dataset, "dog", "elk")
    assert "--data DATASET" in caught.value.hint
