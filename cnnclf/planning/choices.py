"""What "auto" becomes: one function per setting, from facts about the images to value and reason.

The figures behind the rules are in docs/decisions/0004-default-training.md.
"""

import math
from collections.abc import Container, Mapping

import numpy as np
import numpy.typing as npt

from cnnclf.errors import ConfigError

# as published (Kingma and Ba, 2015); adamw is the same with decay
WITHOUT_DECAY = frozenset({"adam"})
WITH_MOMENTUM = frozenset({"sgd", "rmsprop", "muon"})

Sizes = npt.NDArray[np.int32]

LARGEST_SIDE = 128
_SMALLEST_SIDE = 16
_MOST_OF_A_SQUARE = 3  # times as long as wide
_LAST_MAP_SIDE = 7
_MAX_BLOCKS = 6
_STEPS = 1500
_MIN_EPOCHS, _MAX_EPOCHS = 15, 60
_SMALLEST_LARGE_BATCH = 32
_STEPS_OF_LARGE_BATCHES = 24
_STEPS_AT_LEAST = 400

MIN_VAL_IMAGES = 100  # one image less or more changes their accuracy by 1 % or more
_AVERAGED_EPOCHS = 3

_IMAGES_FOR_A_TAIL = 10  # per class
_FEWEST_TAIL_EPOCHS, MOST_TAIL_EPOCHS = 5, 10
_TAIL_STEPS = 150

_SMALL_SIDE = 40
MANY_IMAGES = 10_000

_FILTERS = {
    1: [32],
    2: [32, 64],
    3: [32, 56, 64],
    4: [24, 48, 72, 88],
    5: [16, 32, 48, 72, 96],
    6: [16, 24, 40, 64, 88, 112],
}

# With batch normalization, and without.
_LEARNING_RATES = {
    "adam": (4e-3, 1e-3),
    "adamw": (4e-3, 1e-3),
    "rmsprop": (1e-3, 5e-4),
    "sgd": (0.1, 0.01),
    "muon": (0.1, 0.03),
}
_BATCH_OF_MUON = 128  # for which its rate is
_MOST_OF_MUON = 2.4  # times that rate
_MOMENTA = {"muon": 0.6}
_USUAL_MOMENTUM = 0.9

# What is meant for an optimizer that moves every weight by its gradient.
_OF_ADAMW = frozenset({"optimizer.learning_rate", "optimizer.weight_decay", "model.l1", "model.l2"})


def choose_preset(count: int, size: tuple[int, int], *, is_open: bool) -> tuple[str, str]:
    """Choose the network of the speed runs where it reaches more in the same time.

    Args:
        count: Training images.
        size: Height and width of the input, in pixels.
        is_open: Whether nothing else of the network and the optimizer was given.

    Returns:
        The preset, and why.
    """
    if not is_open:
        return "default", "other settings of the network or the optimizer are given"
    if count >= MANY_IMAGES and max(size) <= _SMALL_SIDE:
        return "fast", f"more accurate in the same time with {count:,} images of this size"
    return "default", f"fast needs {MANY_IMAGES:,} images of at most {_SMALL_SIDE} pixels"


def choose_size(heights: Sizes, widths: Sizes) -> tuple[tuple[int, int], str]:
    """Choose the input size: that of small images of one size, else a square.

    Of images that are much longer than wide, a square would hold little: 20x2000 becomes a line.
    """
    height, width = round(float(np.median(heights))), round(float(np.median(widths)))
    same = bool(np.all(heights == height) and np.all(widths == width))
    if same and max(height, width) <= LARGEST_SIDE:
        return (height, width), f"all images are {height}x{width}"
    reason = f"the median image is {height}x{width}"
    short, long = sorted((height, width))
    if long > _MOST_OF_A_SQUARE * short:
        scale = min(1.0, LARGEST_SIDE / math.sqrt(short * long))
        size = max(1, round(scale * height)), max(1, round(scale * width))
        times = f"{long / short:.3g} times as long as wide"
        return size, f"{reason}, {times}; a square would be mostly padding"
    side = min(LARGEST_SIDE, max(_SMALLEST_SIDE, min(height, width)))
    if side == LARGEST_SIDE:
        reason += f"; training from scratch at {side} takes reasonable time"
    return (side, side), reason


