"""What the settings of several commands share: types of values and whole sections."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


@dataclass(frozen=True)
class Typed:
    """How a value is typed, where its type does not show it; part of an annotation.

    Args:
        metavar: What the help page shows for the value.
        words: What is expected, in words.
        choices: Words that are offered when an option is completed.
    """

    metavar: str
    words: str
    choices: tuple[str, ...] = ()


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


def _split_range(value: object) -> object:
    """Let "0:4095" stand for [0, 4095]."""
    return value.split(":") if isinstance(value, str) and ":" in value else value


def _check_range(value: str | tuple[float, float]) -> str | tuple[float, float]:
    if not isinstance(value, str) and not (
        math.isfinite(value[1] - value[0]) and value[0] < value[1]
    ):
        raise ValueError("the first number must be below the second")
    return value


Seconds = Annotated[
    Auto | Annotated[float, Field(gt=0, le=160)],
    Typed("SECONDS", "auto, or seconds of sound above 0 and at most 160"),
]


def _none_if_auto(value: object) -> object:
    return None if value == "auto" else value


def _replace(old_names: dict[str, str]) -> BeforeValidator:
    """Let plans of earlier versions, and those who know Keras's names, keep their words."""
    return BeforeValidator(
        lambda value: old_names.get(value, value) if type(value) is str else value
    )


