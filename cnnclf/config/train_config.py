"""Every setting of `cnnclf train`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.presets import MODEL_PRESETS
from cnnclf.config.sections import (
    SECONDS,
    VALUE_RANGE,
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
    setting,
    split_list,
)


class DataConfig(Section):
    """Preprocessing of the images."""

    image_size: Size = setting(
        "auto", "Input size of the network, height x width, such as 64 or 48x64."
    )
    color: Literal["auto", "rgb", "gray"] = setting("auto", "Color mode of the input.")
    fit: Literal["auto", "crop", "pad", "squash"] = setting(
        "auto", "How images are fitted to the input size."
    )
    range: ValueRange = VALUE_RANGE
    seconds: Seconds = SECONDS
    cache: Cache = setting("disk", "Where decoded images are cached.")


class ModelConfig(Section):
    """Architecture of the network."""

    preset: Literal["auto", "default", "textbook", "tiny", "deep", "fast"] = setting(
        "auto",
        "Predefined architecture; other options override it. auto: fast for many small "
        "images, unless other options of the network or optimizer are given; else default.",
    )
    whiten: int = setting(
        0,
        "Window of a fixed first convolution that whitens patches of the training images; 0: none.",
        ge=0,
        le=5,
    )
    blocks: Auto | Annotated[int, Field(ge=1, le=12)] = setting(
        "auto",
        "Number of convolution blocks, each followed by pooling; auto: until feature maps are "
        "about 7x7.",
    )
    filters: Counts = setting(
        "auto", "Filters per block, such as 32,64,96; with blocks, 32 is for each block."
    )
    convs_per_block: Counts = setting(
        "auto", "Convolutions per block, such as 2, or 1,2,1 for three blocks."
    )
    initial_kernels: Literal["random", "identity"] = setting(
        "random", "Kernels to start with; identity: convolutions pass their input on at first."
    )
    kernel_size: int = setting(3, "Kernel size of the convolutions.", ge=1, le=31)
    stride: int = setting(1, "Stride of the first convolution of each block.", ge=1, le=8)
    padding: Literal["same", "valid"] = setting("same", "Padding of the convolutions.")
    activation: Literal["relu", "leaky_relu", "elu", "selu", "gelu", "swish", "tanh", "sigmoid"] = (
        setting("relu", "Activation of convolutions and dense layers.")
    )
    pooling: Literal["max", "average", "none"] = setting("max", "Pooling after each block.")
    pool_size: int = setting(2, "Size of the pooling window.", ge=1, le=16)
    pool_stride: Auto | Annotated[int, Field(ge=1, le=16)] = setting(
        "auto", "Stride of the pooling window; auto: its size."
    )
    pool_after: Literal["last", "first"] = setting(
        "last", "Convolution of each block that pooling follows."
    )
    pool_last: bool = setting(False, "Pool after the last block, too.")
    batch_norm: bool = setting(True, "Batch normalization after each convolution.")
    norm_scale: bool = setting(True, "Learned scale of batch normalization.")
    top: Literal["global_average", "global_max", "flatten"] = setting(
        "global_average", "Global pooling, or flattening, of the last feature maps."
    )
    dense_units: Annotated[
        list[Annotated[int, Field(ge=1, le=65_536)]], BeforeValidator(split_list)
    ] = setting([], "Units of the hidden dense layers, such as 128 or 256,128.")
    dropout: float = setting(0.1, "Dropout rate before each dense layer.", ge=0, lt=1)
    l1: float = setting(0.0, "L1 regularization of the kernels.", ge=0)
    l2: float = setting(0.0, "L2 regularization of the kernels.", ge=0)


class TrainingConfig(Section):
    """Epochs, batch size and loss."""

    epochs: Auto | Annotated[int, Field(ge=1, le=100_000)] = setting("auto", "Number of epochs.")
    minutes: Minutes = setting(
        None,
        "Minutes for the whole run, with start and final evaluation, instead of a "
        "number of epochs.",
        unset="none",
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = setting("auto", "Batch size.")
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = setting(
        "auto", "Epochs without improvement before early stopping; 0: no early stopping."
    )
    perfect_loss: float = setting(
        0.02,
        "Stop after 5 epochs in a row with val accuracy 1 and a val loss, without --l1 and --l2, "
        "below this; 0: never.",
        ge=0,
    )
    label_smoothing: float = setting(0.0, "Label smoothing factor.", ge=0, lt=1)
    balance: Balance = setting("none", "Handling of class imbalance.")
    focal_gamma: float = setting(2.0, "Gamma of the focal loss.", ge=0, le=10)
    trace: bool = setting(
        False,
        "Record gradients, updates, dead units and activations of each layer, and how "
        "sure the network is of each training image.",
    )
    calibrate: bool = setting(
        True,
        "Calibrate probabilities by temperature scaling on the val split, and index "
        "training images for the column familiar of predict.",
    )


class TrainAugmentConfig(AugmentConfig):
    """Random augmentation of training images; operations that are not set follow the preset."""

    alternate_flips: bool = setting(
        False,
        "With a flip probability of 0.5: flip each image in every second epoch instead "
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
