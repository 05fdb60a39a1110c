"""Random changes of training images: the table of operations, the presets, and `Augmenter`.

Runs on uint8 batches in the threads that gather them, with NumPy and Pillow: the same on every
Keras backend, at no cost for the network's device, and repeatable, because every random number of a
batch comes from a generator seeded with (seed, epoch, batch), whatever the order of threads. The
operations themselves are in `operations`, `warp` and `tones`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnclf.augmentation import operations
from cnnclf.augmentation.operations import Changes, Labels, Pixels
from cnnclf.errors import ConfigError
from cnnclf.names import suggest

_STAGES = ("plan", "pixels", "mix")
_RANDOM_STREAM = 2  # the shuffling uses another, so that no random number is used twice


@dataclass(frozen=True)
class Augmentation:
    """One row of the table.

    Args:
        name: Its name in settings and options.
        summary: What it does, in one line.
        parameter: What its strength means; 0 always disables it and more is stronger.
        default: A strength to start with.
        max_strength: The maximum strength.
        stage: "plan" (combined with others before pixels change), "pixels" (after these), or "mix"
            (combines images and labels; comes last).
        act: Applies it to a batch.
        source: The paper that introduced it.
    """

    name: str
    summary: str
    parameter: str
    default: float
    max_strength: float
    stage: Literal["plan", "pixels", "mix"]
    act: Callable[[Changes, float], None]
    source: str = ""


_ROWS = (
    Augmentation(
        "flip",
        "flip left and right",
        "probability",
        0.5,
        1.0,
        "plan",
        operations.flip,
    ),
    Augmentation(
        "rotate",
        "rotate about the center, in either direction",
        "maximum angle in degrees",
        10.0,
        180.0,
        "plan",
        operations.rotate,
    ),
    Augmentation(
        "translate",
        "shift by whole pixels, in any direction",
        "maximum shift (fraction of the side)",
        0.1,
        0.5,
        "plan",
        operations.translate,
    ),
    Augmentation(
        "time_shift",
        "shift to the left or right by whole pixels: a sound begins earlier or later",
        "maximum shift (fraction of the width)",
        0.1,
        0.5,
        "plan",
        operations.shift_in_time,
    ),
    Augmentation(
        "zoom",
        "scale about the center, in or out",
        "maximum zoom (0.1: by a factor of 1/1.1 to 1.1)",
        0.1,
        0.9,
        "plan",
        operations.zoom,
    ),
    Augmentation(
        "crop",
        "crop a random window and resize it, aspect ratio 3:4 to 4:3",
        "maximum fraction of the area cropped away",
        0.4,
        0.95,
        "plan",
        operations.crop,
        "Szegedy et al., Going deeper with convolutions, 2015",
    ),
    Augmentation(
        "brightness",
        "multiply all values by a random factor",
        "maximum change of the factor",
        0.2,
        1.0,
        "plan",
        operations.change_brightness,
    ),
    Augmentation(
        "contrast",
        "multiply the distance of all values to the mean of the image",
        "maximum change of the factor",
        0.2,
        1.0,
        "plan",
        operations.change_contrast,
    ),
    Augmentation(
        "hue",
        "shift the hue; gray images stay unchanged",
        "maximum hue shift (fraction of the color wheel)",
        0.05,
        0.5,
        "plan",
        operations.shift_hue,
    ),
    Augmentation(
        "randaugment",
        "apply two of 14 random geometric, color and tone changes",
        "magnitude",
        6.0,
        10.0,
        "plan",
        operations.randaugment,
        "Cubuk et al., RandAugment, 2020",
    ),
    Augmentation(
        "erasing",
        "fill a random box with noise",
        "probability",
        0.25,
        1.0,
        "pixels",
        operations.erase,
        "Zhong et al., Random erasing data augmentation, 2020",
    ),
    Augmentation(
        "time_mask",
        "blacken a range of columns",
        "maximum fraction of the width",
        0.15,
        0.9,
        "pixels",
        operations.mask_time,
        "Park et al., SpecAugment, 2019",
    ),
    Augmentation(
        "frequency_mask",
        "blacken a range of rows",
        "maximum fraction of the height",
        0.15,
        0.9,
        "pixels",
        operations.mask_frequencies,
        "Park et al., SpecAugment, 2019",
    ),
    Augmentation(
        "mixup",
        "blend two images and their labels",
        "alpha of the beta distribution of the mixing ratio",
        0.2,
        2.0,
        "mix",
        operations.mix_up,
        "Zhang et al., mixup: beyond empirical risk minimization, 2018",
    ),
    Augmentation(
        "cutmix",
        "paste a box of another image and mix the labels by area",
        "alpha of the beta distribution of the area",
        1.0,
        2.0,
        "mix",
        operations.cut_mix,
        "Yun et al., CutMix, 2019",
    ),
)

AUGMENTATIONS: Mapping[str, Augmentation] = {row.name: row for row in _ROWS}
"""Every operation by name, in the order in which they are applied."""

SOUND_PRESET: Literal["sound"] = "sound"
PRESETS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "light": {"translate": 0.04},
    "medium": {
        "flip": 0.5,
        "rotate": 10.0,
        "translate": 0.1,
        "zoom": 0.15,
        "brightness": 0.2,
        "contrast": 0.2,
        "hue": 0.03,
    },
    "strong": {
        "flip": 0.5,
        "crop": 0.4,
        "randaugment": 6.0,
        "erasing": 0.25,
        "mixup": 0.2,
        "cutmix": 1.0,
    },
    SOUND_PRESET: {"time_shift": 0.1, "time_mask": 0.15, "frequency_mask": 0.15},
}
"""Strengths by preset; nothing in `light` can turn one class into another."""


class Augmenter:
    """Changes batches of training images.

    Args:
        operations: Strength by name of operation; see `AUGMENTATIONS`.
        seed: Random seed, at least 0.

    Raises:
        ConfigError: An operation is unknown or its strength is out of range.
    """

    def __init__(self, operations: Mapping[str, float], seed: int = 0) -> None:
        check_operations(operations)
        self.operations = _in_order(operations)
        self.seed = seed

    def rng(self, epoch: int, batch: int) -> np.random.Generator:
        """Return the generator of one batch: always the same for the same arguments.

        Args:
            epoch: Counted from 0.
            batch: Counted from 0 within the epoch.
        """
        return np.random.default_rng((_RANDOM_STREAM, self.seed, epoch, batch))

    def __call__(self, x: Pixels, y: Labels, *, rng: np.random.Generator) -> tuple[Pixels, Labels]:
        """Change one batch.

        Args:
            x: uint8 [n, H, W, C], C being 1 or 3; may be overwritten.
            y: float32 [n, K], one-hot.
            rng: The generator of this batch.

        Returns:
            Images and labels, of the same shapes and types.
        """
        rows = [(AUGMENTATIONS[name], strength) for name, strength in self.operations.items()]
        batch = Changes(x, y, rng, mixers=sum(row.stage == "mix" for row, _ in rows))
        for stage in _STAGES:
            for row, strength in rows:
                if row.stage == stage:
                    row.act(batch, strength)
            if stage == "plan":
                batch.apply()
        return batch.x, batch.y


def choose_operations(
    preset: str, given: Mapping[str, float | None] | None = None
) -> dict[str, float]:
    """Return the operations of a preset, with single strengths overridden.

    Args:
        preset: A name of `PRESETS`.
        given: Strength by operation; None keeps that of the preset, 0 disables the operation.

    Returns:
        Strength by name, in the order of the table, without disabled operations.

    Raises:
        ConfigError: A preset or operation is unknown, or a strength is out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"unknown augmentation preset {preset!r}", f"presets are {', '.join(PRESETS)}"
        )
    set_here = {name: value for name, value in (given or {}).items() if value is not None}
    check_operations(set_here)
    return _in_order({**PRESETS[preset], **set_here})


def check_operations(operations: Mapping[str, float]) -> None:
    """Refuse operations that are unknown or out of range.

    Raises:
        ConfigError: Everything that is wrong, in one message.
    """
    wrong = []
    for name, strength in operations.items():
        row = AUGMENTATIONS.get(name)
        if row is None:
            unknown = f"unknown augmentation {name!r}"
            wrong.append(", ".join(filter(None, [unknown, suggest(name, AUGMENTATIONS)])))
        elif not 0 <= strength <= row.max_strength:
            wrong.append(f"expected {name} from 0 to {row.max_strength:g}, received {strength!r}")
    if wrong:
        raise ConfigError("; ".join(wrong), f"augmentations are {', '.join(AUGMENTATIONS)}")


def _in_order(operations: Mapping[str, float]) -> dict[str, float]:
    return {name: float(operations[name]) for name in AUGMENTATIONS if operations.get(name)}