def choose_fit(heights: Sizes, widths: Sizes, *, size: tuple[int, int]) -> tuple[str, str]:
    """Choose how images of another aspect ratio are resized."""
    distortion = np.abs(np.log((heights / widths) / (size[0] / size[1])))
    if float(np.mean(distortion < math.log(1.1))) > 0.98:
        return "squash", "the images have this aspect ratio already"
    return "pad", "aspect ratios differ; padding keeps the whole image and its proportions"


def count_blocks(height: int, width: int) -> int:
    """Return the usual number of blocks, which halve images until they are about 7x7."""
    side = max(min(height, width), 1)
    return min(_MAX_BLOCKS, max(1, round(math.log2(side / _LAST_MAP_SIDE)) + 1))


def compare_side(side: int) -> float:
    """Return how often a side of feature maps has to be halved, or doubled, to become 7."""
    return abs(math.log2(side / _LAST_MAP_SIDE))


def choose_filters(blocks: int) -> tuple[list[int], str]:
    """Choose widths that grow as the feature maps shrink."""
    filters = _FILTERS.get(blocks) or [16 * (block + 1) for block in range(blocks)]
    return filters, f"the usual widths for {blocks} blocks"


def choose_convs(blocks: int) -> tuple[list[int], str]:
    """Choose more convolutions where they are cheap."""
    convs = [1, *([2] * (blocks - 1))]
    return (
        convs,
        "one on the large feature maps, where compute is expensive, two on the smaller ones",
    )


def choose_batch_size(count: int) -> tuple[int, str]:
    """Choose larger batches for more images, and at least four batches per epoch."""
    batch = 128 if count >= 10_000 else 64 if count >= 2_000 else 32
    while batch > 4 and batch * 4 > count:
        batch //= 2
    return batch, f"{count:,} training images"


def fit_batch_size(largest: int, count: int) -> tuple[int, str]:
    """Reduce the batch size of a preset until an epoch has enough steps."""
    batch = largest
    while batch > _SMALLEST_LARGE_BATCH and count < batch * _STEPS_OF_LARGE_BATCHES:
        batch //= 2
    return batch, f"at most {largest}, and {_STEPS_OF_LARGE_BATCHES} steps per epoch if possible"


def fit_epochs(fewest: int, count: int, *, batch_size: int) -> tuple[int, str]:
    """Increase the epochs of a preset until small datasets get enough steps."""
    steps = max(1, math.ceil(count / batch_size))
    epochs = max(fewest, min(_MAX_EPOCHS, math.ceil(_STEPS_AT_LEAST / steps)))
    return epochs, f"at least {fewest}, and {_STEPS_AT_LEAST:,} steps if {_MAX_EPOCHS} have as many"


def choose_epochs(count: int, batch_size: int) -> tuple[int, str]:
    """Choose enough epochs for small datasets to get enough steps."""
    steps = max(1, math.ceil(count / batch_size))
    epochs = min(_MAX_EPOCHS, max(_MIN_EPOCHS, math.ceil(_STEPS / steps)))
    return epochs, (
        f"about {_STEPS:,} steps of {batch_size} images, between {_MIN_EPOCHS} and "
        f"{_MAX_EPOCHS} epochs"
    )


def choose_patience(count: int, epochs: int, *, has_val: bool) -> tuple[int, str]:
    """Choose more patience for fewer images, which make noisier epochs."""
    if not has_val:
        return 0, "there is no val split"
    patience = min(30, epochs, max(5, round(30_000 / max(1, count))))
    return patience, f"fewer images make noisier epochs; {count:,} here"


def choose_averaging(val_count: int) -> int:
    """Choose over how many epochs the val accuracy is averaged to find the best."""
    return _AVERAGED_EPOCHS if 0 < val_count < MIN_VAL_IMAGES else 1


def choose_optimizer(given: Mapping[str, str]) -> tuple[str, str]:
    """Choose Muon, which needs fewer epochs, unless settings are given that others understand."""
    if others := sorted(_OF_ADAMW & given.keys()):
        return "adamw", f"{others[0]} is given, which means something else for muon"
    return "muon", "it reaches the same accuracy in fewer epochs"


def choose_momentum(optimizer: str) -> tuple[float, str]:
    """Choose the momentum of an optimizer that has one."""
    return _MOMENTA.get(optimizer, _USUAL_MOMENTUM), f"the usual one of {optimizer}"


