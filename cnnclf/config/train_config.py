"""Every setting of `cnnclf train`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import (
    AugmentConfig,
    Auto,
    Balance,
    Cache,
    CommandConfig,
    Counts,
    Minutes,
    OptimizerConfig,
    Presets,
    RuntimeConfig,
    Seconds,
    Section,
    Size,
    ValueRange,
    split_list,
)


class DataConfig(Section):
    """Preprocessing of the images."""

    image_size: Size = Field(
        "auto", description="Input size of the network, height x width, such as 64 or 48x64."
    )
    color: Literal["auto", "rgb", "gray"] = Field("auto", description="Color mode of the input.")
    fit: Literal["auto", "crop", "pad", "squash"] = Field(
        "auto", description="How images are fitted to the input size."
    )
    range: ValueRange = Field(
        "auto",
        description="Values of images of more than 8 bits that become black and white; auto: the "
        "bits that training images of 16 bits use; type: all 16 bits.",
    )
    seconds: Seconds = Field(
        "auto",
        description="Seconds of a sound that the network sees, from its middle; auto: as long as "
        "95 % of the training sounds, at most 10.",
    )
    cache: Cache = Field("disk", description="Where decoded images are cached.")


class ModelConfig(Section):
    """Architecture of the network."""

    preset: Literal["default", "textbook", "tiny", "deep", "fast"] = Field(
        "default", description="Predefined architecture; other options override it."
    )
    whiten: int = Field(
        0,
        ge=0,
        le=5,
        description="Window of a fixed first convolution that whitens patches of the training "
        "images; 0: none.",
    )
    blocks: Auto | Annotated[int, Field(ge=1, le=12)] = Field(
        "auto", description="Number of convolution blocks, each followed by pooling."
    )
    filters: Counts = Field(
        "auto",
        description="Filters per block, such as 32,64,96; with blocks, 32 is for each block.",
    )
    convs_per_block: Counts = Field(
        "auto", description="Convolutions per block, such as 2, or 1,2,1 for one number per block."
    )
    initial_kernels: Literal["random", "identity"] = Field(
        "random",
        description="Kernels to start with; identity: convolutions pass their input on at first.",
    )
    kernel_size: int = Field(3, ge=1, le=31, description="Kernel size of the convolutions.")
    stride: int = Field(1, ge=1, le=8, description="Stride of the first convolution of each block.")
    padding: Literal["same", "valid"] = Field("same", description="Padding of the convolutions.")
    activation: Literal["relu", "leaky_relu", "elu", "selu", "gelu", "swish", "tanh", "sigmoid"] = (
        Field("relu", description="Activation of convolutions and dense layers.")
    )
    pooling: Literal["max", "average", "none"] = Field(
        "max", description="Pooling after each block."
    )
    pool_size: int = Field(2, ge=1, le=16, description="Size of the pooling window.")
    pool_stride: Auto | Annotated[int, Field(ge=1, le=16)] = Field(
        "auto", description="Stride of the pooling window; auto: its size."
    )
    pool_after: Literal["last", "first"] = Field(
        "last", description="Convolution of each block that pooling follows."
    )
    pool_last: bool = Field(False, description="Pool after the last block, too.")
    batch_norm: bool = Field(True, description="Batch normalization after each convolution.")
    norm_scale: bool = Field(True, description="Learned scale of batch normalization.")
    top: Literal["global_average", "global_max", "flatten"] = Field(
        "global_average", description="Global pooling, or flattening, of the last feature maps."
    )
    dense_units: Annotated[
        list[Annotated[int, Field(ge=1, le=65_536)]], BeforeValidator(split_list)
    ] = Field([], description="Units of the hidden dense layers, such as 128 or 256,128.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout rate before each dense layer.")
    l1: float = Field(0.0, ge=0, description="L1 regularization of the kernels.")
    l2: float = Field(0.0, ge=0, description="L2 regularization of the kernels.")


class TrainingConfig(Section):
    """Epochs, batch size and loss."""

    epochs: Auto | Annotated[int, Field(ge=1, le=100_000)] = Field(
        "auto", description="Number of epochs."
    )
    minutes: Minutes = Field(
        None,
        description="Minutes for the whole run, with start and final evaluation, instead of a "
        "number of epochs.",
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Batch size."
    )
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = Field(
        "auto",
        description="Epochs without improvement before early stopping; 0: no early stopping.",
    )
    perfect_loss: float = Field(
        0.02,
        ge=0,
        description="Stop after 5 epochs in a row with val accuracy 1 and a val loss below this; "
        "0: never.",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing factor.")
    balance: Balance = Field("none", description="Handling of class imbalance.")
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Gamma of the focal loss.")
    trace: bool = Field(
        False,
        description="Record gradients, updates, dead units and activations of each layer, and how "
        "sure the network is of each training image.",
    )
    calibrate: bool = Field(
        True,
        description="Calibrate probabilities by temperature scaling on the val split, and index "
        "training images for the column familiar of predict.",
    )


class TrainAugmentConfig(AugmentConfig):
    """Random augmentation of training images; operations that are not set follow the preset."""

    alternate_flips: bool = Field(
        False,
        description="With a flip probability of 0.5: flip each image in every second epoch instead "
        "of at random.",
    )


class TrainConfig(CommandConfig):
    """All settings of `cnnclf train`."""

    command: ClassVar[str] = "train"
    presets: ClassVar[Presets] = MODEL_PRESETS

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    augment: TrainAugmentConfig = TrainAugmentConfig()
    runtime: RuntimeConfig = RuntimeConfig()
