"""Every setting of `cnnclf finetune`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.sections import (
    SECONDS,
    VALUE_RANGE,
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
    setting,
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

    image_size: Size = setting(
        "auto", "Input size of the backbone, height x width; auto: the size it was trained at."
    )
    fit: Literal["auto", "crop", "pad", "squash"] = setting(
        "auto", "How images are fitted to the input size."
    )
    range: ValueRange = VALUE_RANGE
    seconds: Seconds = SECONDS
    cache: Cache = setting("disk", "Where decoded images are cached.")


class BackboneConfig(Section):
    """The pretrained network."""

    name: str = setting("efficientnet-lite0", "Backbone, as listed by 'cnnclf backbones'.")
    weights: str = setting(
        "imagenet",
        "Initial weights: imagenet, none, a file (.keras, .weights.h5, .h5) or an earlier run.",
    )


class HeadConfig(Section):
    """The new classification head, and the first phase, which trains only the head."""

    pooling: HeadPooling = setting("global_average", "Global pooling of the last feature maps.")
    units: int = setting(0, "Units of a hidden dense layer; 0: no hidden layer.", ge=0, le=65_536)
    dropout: float = setting(0.2, "Dropout rate before each dense layer.", ge=0, lt=1)
    epochs: int = setting(30, "Number of epochs of the first phase.", ge=1, le=100_000)
    search: bool = setting(
        True, "Search the learning rate and weight decay on cached features first."
    )
    search_rates: Rates = setting([1e-3, 3e-3, 1e-2], "Learning rates to search.")
    search_decays: Decays = setting([0.01, 0.3], "Weight decays to search.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = setting(
        "auto", "Peak learning rate of the first phase."
    )
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = setting(
        "auto", "Decoupled weight decay of the first phase."
    )
    schedule: Schedule = setting("cosine", "Learning rate schedule of the first phase.")
    warmup: float = setting(
        0.07, "Fraction of its steps used for learning rate warmup.", ge=0, le=0.9
    )


class TailConfig(Section):
    """The second phase, which also trains the last stages of the backbone, at a lower rate."""

    unfreeze: Annotated[str, BeforeValidator(_number_as_text)] = setting(
        "auto", "Stages to train: none, all, a stage and all after it, or the last N."
    )
    epochs: Auto | Annotated[int, Field(ge=1, le=100_000)] = setting(
        "auto", "Number of epochs of the second phase."
    )
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = setting(
        "auto", "Peak learning rate of the second phase."
    )
    layer_decay: Auto | Annotated[float, Field(gt=0, le=1)] = setting(
        "auto", "Learning rate of each stage as a fraction of that of the next stage."
    )
    weight_decay: float = setting(0.01, "Decoupled weight decay of the second phase.", ge=0, le=1)
    clip_norm: float = setting(1.0, "Maximum global gradient norm; 0: no clipping.", ge=0)
    schedule: Schedule = setting("cosine", "Learning rate schedule of the second phase.")
    warmup: float = setting(
        0.07, "Fraction of its steps used for learning rate warmup.", ge=0, le=0.9
    )
    interpolate: bool = setting(
        True,
        "Also try weights between those of the two phases; keep those with the lowest val loss.",
    )


class FeaturesConfig(Section):
    """Outputs of the frozen layers, computed once per image and cached on disk."""

    cache: bool = setting(True, "Compute the frozen layers once instead of in every epoch.")
    fallback: bool = setting(
        False, "Compute the frozen layers in every epoch if the disk is too small."
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Numeric precision of OpenVINO; auto: bfloat16 on CPUs that support it."
    )
    dtype: Literal["float16", "float32"] = setting(
        "float16", "Data type of cached features; float32 takes twice the space."
    )
    views: int = setting(
        1, "Versions of each training image; all but the first are augmented.", ge=1, le=64
    )


class FinetuneOptimizerConfig(Section):
    """Optimizer of both phases."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = setting("adamw", "Optimizer.")
    momentum: float = setting(0.9, "Momentum of sgd and rmsprop.", ge=0, lt=1)
    ema: float = setting(
        0.0, "Decay of the moving average of the weights; 0: no averaging.", ge=0, lt=1
    )


class FinetuneTrainingConfig(Section):
    """Time, batch size and loss of both phases."""

    minutes: Minutes = setting(
        None,
        "Minutes for the whole run, with start and final evaluation, instead of a "
        "number of epochs of the second phase.",
        unset="none",
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = setting("auto", "Batch size.")
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = setting(
        "auto", "Epochs without improvement before a phase stops early; 0: no early stopping."
    )
    perfect_loss: float = setting(
        0.05,
        "Stop after 5 epochs in a row with val accuracy 1 and a val loss below this; 0: never.",
        ge=0,
    )
    label_smoothing: float = setting(0.1, "Label smoothing factor.", ge=0, lt=1)
    balance: Balance = setting("none", "Handling of class imbalance, in both phases.")
    focal_gamma: float = setting(2.0, "Gamma of the focal loss.", ge=0, le=10)
    trace: bool = setting(
        False, "Record gradients, updates, dead units and activations of the layers of each phase."
    )
    calibrate: bool = setting(
        True, "Calibrate probabilities by temperature scaling on the val split."
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
