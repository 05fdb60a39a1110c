"""What is planned for sounds."""

import wave
from pathlib import Path

import pytest

from cnnclf.config import FinetuneConfig, TrainConfig
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError
from cnnclf.importers import open_dataset
from cnnclf.planning.finetune_plan import plan_finetuning
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent


def put_sound(path: Path, *, seconds: float, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes([value, 255 - value]) * round(4000 * seconds))


def load(folder: Path, seconds: float) -> Dataset:
    for number in range(16):
        label = "ab"[number % 2]
        put_sound(folder / label / f"{number}.wav", seconds=seconds, value=number)
    return open_dataset(folder, progress=Silent())


def test_the_network_sees_as_long_as_most_sounds_are(tmp_path: Path) -> None:
    plan = plan_training(TrainConfig(), load(tmp_path, 0.62))
    assert plan.input_spec.sound is not None
    assert (plan.input_spec.sound.seconds, plan.config.data.seconds) == (0.7, 0.7)
    assert plan.input_spec.shape == (64, 71, 1)
    assert dict(plan.operations) == {"time_shift": 0.1, "time_mask": 0.15, "frequency_mask": 0.15}
    assert "95 %" in plan.reasons["data.seconds"]


def test_of_very_long_sounds_the_middle_is_seen(tmp_path: Path) -> None:
    plan = plan_training(TrainConfig(), load(tmp_path, 12.0))
    assert plan.config.data.seconds == 10
    assert "the middle 10 s" in plan.reasons["data.seconds"]


def test_given_settings_win(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        {"data": {"seconds": 0.3, "image_size": "32"}, "augment": {"preset": "none"}}
    )
    given = {"data.seconds": "typed", "data.image_size": "typed", "augment.preset": "typed"}
    plan = plan_training(config, load(tmp_path, 0.5), given=given)
    assert (plan.input_spec.shape, plan.config.data.seconds) == ((32, 32, 1), 0.3)
    assert not plan.operations


def test_seconds_are_for_sounds(shapes: Dataset) -> None:
    with pytest.raises(ConfigError, match="for sounds"):
        plan_training(TrainConfig.model_validate({"data": {"seconds": 1}}), shapes)


def test_a_backbone_sees_the_whole_spectrogram(tmp_path: Path) -> None:
    config = FinetuneConfig.model_validate(
        {"backbone": {"name": "mobilenet", "weights": "none"}, "data": {"image_size": "64"}}
    )
    plan = plan_finetuning(config, load(tmp_path, 0.5))
    assert (plan.input_spec.shape, plan.input_spec.fit) == ((64, 64, 3), "squash")
    assert plan.input_spec.kind == "sound"
    assert plan.config.augment.preset == "sound"
