"""What the settings of several commands share: types of values and whole sections."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Auto = Literal["auto"]
Presets = dict[str, dict[str, dict[str, Any]]]
"""What each preset changes, as {name: {section: {key: value}}}; the rest is the default."""


def split_list(value: object) -> object:
    """Let "32,64" stand for [32, 64], and 32 for [32], as typed in a terminal."""
    if isinstance(value, str) and value != "auto":
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    return value


def _split_size(value: object) -> object:
    """Let "64" stand for [64, 64] and "48x64" for [48, 64] (height, width)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value, value]
    if isinstance(value, str) and value != "auto":
        parts = value.lower().split("x")
        return [*parts, *parts] if len(parts) == 1 else parts
    return value


Size = Annotated[
    Auto | tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]],
    BeforeValidator(_split_size),
]
Schedule = Literal["constant", "cosine", "one_cycle", "plateau"]
Counts = Annotated[Auto | list[Annotated[int, Field(ge=1, le=8192)]], BeforeValidator(split_list)]


class Section(BaseModel):
    """A group of settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class CommandConfig(Section):
    """All settings of a command, section by section.

    Attributes:
        command: Its name on the command line.
        presets: What the setting `model.preset` may change.
    """

    command: ClassVar[str]
    presets: ClassVar[Presets] = {}


class OptimizerConfig(Section):
    """How weights are changed."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("adamw", description="Optimizer.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Highest learning rate of the schedule."
    )
    schedule: Schedule = Field("cosine", description="How the learning rate changes.")
    warmup: float = Field(
        0.07, ge=0, le=0.9, description="Part of all steps in which the learning rate rises."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Decoupled weight decay.")
    clip_norm: float = Field(0.0, ge=0, description="Largest global gradient norm; 0: no limit.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of weights that is kept; 0: none."
    )


class AugmentConfig(Section):
    """Random changes of training images; an operation left out is as the preset says."""

    preset: Literal["none", "light", "medium", "strong"] = Field(
        "light", description="A set of operations."
    )
    flip: float | None = Field(None, ge=0, le=1, description="Probability of a left-right flip.")
    rotate: float | None = Field(None, ge=0, le=180, description="Largest rotation, degrees.")
    translate: float | None = Field(None, ge=0, le=0.5, description="Largest shift, part of side.")
    zoom: float | None = Field(None, ge=0, le=0.9, description="Largest zoom in or out.")
    crop: float | None = Field(None, ge=0, le=0.95, description="Largest part of area cropped off.")
    brightness: float | None = Field(None, ge=0, le=1, description="Largest change of brightness.")
    contrast: float | None = Field(None, ge=0, le=1, description="Largest change of contrast.")
    hue: float | None = Field(None, ge=0, le=0.5, description="Largest turn of the color circle.")
    erasing: float | None = Field(None, ge=0, le=1, description="Probability of an erased patch.")
    randaugment: float | None = Field(None, ge=0, le=10, description="RandAugment's magnitude.")
    mixup: float | None = Field(None, ge=0, le=2, description="Alpha of MixUp.")
    cutmix: float | None = Field(None, ge=0, le=2, description="Alpha of CutMix.")


class RuntimeConfig(Section):
    """Where and how exactly it runs."""

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of everything random.")
    deterministic: bool = Field(False, description="The same numbers each time, slower on a GPU.")
    device: (
        Literal["auto", "cpu", "gpu", "gpu:all"] | Annotated[str, Field(pattern=r"^gpu:[0-9]+$")]
    ) = Field("auto", description="auto, cpu, gpu, gpu:all or gpu:N.")
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto", description="Numbers the network computes with."
    )
    threads: Auto | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Threads that decode and gather images."
    )


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the words a setting may take, or () if it takes any value."""
    if getattr(annotation, "__origin__", None) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return ()
