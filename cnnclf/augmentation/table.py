"""Random changes of training images: the table of operations, the presets, and `Augmenter`.

Runs on uint8 batches in the threads that gather them, with NumPy and Pillow: it is the same on
every Keras backend, costs the network's device nothing, and is repeatable, because everything
random in a batch comes from a generator made of (seed, epoch, batch) and not from the order of
threads. What the operations do is in `changes`, `warp` and `tones`.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnclf.augmentation import operations
from cnnclf.augmentation.operations import Changes, Labels, Pixels
from cnnclf.errors import ConfigError

_STAGES = ("plan", "pixels", "mix")
_RANDOM_STREAM = 2  # the order of images has another, so that chance is never used twice


@dataclass(frozen=True)
class Augmentation:
    """One row of the table.

    Args:
        name: The word for it in settings and options.
        summary: What it does, in one line.
        parameter: What its strength means; 0 always switches it off and more is stronger.
        default: A strength to begin with.
        highest: The largest strength.
        stage: "plan" (joined with others before pixels change), "pixels" (after these), or "mix"
            (joins images and labels; comes last).
        act: Does it.
        source: The paper it comes from.
    """

    name: str
    summary: str
    parameter: str
    default: float
    highest: float
    stage: Literal["plan", "pixels", "mix"]
    act: Callable[[Changes, float], None]
    source: str = ""


_ROWS = (
    Augmentation(
        "flip",
        "swap left and right",
        "probability",
        0.5,
        1.0,
        "plan",
        operations.flip,
    ),
    Augmentation(
        "rotate",
        "turn about the center, either way",
        "largest angle in degrees",
        10.0,
        180.0,
        "plan",
        operations.rotate,
    ),
    Augmentation(
        "translate",
        "shift by whole pixels, in any direction",
        "largest shift as a part of the side",
        0.1,
        0.5,
        "plan",
        operations.translate,
    ),
    Augmentation(
        "zoom",
        "scale about the center, in or out",
        "largest enlargement as a part of the size (0.1: 1/1.1 to 1.1 times)",
        0.1,
        0.9,
        "plan",
        operations.zoom,
    ),
    Augmentation(
        "crop",
        "show a random window, its aspect ratio changed by up to 4:3",
        "largest part of the area cut off",
        0.4,
        0.95,
        "plan",
        operations.crop,
        "Szegedy et al., Going deeper with convolutions, 2015",
    ),
    Augmentation(
        "brightness",
        "multiply all values",
        "largest change of the factor 1",
        0.2,
        1.0,
        "plan",
        operations.change_brightness,
    ),
    Augmentation(
        "contrast",
        "multiply the distance of all values to the image's mean",
        "largest change of the factor 1",
        0.2,
        1.0,
        "plan",
        operations.change_contrast,
    ),
    Augmentation(
        "hue",
        "turn the color circle; gray images stay as they are",
        "largest turn, 0.5 being the opposite color",
        0.05,
        0.5,
        "plan",
        operations.turn_hue,
    ),
    Augmentation(
        "randaugment",
        "make two changes drawn from 14 of place, color and tone",
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
        "mixup",
        "blend two images and their labels",
        "alpha of the beta distribution that the parts are drawn from",
        0.2,
        2.0,
        "mix",
        operations.mix_up,
        "Zhang et al., mixup: beyond empirical risk minimization, 2018",
    ),
    Augmentation(
        "cutmix",
        "paste a box of another image; labels go by area",
        "alpha of the beta distribution that the area is drawn from",
        1.0,
        2.0,
        "mix",
        operations.cut_mix,
        "Yun et al., CutMix, 2019",
    ),
)

AUGMENTATIONS: Mapping[str, Augmentation] = {row.name: row for row in _ROWS}
"""Every operation by its name, in the order in which they act."""

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
}
"""Strengths by preset; `light` has nothing that could turn one class into another."""


class Augmenter:
    """Changes batches of training images.

    Args:
        operations: Strength by name of operation; see `AUGMENTATIONS`.
        seed: Where chance begins, at least 0.

    Raises:
        ConfigError: An operation is unknown or its strength out of range.
    """

    def __init__(self, operations: Mapping[str, float], seed: int = 0) -> None:
        check_operations(operations)
        self.operations = _in_order(operations)
        self.seed = seed

    def rng(self, epoch: int, batch: int) -> np.random.Generator:
        """Return the generator of one batch, the same whenever and wherever it is made.

        Args:
            epoch: Counted from 0.
            batch: Counted from 0 in its epoch.
        """
        return np.random.default_rng((_RANDOM_STREAM, self.seed, epoch, batch))

    def __call__(self, x: Pixels, y: Labels, rng: np.random.Generator) -> tuple[Pixels, Labels]:
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
    """Return the operations of a preset, with single strengths set otherwise.

    Args:
        preset: A name of `PRESETS`.
        given: Strength by operation; None leaves what the preset says, 0 switches it off.

    Returns:
        Strength by name, in the order of the table, without those that are off.

    Raises:
        ConfigError: A preset or operation is unknown, or a strength out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"expected an augmentation preset of {', '.join(PRESETS)}, received {preset!r}"
        )
    set_here = {name: value for name, value in (given or {}).items() if value is not None}
    check_operations(set_here)
    return _in_order({**PRESETS[preset], **set_here})


def check_operations(operations: Mapping[str, float]) -> None:
    """Refuse operations that are unknown or out of range.

    Raises:
        ConfigError: All that is wrong, in one message.
    """
    wrong = []
    for name, strength in operations.items():
        row = AUGMENTATIONS.get(name)
        if row is None:
            near = difflib.get_close_matches(name, AUGMENTATIONS, n=1)
            wrong.append(
                f"unknown augmentation {name!r}" + (f", did you mean {near[0]}?" if near else "")
            )
        elif not 0 <= strength <= row.highest:
            wrong.append(f"expected {name} from 0 to {row.highest:g}, received {strength!r}")
    if wrong:
        raise ConfigError("; ".join(wrong), f"augmentations are {', '.join(AUGMENTATIONS)}")


def _in_order(operations: Mapping[str, float]) -> dict[str, float]:
    return {name: float(operations[name]) for name in AUGMENTATIONS if operations.get(name)}
