"""Every setting of `cnnclf train`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import (
    AugmentConfig,
    Auto,
    Cache,
    CommandConfig,
    Counts,
    OptimizerConfig,
    Presets,
    RuntimeConfig,
    Section,
    Size,
    split_list,
)


class DataConfig(Section):
    """How images reach the network."""

    image_size: Size = Field("auto", description="Height x width the network sees: 64 or 48x64.")
    color: Literal["auto", "rgb", "gray"] = Field("auto", description="Colors the network sees.")
    fit: Literal["auto", "crop", "pad", "squash"] = Field(
        "auto", description="How an image of another shape is brought to the size."
    )
    cache: Cache = Field("disk", description="Where decoded images are kept between epochs.")


class ModelConfig(Section):
    """The shape of the network."""

    preset: Literal["default", "textbook", "tiny", "deep"] = Field(
        "default", description="A whole network to start from; the options below change it."
    )
    blocks: Auto | Annotated[int, Field(ge=1, le=12)] = Field(
        "auto", description="Blocks of convolutions, each followed by pooling."
    )
    filters: Counts = Field("auto", description="Filters per block: 32,64,96.")
    convs_per_block: Counts = Field(
        "auto", description="Convolutions per block: 2, or one number per block: 1,2,1."
    )
    kernel_size: int = Field(3, ge=1, le=31, description="Side of the convolution kernel.")
    stride: int = Field(1, ge=1, le=8, description="Stride of the first convolution of a block.")
    padding: Literal["same", "valid"] = Field("same", description="Padding of the convolutions.")
    activation: Literal["relu", "leaky_relu", "elu", "selu", "gelu", "swish", "tanh", "sigmoid"] = (
        Field("relu", description="Activation after convolutions and dense layers.")
    )
    pooling: Literal["max", "average", "none"] = Field("max", description="Pooling of a block.")
    pool_size: int = Field(2, ge=1, le=16, description="Side of the pooling window.")
    pool_stride: Auto | Annotated[int, Field(ge=1, le=16)] = Field(
        "auto", description="Stride of the pooling window; auto: its side."
    )
    pool_last: bool = Field(False, description="Pool after the last block too.")
    batch_norm: bool = Field(True, description="Batch normalization after each convolution.")
    top: Literal["global_average", "global_max", "flatten"] = Field(
        "global_average", description="From the last feature maps to a vector."
    )
    dense_units: Annotated[
        list[Annotated[int, Field(ge=1, le=65_536)]], BeforeValidator(split_list)
    ] = Field([], description="Hidden dense layers before the output: 128 or 256,128.")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout before the output and dense layers."
    )
    l1: float = Field(0.0, ge=0, description="L1 penalty on kernels.")
    l2: float = Field(0.0, ge=0, description="L2 penalty on kernels.")


class TrainingConfig(Section):
    """How long, in which portions and against which loss."""

    epochs: Auto | Annotated[int, Field(ge=1, le=100_000)] = Field(
        "auto", description="Passes over the training images."
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Images per step."
    )
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = Field(
        "auto", description="Epochs without a better result before stopping; 0: never stop early."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing.")
    balance: Literal["none", "weights", "sample", "focal"] = Field(
        "none", description="What is done about classes of unequal size."
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Gamma of the focal loss.")
    calibrate: bool = Field(
        True, description="Fit a temperature on val, so that probabilities mean what they say."
    )


class TrainConfig(CommandConfig):
    """All settings of `cnnclf train`."""

    command: ClassVar[str] = "train"
    presets: ClassVar[Presets] = MODEL_PRESETS

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    runtime: RuntimeConfig = RuntimeConfig()
