"""Every setting of `cnnclf finetune`."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cnnclf.config.sections import (
    AugmentConfig,
    Auto,
    Cache,
    CommandConfig,
    HeadPooling,
    RuntimeConfig,
    Schedule,
    Section,
    Size,
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
    """How images reach the backbone, which always sees colors."""

    image_size: Size = Field(
        "auto", description="Height x width the backbone sees; auto: what it was trained on."
    )
    fit: Literal["auto", "crop", "pad", "squash"] = Field(
        "auto", description="How an image of another shape is brought to the size."
    )
    cache: Cache = Field("disk", description="Where decoded images are kept between epochs.")


class BackboneConfig(Section):
    """The trained network to start from."""

    name: str = Field("efficientnet-lite0", description="A name that 'cnnclf backbones' lists.")
    weights: str = Field(
        "imagenet",
        description="imagenet, none, a file (.keras, .weights.h5, .h5), or an earlier run.",
    )


class HeadConfig(Section):
    """The new end of the network, and the first phase, which trains it alone."""

    pooling: HeadPooling = Field(
        "global_average", description="Pooling of the last feature maps into a vector."
    )
    units: int = Field(0, ge=0, le=65_536, description="Units of a hidden dense layer; 0: none.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before each dense layer.")
    epochs: int = Field(30, ge=1, le=100_000, description="Epochs of the first phase.")
    search: bool = Field(
        True, description="Try learning rates and weight decays on cached features first."
    )
    search_rates: Rates = Field([1e-3, 3e-3, 1e-2], description="Learning rates that are tried.")
    search_decays: Decays = Field([0.01, 0.3], description="Weight decays that are tried.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Highest learning rate of the first phase."
    )
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto", description="Decoupled weight decay of the first phase."
    )
    schedule: Schedule = Field("cosine", description="How its learning rate changes.")
    warmup: float = Field(0.07, ge=0, le=0.9, description="Part of it in which the rate rises.")


class TailConfig(Section):
    """The second phase: the last stages of the backbone, and the head, at a smaller rate."""

    unfreeze: Annotated[str, BeforeValidator(_number_as_text)] = Field(
        "auto",
        description="Stages to train: none, all, a stage and all after it, or the last N.",
    )
    epochs: int = Field(10, ge=1, le=100_000, description="Epochs of the second phase.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Highest learning rate of the second phase."
    )
    layer_decay: Auto | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto",
        description="What each stage's rate is, as a part of the next one's nearer to the head.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Its decoupled weight decay.")
    clip_norm: float = Field(1.0, ge=0, description="Largest global gradient norm; 0: no limit.")
    schedule: Schedule = Field("cosine", description="How its learning rate changes.")
    warmup: float = Field(0.07, ge=0, le=0.9, description="Part of it in which the rate rises.")


class FeaturesConfig(Section):
    """What the frozen layers give, computed once per image and kept on disk."""

    cache: bool = Field(True, description="Compute the frozen layers once, not in every epoch.")
    fallback: bool = Field(
        False, description="If the disk has no room for them, compute them in every epoch instead."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="What OpenVINO computes them in; auto: bfloat16 where it is fast."
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="Numbers that are kept; float32 takes twice the room."
    )
    views: int = Field(
        1,
        ge=1,
        le=64,
        description="Versions of each training image; those after the first are augmented.",
    )


class FinetuneOptimizerConfig(Section):
    """How weights are changed, in both phases."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("adamw", description="Optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of weights that is kept; 0: none."
    )


class FinetuneTrainingConfig(Section):
    """In which portions and against which loss, in both phases."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Images per step."
    )
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = Field(
        "auto", description="Epochs of a phase without a better result before it ends; 0: never."
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing.")
    calibrate: bool = Field(
        True, description="Fit a temperature on val, so that probabilities mean what they say."
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
