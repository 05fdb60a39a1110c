"""The anatomy of the CNN that settings describe.

Nothing here needs Keras, so a plan can be shown before anything heavy is loaded. `models/cnn.py`
builds exactly these layers.
"""

import math
from typing import Any, Literal

from cnnclf.config import ModelConfig, option_name
from cnnclf.errors import ConfigError
from cnnclf.models.anatomy import Anatomy, LayerRow, count_weights
from cnnclf.models.receptive_field import WHOLE, Field, count_positions, pad_before
from cnnclf.names import count_of

# fmt: off
CnnLayerKind = Literal[
    "rescale", "conv", "batch_norm", "activation", "pool",
    "flatten", "global_pool", "dropout", "dense",
]
# fmt: on


def plan_cnn(model: ModelConfig, input_shape: tuple[int, int, int], *, num_classes: int) -> Anatomy:
    """Lay out the Sequential network that `model` describes.

    Args:
        model: Settings in which nothing is "auto".
        input_shape: (height, width, channels) of the images.
        num_classes: Outputs, at least 2.

    Raises:
        ConfigError: A convolution or pooling window is larger than its feature maps.
    """
    draft = _Draft(input_shape, model)
    draft.add("rescale", "rescale")
    if model.whiten:
        draft.add_whitening(model.whiten)
        draft.add(f"whiten_{model.activation}", "activation")
    blocks, filters, convs = _block_settings(model)
    for block in range(blocks):
        draft.group = f"block{block + 1}"
        is_pooled = model.pooling != "none" and (block < blocks - 1 or model.pool_last)
        for conv in range(convs[block]):
            draft.add_conv(
                f"{draft.group}_conv{conv + 1}",
                filters[block],
                window=model.kernel_size,
                stride=model.stride if conv == 0 else 1,
                bias=not model.batch_norm,
            )
            # Before normalization and activation, which then run on a quarter of the values.
            if is_pooled and conv == 0 and model.pool_after == "first":
                draft.add_pool(f"{draft.group}_pool", model)
            draft.add_activation(f"{draft.group}_conv{conv + 1}", model)
        if is_pooled and model.pool_after == "last":
            draft.add_pool(f"{draft.group}_pool", model)
    draft.group = "head"
    draft.add_top(model.top)
    for index, units in enumerate(model.dense_units):
        draft.add_dense(f"dense{index + 1}", units)
        draft.add(f"dense{index + 1}_{model.activation}", "activation")
        if model.dropout:
            draft.add(f"dense{index + 1}_dropout", "dropout")
    if model.dropout and not model.dense_units:
        draft.add("dropout", "dropout")
    draft.add_dense("logits", num_classes)
    return Anatomy(tuple(draft.layers))


