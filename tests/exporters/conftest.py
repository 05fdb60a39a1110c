"""Exports of a small run; each is made once, when it is first asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.exporters.artifact import export_classifier
from cnnclf.exporters.parity_report import ExportReport
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Silent
from tests.exporters.material import Place, make_place, open_exact

Export = Callable[[ExportConfig], ExportReport]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run and its data; not to be changed."""
    return make_place(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def classifier(place: Place) -> Classifier:
    return open_exact(place.run)


@pytest.fixture(scope="session")
def dataset(place: Place) -> Dataset:
    return load_dataset(place.dataset)


@pytest.fixture(scope="session")
def export(
    classifier: Classifier, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Export:
    """Export the run: `export(ExportConfig(format="onnx"))` gives the report; not to be changed."""
    root: Path = tmp_path_factory.mktemp("artifacts")
    made: dict[ExportConfig, ExportReport] = {}

    def call(settings: ExportConfig) -> ExportReport:
        if settings not in made:
            made[settings] = export_classifier(
                classifier,
                root / settings.name,
                settings=settings,
                dataset=dataset,
                progress=Silent(),
            )
        return made[settings]

    return call
