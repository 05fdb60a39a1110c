"""Every choice of every setting of `train` trains, is evaluated and indexed, and predicts."""

from pathlib import Path

import pytest

import cnnclf
from cnnclf.config import TrainConfig
from cnnclf.config.describing import choices_of, list_fields
from cnnclf.data.manifest import Dataset
from tests.training.conftest import Train

CHOICES = [
    (key, choice)
    for key, field in list_fields(TrainConfig).items()
    for choice in choices_of(field)
    if choice != "auto" and key != "runtime.device"
]


@pytest.mark.slow
@pytest.mark.parametrize(("key", "choice"), CHOICES)
def test_a_choice_trains_and_predicts(
    key: str, choice: str, train_tiny: Train, shapes: Dataset, tmp_path: Path
) -> None:
    result = train_tiny(tmp_path / "run", **{"training.epochs": 1, key: choice})
    assert result.report is not None
    files = [shapes.file(int(row)) for row in shapes.manifest.select("test")]
    labeled = cnnclf.predict(tmp_path / "run", files, config={"device": "cpu"})
    assert len(labeled) == len(files) > 0
    for prediction in labeled:
        assert not prediction.error
        assert 0 < prediction.ranking[0][1] <= 1
        assert prediction.familiar is not None
