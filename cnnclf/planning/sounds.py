"""What a network sees of sounds: how many seconds, and which augmentation."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from cnnclf.augmentation.table import SOUND_PRESET
from cnnclf.config import AugmentConfig
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError
from cnnclf.images.input_spec import SoundSpec

_PERCENTILE: Final = 95
_MAX_SECONDS: Final = 10.0
_STEP: Final = 0.1
_ANY: Final = SoundSpec(1.0)  # of which only the hop is used


def plan_sound(
    setting: str | float, dataset: Dataset, *, reasons: dict[str, str]
) -> SoundSpec | None:
    """Resolve the setting `data.seconds`.

    Args:
        setting: "auto", or seconds as the user gave them.
        dataset: What to train on.
        reasons: Receives the reason, if there is something to choose.

    Returns:
        The recipe for the input spec; None for images and arrays.

    Raises:
        ConfigError: Seconds were given, and the dataset does not hold sounds.
    """
    if dataset.kind != "sound":
        if setting != "auto":
            raise ConfigError(
                f"data.seconds is for sounds, received {setting} for {dataset.kind}s",
                "omit --seconds",
            )
        return None
    if not isinstance(setting, str):
        return SoundSpec(float(setting))
    rows = dataset.manifest.training_rows()
    lengths = (dataset.manifest.widths[rows] - 1) * _ANY.hop / _ANY.sample_rate
    typical = float(np.percentile(lengths, _PERCENTILE))
    # A length such as 0.7000000001 is 0.7.
    seconds = max(_STEP, math.ceil(round(typical / _STEP, 3)) * _STEP)
    reason = f"{_PERCENTILE} % of the training sounds take at most {typical:.2f} s"
    if seconds > _MAX_SECONDS:
        seconds, reason = _MAX_SECONDS, f"{reason}; the middle {_MAX_SECONDS:g} s are used"
    reasons["data.seconds"] = reason
    return SoundSpec(round(seconds, 1))


def plan_sound_augmentation(
    augment: AugmentConfig,
    dataset: Dataset,
    *,
    given: Mapping[str, str],
    reasons: dict[str, str],
) -> AugmentConfig:
    """Choose shifts in time and masks for sounds, unless a preset was given."""
    if dataset.kind != "sound" or "augment.preset" in given:
        return augment
    reasons["augment.preset"] = "a flipped sound is another sound; shifts and masks are not"
    return augment.model_copy(update={"preset": SOUND_PRESET})
