"""What settings of the network and of its optimizer become for images of one size."""

import math
from collections.abc import Mapping
from typing import Any

from cnnclf.config import ModelConfig, OptimizerConfig, TrainConfig
from cnnclf.errors import ConfigError
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning import choices
from cnnclf.planning.choices import WITH_MOMENTUM

_RATE = "optimizer.learning_rate"


def resolve_model(
    model: ModelConfig, size: tuple[int, int], *, given: Mapping[str, str]
) -> tuple[ModelConfig, dict[str, str]]:
    """Resolve every "auto" of a network.

    Raises:
        ConfigError: Settings of pooling were given for a network without it.
    """
    if model.pooling == "none":
        for name in ("pool_size", "pool_stride", "pool_last"):
            if getattr(model, name) is not False and not _is_open(given, f"model.{name}"):
                raise ConfigError(
                    f"model.pooling = none has no use for model.{name}", "give one of the two"
                )
    if _is_open(given, "model.blocks"):  # a list says how many blocks there are
        for numbers, least in ((model.filters, 1), (model.convs_per_block, 2)):
            if numbers != "auto" and len(numbers) >= least:
                return _resolve_blocks(model, len(numbers), given=given)
    if model.blocks != "auto":
        return _resolve_blocks(model, model.blocks, given=given)
    blocks, reason = _choose_blocks(model, size, given=given)
    resolved, reasons = _resolve_blocks(model, blocks, given=given)
    return resolved, {"model.blocks": reason} | reasons


def _resolve_blocks(
    model: ModelConfig, blocks: int, *, given: Mapping[str, str]
) -> tuple[ModelConfig, dict[str, str]]:
    """Resolve a network of so many blocks."""
    reasons: dict[str, str] = {}
    filters, convs = model.filters, model.convs_per_block
    if filters != "auto" and len(filters) == 1 and not _is_open(given, "model.filters"):
        filters = filters * blocks
    if filters == "auto" or (_is_open(given, "model.filters") and len(filters) != blocks):
        filters, reasons["model.filters"] = choices.choose_filters(blocks)
    if convs == "auto":
        convs, reasons["model.convs_per_block"] = choices.choose_convs(blocks)
    resolved = model.model_copy(
        update={
            "preset": "default" if model.preset == "auto" else model.preset,
            "blocks": blocks,
            "filters": list(filters),
            "convs_per_block": list(convs) * (blocks if len(convs) == 1 else 1),
            "pool_stride": model.pool_size if model.pool_stride == "auto" else model.pool_stride,
        }
    )
    return resolved, reasons


def _choose_blocks(
    model: ModelConfig, size: tuple[int, int], *, given: Mapping[str, str]
) -> tuple[int, str]:
    """Choose the blocks whose last feature maps are the nearest to 7x7, the usual number at most.

    Padding, strides and pooling say how fast maps shrink.
    """
    maps: dict[int, tuple[int, ...]] = {}
    for blocks in range(choices.count_blocks(*size), 0, -1):
        planned, _ = _resolve_blocks(model, blocks, given=given)
        try:
            last = plan_cnn(planned, (*size, 1), num_classes=2).last_local
        except ConfigError:  # a window is larger than the maps
            continue
        maps[blocks] = last.output_shape if last else size
    best = min(maps, key=lambda blocks: choices.compare_side(min(maps[blocks][:2])), default=1)
    height, width = maps.get(best, size)[:2]
    return best, f"the last feature maps are {height}x{width}"


def resolve_optimizer(
    optimizer: OptimizerConfig, *, given: Mapping[str, str], batch_norm: bool, batch_size: int
) -> tuple[OptimizerConfig, dict[str, str]]:
    """Choose the optimizer, its learning rate and its momentum where they are "auto"."""
    reasons: dict[str, str] = {}
    chosen: dict[str, Any] = {}
    name: str = optimizer.name
    if name == "auto":
        name, reasons["optimizer.name"] = choices.choose_optimizer(given)
        chosen["name"] = name
    if optimizer.learning_rate == "auto":
        chosen["learning_rate"], reasons[_RATE] = choices.choose_learning_rate(
            name, batch_norm=batch_norm, batch_size=batch_size
        )
    elif optimizer.learning_rate == "find":
        reasons[_RATE] = "a range test before the first epoch finds it"
    if optimizer.momentum == "auto":
        momentum, why = choices.choose_momentum(name)
        chosen["momentum"] = momentum
        if name in WITH_MOMENTUM:
            reasons["optimizer.momentum"] = why
    return optimizer.model_copy(update=chosen), reasons


def scale_preset_rate(
    config: TrainConfig, batch_size: int, *, given: Mapping[str, str]
) -> tuple[OptimizerConfig, dict[str, str]]:
    """Scale the learning rate of a preset with the root of the batch size.

    For steps whose length does not depend on the gradient (Malladi et al., 2022).

    Returns:
        Settings of the optimizer, and why the rate is another than the preset's.
    """
    optimizer, preset = config.optimizer, config.presets[config.model.preset]
    if optimizer.name != preset.get("optimizer", {}).get("name", optimizer.name):
        # rate and momentum of a preset are those of its optimizer
        keys = [key for key in (_RATE, "optimizer.momentum") if is_preset(given, key)]
        return optimizer.model_copy(update={key.partition(".")[2]: "auto" for key in keys}), {}
    base = preset.get("training", {}).get("batch_size", batch_size)
    if base == batch_size or not is_preset(given, _RATE):
        return optimizer, {}
    rate = preset["optimizer"]["learning_rate"] * math.sqrt(batch_size / base)
    why = "that of the preset, scaled with the root of the batch size"
    return optimizer.model_copy(update={"learning_rate": rate}), {_RATE: why}


def _is_open(given: Mapping[str, str], key: str) -> bool:
    """Check whether a setting may be chosen: not given, or only by a preset."""
    return given.get(key, "preset").startswith("preset")


def is_preset(given: Mapping[str, str], key: str) -> bool:
    """Check whether a preset gave a setting, and nothing else."""
    return given.get(key, "").startswith("preset")
