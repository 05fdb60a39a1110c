"""Every setting of a run, its default, range and meaning: stated here and nowhere else.

The command line's options, the TOML file, `--set a.b=c` and the settings page of the documentation
are derived from these models. Layers, from weakest to strongest: the defaults here, the model
preset, the file, `--set`, the options. A value "auto" is resolved by `training/plan.py`, which
writes down the reason.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cnnclf.errors import ConfigError

Auto = Literal["auto"]


def _split_list(value: object) -> object:
    """Let "32,64" stand for [32, 64], and 32 for [32], as typed in a terminal."""
    if isinstance(value, str) and value != "auto":
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
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
Counts = Annotated[Auto | list[Annotated[int, Field(ge=1, le=8192)]], BeforeValidator(_split_list)]


class Section(BaseModel):
    """A group of settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(Section):
    """How pictures reach the network."""

    image_size: Size = Field("auto", description="Height x width the network sees: 64 or 48x64.")
    color: Literal["auto", "rgb", "grey"] = Field("auto", description="Colours the network sees.")
    fit: Literal["auto", "crop", "pad", "squash"] = Field(
        "auto", description="How a picture of another shape is brought to the size."
    )
    cache: Literal["disk", "ram", "none"] = Field(
        "disk", description="Where decoded pictures are kept between epochs."
    )


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
        list[Annotated[int, Field(ge=1, le=65_536)]], BeforeValidator(_split_list)
    ] = Field([], description="Hidden dense layers before the output: 128 or 256,128.")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout before the output and dense layers."
    )
    l1: float = Field(0.0, ge=0, description="L1 penalty on kernels.")
    l2: float = Field(0.0, ge=0, description="L2 penalty on kernels.")


class OptimizerConfig(Section):
    """How weights are changed."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("adamw", description="Optimizer.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Highest learning rate of the schedule."
    )
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = Field(
        "cosine", description="How the learning rate changes."
    )
    warmup: float = Field(
        0.07, ge=0, le=0.9, description="Part of all steps in which the learning rate rises."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Decoupled weight decay.")
    clip_norm: float = Field(0.0, ge=0, description="Largest global gradient norm; 0: no limit.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of weights that is kept; 0: none."
    )


class TrainingConfig(Section):
    """How long, in which portions and against which loss."""

    epochs: Auto | Annotated[int, Field(ge=1, le=100_000)] = Field(
        "auto", description="Passes over the training pictures."
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Pictures per step."
    )
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = Field(
        "auto", description="Epochs without a better result before stopping; 0: never stop early."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing.")
    balance: Literal["none", "weights", "sample", "focal"] = Field(
        "none", description="What is done about classes of unequal size."
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Gamma of the focal loss.")


class AugmentConfig(Section):
    """Random changes of training pictures; an operation left out is as the preset says."""

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
    hue: float | None = Field(None, ge=0, le=0.5, description="Largest turn of the colour circle.")
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
        "auto", description="Threads that decode and gather pictures."
    )


class TrainConfig(Section):
    """All settings of `cnnclf train`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    runtime: RuntimeConfig = RuntimeConfig()


class BackboneDataConfig(Section):
    """How pictures reach the backbone, which always sees colours."""

    image_size: Size = Field(
        "auto", description="Height x width the backbone sees; auto: what it was trained on."
    )
    fit: Literal["auto", "crop", "pad", "squash"] = Field(
        "auto", description="How a picture of another shape is brought to the size."
    )
    cache: Literal["disk", "ram", "none"] = Field(
        "disk", description="Where decoded pictures are kept."
    )


class BackboneConfig(Section):
    """The trained network to start from."""

    name: str = Field("efficientnet-lite0", description="A name that 'cnnclf backbones' lists.")
    weights: str = Field(
        "imagenet", description="imagenet, none, or a file of Keras weights (.h5, .weights.h5)."
    )


class HeadConfig(Section):
    """The new end of the network, and the first phase, which trains it alone."""

    pooling: Literal["avg", "max", "both"] = Field(
        "avg", description="From the last feature maps to a vector."
    )
    units: int = Field(0, ge=0, le=65_536, description="Units of a hidden dense layer; 0: none.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before each dense layer.")
    epochs: int = Field(30, ge=1, le=100_000, description="Epochs of the first phase.")
    search: bool = Field(
        True, description="Try learning rates and weight decays on cached features first."
    )
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = Field(
        "auto", description="Highest learning rate of the first phase."
    )
    weight_decay: Auto | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto", description="Decoupled weight decay of the first phase."
    )


