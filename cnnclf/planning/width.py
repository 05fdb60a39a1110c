"""How many filters the network of the preset `fast` gets where minutes are given."""

from collections.abc import Mapping

from cnnclf.config import ModelConfig
from cnnclf.hardware import read_memory
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning.choices import MANY_IMAGES
from cnnclf.planning.pace import START_S, expect_epoch_s, expect_finish_s, find_pace, is_estimable

# The last but one is that of the preset; the first two are those of the speed runs to 95 % and 94 %
# on CIFAR-10 (Jordan, 2024). Figures: docs/decisions/0004-default-training.md.
_WIDTHS = ((128, 384, 384), (64, 256, 256), (64, 128, 128), (32, 64, 64))
_EPOCHS = 5  # with fewer, a smaller network learns more
_PART_OF_MEMORY = 0.5


def choose_width(
    model: ModelConfig,
    anatomy: Anatomy,
    *,
    shape: tuple[int, int, int],
    counts: Mapping[str, int],
    minutes: float,
    precision: str,
    batch_size: int,
    optimizer: str,
) -> tuple[ModelConfig, Anatomy, str]:
    """Choose the most filters with which the minutes allow enough epochs.

    Returns:
        Settings, the network on paper, and why; no reason where the network stays as it is.
    """
    classes = anatomy.layers[-1].output_shape[-1]
    # nothing was measured with fewer images
    if counts["train"] < MANY_IMAGES or not is_estimable():
        return model, anatomy, ""
    for filters in _WIDTHS:
        found = model.model_copy(update={"filters": list(filters)})
        planned = plan_cnn(found, shape, num_classes=classes)
        rate = find_pace(planned, batch_size=batch_size, optimizer=optimizer).rate(precision)
        seconds = 60 * minutes - START_S - expect_finish_s(rate, counts)
        enough = seconds >= _EPOCHS * expect_epoch_s(rate, counts=counts)
        if enough and planned.training_bytes(batch_size, optimizer) < _free_memory():
            why = f"the most that {minutes:g} min, with {_EPOCHS} epochs, and the memory allow"
            return found, planned, why
    return found, planned, f"{minutes:g} min, with {_EPOCHS} epochs, or the memory allow no more"


def _free_memory() -> float:
    available = read_memory().available_bytes
    return float("inf") if available is None else _PART_OF_MEMORY * available
