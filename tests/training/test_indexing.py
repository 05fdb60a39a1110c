"""The index of training images: in the engine that predicts, where converting is quicker."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.errors import DeviceError
from cnnclf.inference.calibration_data import load_calibration
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines import engine_cache
from cnnclf.progress import Silent
from cnnclf.training import indexing
from tests.training.tiny_finetune import tune_tiny


def tune(shapes: Dataset, path: Path, **options: object) -> tuple[Path, Silent]:
    progress = Silent()
    settings: dict[str, Any] = {"tail.unfreeze": "none", "runtime.deterministic": False}
    result = tune_tiny(shapes, path, progress=progress, **(settings | options))
    return result.run.find_checkpoint("best"), progress


def refuse(*_: object) -> None:
    raise DeviceError("not enough disk space to convert the model", "free some space")


def read_distances(checkpoint: Path) -> Any:
    classifier = Classifier.load(checkpoint)
    found = load_calibration(classifier.bundle, classifier.directory)
    assert found is not None
    assert found.familiarity is not None
    return found.familiarity.distances


def test_a_long_index_is_computed_in_the_engine_that_predicts(
    shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = tune(shapes, tmp_path / "plain")
    assert not (plain / "engine-cache").exists(), "too few images"

    monkeypatch.setattr(indexing, "_CONVERT_FROM", 2)
    fast, progress = tune(shapes, tmp_path / "fast")
    np.testing.assert_allclose(read_distances(fast), read_distances(plain), atol=0.02)
    assert not progress.warnings
    assert (fast / "engine-cache").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(engine_cache.EngineCache, "make", refuse)
        opened = Classifier.load(fast, engine="auto", features=None)
    assert opened.engine.name == "openvino", "predict finds what was converted"

    exact, _ = tune(shapes, tmp_path / "exact", **{"runtime.deterministic": True})
    assert not (exact / "engine-cache").exists()


def test_without_space_for_a_converted_model_keras_computes_the_index(
    shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_CONVERT_FROM", 2)
    monkeypatch.setattr(engine_cache.EngineCache, "make", refuse)
    found, progress = tune(shapes, tmp_path / "run")
    assert len(read_distances(found))
    assert any("not enough disk space" in note for note in progress.notes)