def choose_learning_rate(optimizer: str, *, batch_norm: bool, batch_size: int) -> tuple[float, str]:
    """Choose the peak learning rate; batch normalization allows a higher one.

    That of Muon grows with the root of the batch size (Malladi et al., 2022): its steps are as long
    for the noise of few images, and the statistics of batch normalization would lag.
    """
    with_norm, without = _LEARNING_RATES[optimizer]
    if optimizer == "muon":
        factor = min(_MOST_OF_MUON, math.sqrt(batch_size / _BATCH_OF_MUON))
        rate = float(f"{factor * (with_norm if batch_norm else without):.2g}")
        return rate, f"muon with batches of {batch_size}"
    if batch_norm:
        return with_norm, f"{optimizer} with batch normalization"
    return without, f"{optimizer} without batch normalization"


def choose_phase_patience(*, has_val: bool) -> tuple[int, str]:
    """Choose the patience of each phase of fine-tuning."""
    if not has_val:
        return 0, "there is no val split"
    return 5, "fine-tuning converges within a few epochs"


def choose_head_rate() -> tuple[float, str]:
    """Choose the learning rate of a new head on frozen layers, without a search."""
    return 3e-3, "works for most heads"


def choose_head_decay(optimizer: str) -> tuple[float, str]:
    """Choose the weight decay of a new head on frozen layers, without a search."""
    if optimizer in WITHOUT_DECAY:
        return 0.0, f"{optimizer} does not support weight decay"
    return 0.01, "the usual value"


def choose_unfrozen(stages: tuple[str, ...], *, count: int, classes: int) -> tuple[str, str]:
    """Choose how many stages of a backbone are trained: none with few images."""
    if count < _IMAGES_FOR_A_TAIL * classes:
        return "none", f"fewer than {_IMAGES_FOR_A_TAIL} training images per class"
    if has_light_stages(stages):
        return "4", "the last three stages of blocks, and the convolution after them"
    return "1", "the last stage"


def choose_tail_epochs(
    stages: tuple[str, ...], *, counts: Mapping[str, int], batch_size: int, kind: str
) -> tuple[int, str]:
    """Choose fewer epochs where these have enough steps; measured in docs/decisions/0007."""
    if not has_light_stages(stages):
        return MOST_TAIL_EPOCHS, "the usual number"
    if kind != "image":
        return MOST_TAIL_EPOCHS, "the backbone was not trained on such images"
    if not counts["val"]:
        return MOST_TAIL_EPOCHS, "there is no val split"
    steps = max(1, math.ceil(counts["train"] / batch_size))
    epochs = max(_FEWEST_TAIL_EPOCHS, math.ceil(_TAIL_STEPS / steps))
    return min(MOST_TAIL_EPOCHS, epochs), (
        f"at least {_TAIL_STEPS} steps, between {_FEWEST_TAIL_EPOCHS} and {MOST_TAIL_EPOCHS} "
        f"epochs; {MOST_TAIL_EPOCHS} if the head does badly on val"
    )


def choose_tail_rate(stages: tuple[str, ...]) -> tuple[float, str]:
    """Choose the learning rate of the last stages; measured in docs/decisions/0007."""
    if has_light_stages(stages):
        return 1e-3, "lightweight stages tolerate it"
    return 3e-4, "stages with many weights tolerate it"


def choose_layer_decay(stages: tuple[str, ...]) -> tuple[float, str]:
    """Choose how the learning rate decays per stage; measured in docs/decisions/0007."""
    if has_light_stages(stages):
        return 1.0, "lightweight stages train best at one rate"
    return 0.7, "layers near the input need smaller changes"


def has_light_stages(stages: tuple[str, ...]) -> bool:
    """Check for lightweight blocks between a stem and a separate last convolution."""
    return {"stem", "final"} <= set(stages)


def check_weight_decay(
    optimizer: str, decays: Mapping[str, object], *, given: Container[str]
) -> None:
    """Refuse a weight decay for an optimizer that does not support it.

    Raises:
        ConfigError: One was given.
    """
    for key, decay in decays.items():
        if optimizer in WITHOUT_DECAY and key in given and decay not in {0, "auto"}:
            raise ConfigError(
                f"{optimizer} does not support weight decay (got {key} = {decay})",
                "use --optimizer adamw",
            )
