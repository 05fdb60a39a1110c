"""EfficientNet-Lite as Keras functional models whose stages have names.

EfficientNet-B0 (Tan and Le, 2019) without squeeze-and-excitation and with ReLU6 instead of swish,
as its authors' Lite variants have it. Larger variants have more blocks in the inner stages, and
wider stages; stem and last convolution keep the width of B0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LiteStage:
    """A sequence of blocks: the first has the stride, the others are residual.

    Args:
        repeats: Blocks in the stage.
        kernel_size: Side of the depthwise kernel.
        stride: Stride of the first block's depthwise convolution.
        expansion: Channels inside a block divided by its input channels; 1: no expansion.
        filters: Output channels.
    """

    repeats: int
    kernel_size: int
    stride: int
    expansion: int
    filters: int


STEM_FILTERS = 32
FINAL_FILTERS = 1280
_SHAPES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "lite0": ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "lite1": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    "lite2": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}
LITE_STAGES: Mapping[str, tuple[LiteStage, ...]] = {
    variant: tuple(
        LiteStage(count, *shape, width)
        for count, shape, width in zip(repeats, _SHAPES, filters, strict=True)
    )
    for variant, (repeats, filters) in _SIZES.items()
}
"""The stages of each variant."""


def build_efficientnet_lite(
    *,
    variant: str = "lite0",
    input_tensor: Any = None,
    include_top: bool = False,
    classes: int = 1000,
) -> Any:
    """Build an EfficientNet-Lite with random weights.

    Layers are named `stem_*`, `stage1_block1_*` to `stage7_block1_*`, `final_*` and, with its top,
    `top_dense`.

    Args:
        variant: `lite0`, `lite1` or `lite2`.
        input_tensor: Normalized pixels [N, H, W, 3], (x - 127) / 128; layers before it become part
            of the model. None: an input of 224x224.
        include_top: Whether to add average pooling and the dense layer for logits.
        classes: Outputs of the top.

    Returns:
        A `keras.Model`: [N, H / 32, W / 32, 1280] (sizes rounded up), or logits [N, classes].
    """
    import keras

    inputs = keras.Input((224, 224, 3)) if input_tensor is None else input_tensor
    x = _convolve(inputs, STEM_FILTERS, 3, strides=2, name="stem")
    for number, stage in enumerate(LITE_STAGES[variant], start=1):
        for repeat in range(stage.repeats):
            x = _block(x, stage, name=f"stage{number}_block{repeat + 1}", first=repeat == 0)
    x = _convolve(x, FINAL_FILTERS, 1, name="final")
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="top_pool")(x)
        x = keras.layers.Dense(classes, name="top_dense")(x)
    return keras.Model(keras.utils.get_source_inputs(inputs)[0], x, name=f"efficientnet-{variant}")


def _block(x: Any, stage: LiteStage, *, name: str, first: bool) -> Any:
    """Inverted residual: expand, filter each channel separately, project (Sandler et al., 2018)."""
    from keras import layers

    shortcut, channels = x, x.shape[-1]
    if stage.expansion > 1:
        x = _convolve(x, channels * stage.expansion, 1, name=f"{name}_expand")
    x = layers.DepthwiseConv2D(
        stage.kernel_size,
        strides=stage.stride if first else 1,
        padding="same",
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )(x)
    x = _normalize_batch(x, f"{name}_depthwise")
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _normalize_batch(x, f"{name}_project")
    return x if first else layers.Add(name=f"{name}_add")([shortcut, x])


def _convolve(x: Any, filters: int, kernel_size: int, *, name: str, strides: int = 1) -> Any:
    from keras import layers

    x = layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = _normalize_batch(x, name)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _normalize_batch(x: Any, name: str) -> Any:
    from keras import layers

    return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(x)