class _Draft:
    """Layers so far, with the shape and receptive field of the input of the next one."""

    def __init__(self, input_shape: tuple[int, int, int], model: ModelConfig) -> None:
        self.layers: list[LayerRow] = []
        self.shape: tuple[int, ...] = input_shape
        self.model = model
        self.padding: str = model.padding
        self.fields = (Field(), Field())
        self.group = "stem"

    def add(self, name: str, kind: CnnLayerKind, *weights: tuple[int, ...], **more: Any) -> None:
        parameters, formula = count_weights(*weights)
        row = LayerRow(
            name,
            kind,
            self.shape,
            parameters,
            formula=formula,
            group=self.group,
            **more,
        )
        self.layers.append(row.with_fields(self.fields))

    def add_whitening(self, window: int) -> None:
        """Add a filter, and its negative, for each value of a patch."""
        values = window * window * self.shape[2]
        padding, self.padding = self.padding, "valid"  # patches without borders
        self.add_conv("whiten", 2 * values, window=window, stride=1, bias=True)
        self.padding = padding

    def add_conv(self, name: str, filters: int, *, window: int, stride: int, bias: bool) -> None:
        weights = (window, window, self.shape[2], filters)
        self._slide(name, window, stride=stride, same=self.padding == "same")
        self.shape = (self.shape[0], self.shape[1], filters)
        self.add(
            name,
            "conv",
            weights,
            *([(filters,)] if bias else []),
            macs=self.shape[0] * self.shape[1] * math.prod(weights),
            units=filters,
            **_window(window, stride, self.padding),
        )

    def add_activation(self, name: str, model: ModelConfig) -> None:
        """Add the activation of a convolution, after its normalization if there is one."""
        if model.batch_norm:
            values = 4 if model.norm_scale else 3
            self.add(f"{name}_norm", "batch_norm", (values, self.shape[-1]))
        self.add(f"{name}_{model.activation}", "activation")

    def add_pool(self, name: str, model: ModelConfig) -> None:
        window = model.pool_size
        stride = window if model.pool_stride == "auto" else model.pool_stride
        self._slide(name, window, stride=stride, same=False)
        self.add(name, "pool", **_window(window, stride, "valid"))

    def add_top(self, top: str) -> None:
        height, width, channels = self.shape
        is_flat = top == "flatten"
        self.shape = (height * width * channels,) if is_flat else (channels,)
        self.fields = (WHOLE, WHOLE)
        self.add(top, "flatten" if is_flat else "global_pool")

    def add_dense(self, name: str, units: int) -> None:
        inputs = self.shape[0]
        self.shape = (units,)
        self.add(name, "dense", (inputs, units), (units,), macs=inputs * units, units=units)

    def _slide(self, name: str, window: int, *, stride: int, same: bool) -> None:
        height, width, channels = self.shape
        if not same and (height < window or width < window):
            raise ConfigError(
                f"{name}: its window of {window}x{window} is larger than the feature maps"
                f" ({height}x{width})",
                f"use {self._name_remedies(name)}",
            )
        down, across = self.fields
        padded = [pad_before(side, window, stride=stride) if same else 0 for side in self.shape[:2]]
        self.fields = (
            down.slide(window, stride=stride, padded=padded[0]),
            across.slide(window, stride=stride, padded=padded[1]),
        )
        self.shape = (
            count_positions(height, window, stride=stride, same=same),
            count_positions(width, window, stride=stride, same=same),
            channels,
        )

    def _name_remedies(self, name: str) -> str:
        """Name what helps where a window does not fit, first what was made larger than usual."""
        model, blocks = self.model, [layer for layer in self.layers if layer.group != "stem"]
        kinds = {layer.kind for layer in blocks}
        is_pooled = "pool" in kinds or name.endswith("_pool")
        is_shrinking = model.padding == "valid" and self.group != "stem"
        usual_strides = ("auto", 1, model.pool_size)
        remedies = {
            "a smaller --whiten": self.group == "stem",
            "a smaller --pool-size": is_pooled and model.pool_size > 2,  # 1 pools nothing
            "a smaller --pool-stride": "pool" in kinds and model.pool_stride not in usual_strides,
            "a smaller --stride": "conv" in kinds and model.stride > 1,
            "a smaller --kernel-size": is_shrinking and model.kernel_size > 1,
            "--padding same": is_shrinking,
            "fewer --blocks": self.group not in ("stem", "block1"),
            "a larger --image-size": True,
        }
        *others, last = [words for words, helps in remedies.items() if helps]
        return f"{', '.join(others)} or {last}" if others else last


def _window(window: int, stride: int, padding: str) -> dict[str, Any]:
    return {"window": window, "kernel": (window, window), "stride": stride, "padding": padding}


def _block_settings(model: ModelConfig) -> tuple[int, list[int], list[int]]:
    if model.blocks == "auto" or model.filters == "auto" or model.convs_per_block == "auto":
        raise ConfigError("expected a resolved model, received blocks or filters = auto")
    filters, convs = list(model.filters), list(model.convs_per_block)
    if len(convs) == 1:
        convs *= model.blocks
    for key, numbers in (("filters", filters), ("convs_per_block", convs)):
        if len(numbers) != model.blocks:
            raise ConfigError(
                f"model.{key} = {','.join(map(str, numbers))}: {count_of(len(numbers), 'number')} "
                f"for {count_of(model.blocks, 'block')}",
                f"give {option_name(f'model.{key}')} one number for each block, or one for all",
            )
    return model.blocks, filters, convs