class TailConfig(Section):
    """The second phase: the last stages of the backbone, and the head, at a smaller rate."""

    unfreeze: str = Field(
        "auto", description="What is trained: none, all, a stage and all behind it, or N stages."
    )
    epochs: int = Field(10, ge=1, le=100_000, description="Epochs of the second phase.")
    learning_rate: float = Field(
        3e-4, gt=0, le=10, description="Highest learning rate of the second phase."
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Its decoupled weight decay.")


class FeaturesConfig(Section):
    """What the frozen layers give, computed once per picture and kept on disk."""

    cache: bool = Field(True, description="Compute the frozen layers once, not in every epoch.")
    views: int = Field(
        1, ge=1, le=64, description="Versions of each training picture; from 2 on, augmented ones."
    )


class FinetuneTrainingConfig(Section):
    """In which portions and against which loss, in both phases."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=65_536)] = Field(
        "auto", description="Pictures per step."
    )
    patience: Auto | Annotated[int, Field(ge=0, le=100_000)] = Field(
        "auto", description="Epochs of a phase without a better result before it ends; 0: never."
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing.")


class FinetuneConfig(Section):
    """All settings of `cnnclf finetune`."""

    data: BackboneDataConfig = BackboneDataConfig()
    backbone: BackboneConfig = BackboneConfig()
    head: HeadConfig = HeadConfig()
    tail: TailConfig = TailConfig()
    features: FeaturesConfig = FeaturesConfig()
    training: FinetuneTrainingConfig = FinetuneTrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    runtime: RuntimeConfig = RuntimeConfig()


MODEL_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "textbook": {
        "model": {
            "blocks": 1,
            "filters": [32],
            "convs_per_block": [1],
            "padding": "valid",
            "pool_last": True,
            "batch_norm": False,
            "top": "flatten",
            "dense_units": [128],
            "dropout": 0.0,
        },
    },
    "tiny": {"model": {"blocks": 2, "filters": [8, 16], "convs_per_block": [1], "dropout": 0.0}},
    "deep": {"model": {"convs_per_block": [3], "dropout": 0.3}},
}
"""Settings that a preset changes, as {section: {key: value}}; everything else is the default."""


_Config = TypeVar("_Config", bound=Section)


@overload
def load_config(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
) -> tuple[TrainConfig, dict[str, str]]: ...


@overload
def load_config(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    kind: type[_Config],
) -> tuple[_Config, dict[str, str]]: ...


def load_config(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    kind: type[Section] = TrainConfig,
) -> tuple[Section, dict[str, str]]:
    """Join the layers of settings and check them all at once.

    Args:
        file: A TOML file with the sections of `kind`, or None.
        assignments: `section.key=value` strings, as given with `--set`.
        options: Values given as command-line options, by dotted key.
        kind: All settings of a command: `TrainConfig` or `FinetuneConfig`.

    Returns:
        The settings, and for each dotted key that was given where it came from
        ("file", "--set", "option", "preset NAME").

    Raises:
        ConfigError: Anything unknown, of the wrong type or out of range; all of it in one message.
    """
    given: dict[str, tuple[object, str]] = {}
    for key, value in _read_toml(file).items():
        given[key] = (value, f"file {file}")
    for assignment in assignments:
        key, value = _parse_assignment(assignment)
        given[key] = (value, "--set")
    for key, value in (options or {}).items():
        given[key] = (value, "option")
    preset = given.get("model.preset", ("default", ""))[0]
    presets = MODEL_PRESETS if kind is TrainConfig else {}
    for section, settings in presets.get(str(preset), {}).items():
        for key, value in settings.items():
            given.setdefault(f"{section}.{key}", (value, f"preset {preset}"))
    nested: dict[str, Any] = {}
    for key, (value, _) in given.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    try:
        config = kind.model_validate(nested)
    except ValidationError as error:
        command = "train" if kind is TrainConfig else "finetune"
        hint = f"cnnclf {command} --help lists every setting"
        raise ConfigError(_explain(error, given, kind), hint) from error
    return config, {key: origin for key, (_, origin) in given.items()}


def setting_keys(kind: type[Section] = TrainConfig) -> list[str]:
    """Return every dotted key, in the order of the sections."""
    return [
        f"{section}.{name}"
        for section, field in kind.model_fields.items()
        for name in _section_of(field.annotation).model_fields
    ]


def _section_of(annotation: Any) -> type[Section]:
    if not (isinstance(annotation, type) and issubclass(annotation, Section)):
        raise TypeError(f"expected a section of settings, received {annotation!r}")
    return annotation


def _read_toml(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"expected a settings file, found nothing at {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"expected TOML in {file}, received: {error}") from error
    flat: dict[str, object] = {}
    for section, settings in content.items():
        if isinstance(settings, dict):
            flat.update({f"{section}.{key}": value for key, value in settings.items()})
        else:
            flat[section] = settings
    return flat


def _parse_assignment(assignment: str) -> tuple[str, object]:
    key, separator, text = assignment.partition("=")
    if not separator or "." not in key:
        raise ConfigError(
            f"expected --set section.key=value, received {assignment!r}",
            "for example --set model.dropout=0.3",
        )
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text  # a bare word such as adamw, or 32,64


def _explain(
    error: ValidationError, given: Mapping[str, tuple[object, str]], kind: type[Section]
) -> str:
    """Put every error on one line: dotted key, what was expected, what was received."""
    lines: dict[str, str] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"][:2])
        origin = given[key][1] if key in given else ""
        where = f" ({origin})" if origin else ""
        if item["type"] == "extra_forbidden":
            known = setting_keys(kind) if "." in key else list(kind.model_fields)
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            lines[key] = f"unknown setting {key}{where}" + (
                f", did you mean {near[0]}?" if near else ""
            )
        else:
            expected = item["msg"][0].lower() + item["msg"][1:]
            received = given[key][0] if key in given else item["input"]
            previous = lines.get(key)
            lines[key] = (
                f"{previous} or {expected}"
                if previous
                else f"{key}{where} received {received!r}: {expected}"
            )
    return "; ".join(lines.values())


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the words a setting may take, or () if it takes any value."""
    if getattr(annotation, "__origin__", None) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return ()
