"""Every choice of every setting trains, is evaluated and indexed, and predicts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cnnclf
from cnnclf.config import CommandConfig, FinetuneConfig, TrainConfig
from cnnclf.config.describing import choices_of, list_fields
from cnnclf.data.manifest import Dataset
from tests.training.conftest import Train
from tests.training.tiny_finetune import tune_tiny


def list_choices(kind: type[CommandConfig]) -> Iterator[tuple[str, str]]:
    for key, field in list_fields(kind).items():
        for choice in choices_of(field):
            if choice != "auto" and key != "runtime.device":
                yield key, choice


@pytest.mark.slow
@pytest.mark.parametrize(("key", "choice"), list(list_choices(TrainConfig)))
def test_a_choice_trains_and_predicts(
    key: str, choice: str, train_tiny: Train, shapes: Dataset, tmp_path: Path
) -> None:
    result = train_tiny(tmp_path / "run", **{"training.epochs": 1, key: choice})
    assert result.report is not None
    check_predictions(tmp_path / "run", shapes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "choice"),
    [each for each in list_choices(FinetuneConfig) if each not in set(list_choices(TrainConfig))],
)
def test_a_choice_is_finetuned_and_predicts(
    key: str, choice: str, colors: Dataset, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"head.epochs": 1, "tail.epochs": 1, key: choice}
    result = tune_tiny(colors, tmp_path / "run", **options)
    assert result.report is not None
    check_predictions(tmp_path / "run", colors)


def check_predictions(run: Path, dataset: Dataset) -> None:
    files = [dataset.file(int(row)) for row in dataset.manifest.select("test")]
    labeled = cnnclf.predict(run, files, config={"device": "cpu"})
    assert len(labeled) == len(files) > 0
    for prediction in labeled:
        assert not prediction.error
        assert 0 < prediction.ranking[0][1] <= 1
        assert prediction.familiar is not None
