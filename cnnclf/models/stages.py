"""The layers at which the stages of each backbone family end.

Families of Keras Applications keep Keras's layer names.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of a backbone that can be frozen or cut at its end.

    If Keras renumbers the last layer for each model it builds, the stage is identified by the layer
    that follows it. A stage with neither name is the last one and ends where the backbone ends.

    Args:
        name: Its name for users, counted from the input: `stem`, `stage1`, ..., `final`.
        end: Name of its last layer, or empty.
        before: Name of the layer whose input is the stage's output, or empty.
    """

    name: str
    end: str = ""
    before: str = ""


def name_efficientnet_stages(count: int) -> tuple[Stage, ...]:
    """Name the stages of an EfficientNet (either family) with `count` rows of blocks."""
    return (
        Stage("stem", end="stem_activation"),
        *(Stage(f"stage{i}", before=f"block{i + 1}a_expand_conv") for i in range(1, count)),
        Stage(f"stage{count}", before="top_conv"),
        Stage("final"),
    )


def name_nasnet_stages(cells: int) -> tuple[Stage, ...]:
    """Name the stages of a NASNet with `cells` consecutive normal cells.

    Each cell takes the outputs of the two cells before it, so two tensors cross a cut.
    """
    return (
        Stage("stem", end="stem_bn1"),
        Stage("stage1", end=f"normal_concat_{cells - 1}"),
        Stage("stage2", end=f"normal_concat_{2 * cells}"),
        Stage("stage3"),
    )


def name_convnext_stages(variant: str) -> tuple[Stage, ...]:
    """Name the stages of a ConvNeXt: `tiny`, `small`, `base`, `large` or `xlarge`."""
    name = f"convnext_{variant}"
    return (
        Stage("stem", end=f"{name}_stem"),
        Stage("stage1", before=f"{name}_downsampling_block_0"),
        Stage("stage2", before=f"{name}_downsampling_block_1"),
        Stage("stage3", before=f"{name}_downsampling_block_2"),
        Stage("stage4"),
    )


def _before(*followers: str, last: str = "") -> tuple[Stage, ...]:
    """Name a stem and stages by the layers that follow them, and then the last stage."""
    named = [
        Stage(f"stage{number}" if number else "stem", before=follower)
        for number, follower in enumerate(followers)
    ]
    return (*named, Stage(last or f"stage{len(followers)}"))


VGG = (
    *(Stage(f"stage{number}", end=f"block{number}_pool") for number in range(1, 5)),
    Stage("stage5"),
)
RESNET = _before(*(f"conv{number}_block1_1_conv" for number in (2, 3, 4, 5)))
RESNET_V2 = _before(*(f"conv{number}_block1_preact_bn" for number in (2, 3, 4, 5)))
DENSENET = _before(*(f"conv{number}_block1_0_bn" for number in (2, 3, 4, 5)))
INCEPTION = (
    Stage("stage1", end="mixed2"),
    Stage("stage2", end="mixed7"),
    Stage("stage3"),
)
INCEPTION_RESNET = (
    Stage("stem", end="mixed_5b"),
    Stage("stage1", end="block35_10_ac"),
    Stage("stage2", end="block17_20_ac"),
    Stage("stage3"),
)
XCEPTION = (
    Stage("stem", end="block1_conv2_act"),
    Stage("stage1", before="block5_sepconv1_act"),
    Stage("stage2", before="block13_sepconv1_act"),
    Stage("stage3"),
)
MOBILENET = _before("conv_dw_1", "conv_pad_2", "conv_pad_4", "conv_pad_6", "conv_pad_12")
MOBILENET_V2 = _before(
    "expanded_conv_depthwise",
    *(f"block_{block}_expand" for block in (1, 3, 6, 10, 13, 16)),
    "Conv_1",
    last="final",
)
MOBILENET_V3_LARGE = _before(
    "expanded_conv_depthwise",
    *(f"expanded_conv_{block}_expand" for block in (1, 3, 6, 10, 12)),
    "conv_1",
    last="final",
)
MOBILENET_V3_SMALL = _before(
    "expanded_conv_depthwise_pad",
    *(f"expanded_conv_{block}_expand" for block in (1, 3, 6, 8)),
    "conv_1",
    last="final",
)
LITE = _before(
    "stage1_block1_depthwise_conv",
    *(f"stage{number}_block1_expand_conv" for number in range(2, 8)),
    "final_conv",
    last="final",
)
