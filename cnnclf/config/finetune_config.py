"""Every setting of `cnnclf finetune`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.sections import (
    AugmentConfig,
    Auto,
    Balance,
    Cache,
    CommandConfig,
    HeadPooling,
    Minutes,
    RuntimeConfig,
    Schedule,
    Seconds,
    Section,
    Size,
    ValueRange,
    split_list,
)

Rates = Annotated[
    list[Annotated[float, Field(gt=0, le=10)]], Field(min_length=1), BeforeValidator(split_list)
]
Decays = Annotated[
    list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1), BeforeValidator(split_list)
]


def _number_as_text(value: object) -> object:
    """Let a number of stages be written without quotes in a file or with --set."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class BackboneDataConfig(Section):
    """Preprocessing of the images; the input of the backbone is always RGB."""

    image_size: Size = Field(
        "auto",
        description="Input size of the backbone, height x width; auto: the size it was trained at.",
    )
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


class BackboneConfig(Section):
    """The pretrained network."""

    name: str = Field(
        "efficientnet-lite0", description="Backbone, as listed by 'cnnclf backbones'."
    )
    weights: str = Field(
        "imagenet",
        description="Initial weights: imagenet, none, a file (.keras, .weights.h5, .h5) or an "
        "earlier run.",
    )


class HeadConfig(Section):
    """The new classification head, and the first phase, which trains only the head."""

    pooling: HeadPooling = Field(
        "global_average", description="Global pooling of the last feature maps."
    )
    units: int = Field(
        0, ge=0, le=65_536, description="Units of a hidden dense layer; 0: no hidden layer."
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout rate before each dense layer.")
    epochs: int = Field(30, ge=1, le=100_000, description="Number of epochs of the first phase.")
    search: bool = Field(
        True, description="Search the learning rate and weight decay on cached features first."
    )
    search_rates: Rates = Field([1e-3, 3e-3, 1e-2], description="Learning rates to search.")
    search_decays: Decays = Field([0.01, 0.3], description="Weight decays to search.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Peak learning rate of the first phase."
    )
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto", description="Decoupled weight decay of the first phase."
    )
    schedule: Schedule = Field("cosine", description="Learning rate schedule of the first phase.")
    warmup: float = Field(
        0.07, ge=0, le=0.9, description="Fraction of its steps used for learning rate warmup."
    )


class TailConfig(Section):
    """The second phase, which also trains the last stages of the backbone, at a lower rate."""

    unfreeze: Annotated[str, BeforeValidator(_number_as_text)] = Field(
        "auto",
        description="Stages to train: none, all, a stage and all after it, or the last N.",
    )
    epochs: int = Field(10, ge=1, le=100_000, description="Number of epochs of the second phase.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Peak learning rate of the second phase."
    )
    layer_decay: Auto | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto",
        description="Learning rate of each stage as a fraction of that of the next stage.",
    )
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="Decoupled weight decay of the second phase."
    )
    clip_norm: float = Field(1.0, ge=0, description="Maximum global gradient norm; 0: no clipping.")
    schedule: Schedule = Field("cosine", description="Learning rate schedule of the second phase.")
    warmup: float = Field(
        0.07, ge=0, le=0.9, description="Fraction of its steps used for learning rate warmup."
    )
    interpolate: bool = Field(
        True,
        description="Also try weights between those of the two phases, and keep the best on val.",
    )


class FeaturesConfig(Section):
    """Outputs of the frozen layers, computed once per image and cached on disk."""

    cache: bool = Field(
        True, description="Compute the frozen layers once instead of in every epoch."
    )
    fallback: bool = Field(
        False,
        description="Compute the frozen layers in every epoch if the disk is too small.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Numeric precision of OpenVINO; auto: bfloat16 on CPUs that support it.",
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="Data type of cached features; float32 takes twice the space."
    )
    views: int = Field(
        1,
        ge=1,
        le=64,
        description="Versions of each training image; all but the first are augmented.",
    )


class FinetuneOptimizerConfig(Section):
    """Optimizer of both phases."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("adamw", description="Optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of the weights; 0: no averaging."
    )


class FinetuneTrainingConfig(Section):
    """Time, batch size and loss of both phases."""

    minutes: Minutes = Field(
        None,
        description="Minutes for the whole run, with start and final evaluation, instead of a "
        "number of epochs of the second phase.",
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Batch size."
    )
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = Field(
        "auto",
        description="Epochs without improvement before a phase stops early; 0: no early stopping.",
    )
    perfect_loss: float = Field(
        0.05,
        ge=0,
        description="Stop after 5 epochs in a row with val accuracy 1 and a val loss below this; "
        "0: never.",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing factor.")
    balance: Balance = Field("none", description="Handling of class imbalance, in both phases.")
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Gamma of the focal loss.")
    trace: bool = Field(
        False,
        description="Record gradients, updates, dead units and activations of the layers of each "
        "phase.",
    )
    calibrate: bool = Field(
        True, description="Calibrate probabilities by temperature scaling on the val split."
    )


class FinetuneConfig(CommandConfig):
    """All settings of `cnnclf finetune`."""

    command: ClassVar[str] = "finetune"

    data: BackboneDataConfig = BackboneDataConfig()
    backbone: BackboneConfig = BackboneConfig()
    head: HeadConfig = HeadConfig()
    tail: TailConfig = TailConfig()
    features: FeaturesConfig = FeaturesConfig()
    optimizer: FinetuneOptimizerConfig = FinetuneOptimizerConfig()
    training: FinetuneTrainingConfig = FinetuneTrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    runtime: RuntimeConfig = RuntimeConfig()
