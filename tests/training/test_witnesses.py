"""Networks that a check asks are opened without the messages of their libraries."""

import os
from pathlib import Path

import pytest

from cnnclf.config import CheckConfig, ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.importers import import_source
from cnnclf.progress import Silent
from cnnclf.training.witnesses import open_networks

SAMPLES = Path(__file__).parents[2] / "sample_data"


def test_a_run_is_opened_in_a_runtime_that_silences_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_source(SAMPLES / "x_or_o", tmp_path / "data", options=ImportConfig(), progress=Silent())
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    data = load_dataset(tmp_path / "data")
    found = open_networks(data, CheckConfig(), run=SAMPLES / "tiny_run", progress=Silent())
    assert found.judge is not None
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