Size = Annotated[
    Auto | tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]],
    BeforeValidator(_split_size),
    Typed("SIZE", "auto or a size such as 64 or 48x64 (height x width), 1 to 4096 pixels each"),
]
ValueRange = Annotated[
    Auto | Literal["type"] | tuple[float, float],
    BeforeValidator(_split_range),
    AfterValidator(_check_range),
    Typed(
        "auto|type|LOW:HIGH",
        "auto, type or a range such as 0:4095",
        ("auto", "type"),
    ),
]
Schedule = Literal["constant", "cosine", "linear", "one_cycle", "plateau"]
Counts = Annotated[Auto | list[Annotated[int, Field(ge=1, le=8192)]], BeforeValidator(split_list)]
Cache = Literal["disk", "ram", "none"]
Balance = Literal["none", "weights", "sample", "focal"]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    _replace({"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}),
]
HeadPooling = Annotated[
    Literal["global_average", "global_max", "both"],
    _replace({"avg": "global_average", "max": "global_max"}),
]
Device = Annotated[
    str,
    Field(pattern=r"^(auto|cpu|gpu|gpu:all|gpu:[0-9]+)$"),
    Typed(
        "auto|cpu|gpu|gpu:all|gpu:N",
        "auto, cpu, gpu, gpu:all or gpu:N (N = 0, 1, ...)",
        ("auto", "cpu", "gpu", "gpu:all"),
    ),
]
Minutes = Annotated[float, Field(gt=0, le=100_000)] | None
Views = Literal["none", "mirror", "shifts"]
# Of commands that use a model: None, typed "auto", leaves the choice to the library.
EnginePrecision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16", "int8"],
    _replace({"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}),
]
Threads = Annotated[
    Annotated[int, Field(ge=1, le=1024)] | None,
    BeforeValidator(_none_if_auto),
    Typed("N", "auto or a whole number from 1 to 1,024", ("auto",)),
]
BatchSize = Annotated[
    Annotated[int, Field(ge=1, le=65_536)] | None,
    BeforeValidator(_none_if_auto),
    Typed("N", "auto or a whole number from 1 to 65,536", ("auto",)),
]


def setting(default: Any, text: str, *, unset: str = "", metavar: str = "", **limits: Any) -> Any:
    """Declare a setting that need not be given.

    Args:
        default: Its value then.
        text: The help of its option.
        unset: What None stands for, in words.
        metavar: What stands for its value in the help, if its type does not say enough.
        **limits: `ge`, `gt`, `le` and `lt`, as for `pydantic.Field`.
    """
    given = {"unset": unset, "metavar": metavar}
    words: dict[str, Any] = {name: word for name, word in given.items() if word}
    return Field(default, description=text, json_schema_extra=words or None, **limits)


VALUE_RANGE: Any = setting(
    "auto",
    "Values of images of more than 8 bits that become black and white; auto: the "
    "bits that training images of 16 bits use; type: all 16 bits.",
)
SECONDS: Any = setting(
    "auto",
    "Seconds of a sound that the network sees, from its middle; auto: as long as "
    "95 % of the training sounds, at most 10.",
)


class Section(BaseModel):
    """A group of settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)


class CommandConfig(Section):
    """All settings of a command: section by section, or, where they are few, one by one.

    Attributes:
        command: Its name on the command line.
        presets: What the setting `model.preset` may change.
    """

    command: ClassVar[str]
    presets: ClassVar[Presets] = {}

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            from cnnclf.config.loading import refuse_values

            raise refuse_values(error, values, kind=type(self)) from None

    # Checking values that come from elsewhere does not pass through here.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __or__(self, changes: Mapping[str, object]) -> Self:
        """Return the settings with some of them changed, by dotted key; see `change_config`."""
        from cnnclf.config.loading import change_config

        return change_config(self, changes)


class OptimizerConfig(Section):
    """Optimizer and learning rate schedule."""

    name: Auto | Literal["sgd", "adam", "adamw", "rmsprop", "muon"] = setting(
        "auto",
        "Optimizer; auto: muon, or adamw if a learning rate, weight decay, l1 or l2 is given.",
    )
    learning_rate: Auto | Literal["find"] | Annotated[float, Field(gt=0, le=10)] = setting(
        "auto", "Peak learning rate; find: by a range test first, as cnnclf lr-find does."
    )
    schedule: Schedule = setting("cosine", "Learning rate schedule.")
    warmup: float = setting(
        0.07, "Fraction of all steps used for learning rate warmup.", ge=0, le=0.9
    )
    momentum: Auto | Annotated[float, Field(ge=0, lt=1)] = setting(
        "auto", "Momentum of sgd, rmsprop and muon; auto: 0.9, and 0.6 with muon."
    )
    weight_decay: float = setting(0.05, "Decoupled weight decay.", ge=0, le=1)
    clip_norm: float = setting(0.0, "Maximum global gradient norm; 0: no clipping.", ge=0)
    ema: float = setting(
        0.0, "Decay of the moving average of the weights; 0: no averaging.", ge=0, lt=1
    )


class AugmentConfig(Section):
    """Random augmentation of training images; operations that are not set follow the preset."""

    preset: Literal["none", "light", "medium", "strong", "sound"] = setting(
        "light", "Augmentation preset; other options override it. That of sounds is sound."
    )
    flip: float | None = setting(None, "Probability of a horizontal flip.", ge=0, le=1)
    rotate: float | None = setting(None, "Maximum rotation in degrees.", ge=0, le=180)
    translate: float | None = setting(
        None, "Maximum shift (fraction of the side length).", ge=0, le=0.5
    )
    time_shift: float | None = setting(
        None, "Maximum shift left or right (fraction of the width).", ge=0, le=0.5
    )
    zoom: float | None = setting(
        None, "Maximum zoom in or out (fraction of the size).", ge=0, le=0.9
    )
    crop: float | None = setting(
        None, "Maximum fraction of the area removed by a random crop.", ge=0, le=0.95
    )
    brightness: float | None = setting(None, "Maximum change of brightness.", ge=0, le=1)
    contrast: float | None = setting(None, "Maximum change of contrast.", ge=0, le=1)
    hue: float | None = setting(
        None, "Maximum hue shift (fraction of the color wheel).", ge=0, le=0.5
    )
    erasing: float | None = setting(None, "Probability of random erasing.", ge=0, le=1)
    time_mask: float | None = setting(
        None, "Maximum fraction of the width that is blackened.", ge=0, le=0.9
    )
    frequency_mask: float | None = setting(
        None, "Maximum fraction of the height that is blackened.", ge=0, le=0.9
    )
    randaugment: float | None = setting(None, "Magnitude of RandAugment.", ge=0, le=10)
    mixup: float | None = setting(None, "Alpha of MixUp.", ge=0, le=2)
    cutmix: float | None = setting(None, "Alpha of CutMix.", ge=0, le=2)


class RuntimeConfig(Section):
    """Device, numeric precision and reproducibility."""

    seed: int = setting(0, "Random seed.", ge=0, lt=2**32)
    deterministic: bool = setting(False, "Use deterministic operations; slower on a GPU.")
    device: Device = setting("auto", "Device to compute on; auto: a GPU if one can be used.")
    precision: Precision = setting(
        "auto",
        "Numeric precision of the computation; auto: reduced on GPUs that support it, "
        "and in train on CPUs where it is measured to be faster.",
    )
    threads: Auto | Annotated[int, Field(ge=1, le=1024)] = setting(
        "auto", "CPU threads that decode images and assemble batches."
    )
