"""Every setting of `cnnclf calibrate`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import BatchSize, Cache, CommandConfig, Device

_Fraction = Annotated[float, Field(gt=0, lt=1)] | None


class CalibrateConfig(CommandConfig):
    """What a threshold is to promise, and the images it is chosen on."""

    command: ClassVar[str] = "calibrate"

    precision_target: _Fraction = Field(
        None,
        description="Smallest fraction of the answers that is correct.",
        json_schema_extra={"unset": "no promise"},
    )
    coverage: _Fraction = Field(
        None,
        description="Smallest fraction of the images that is answered.",
        json_schema_extra={"unset": "no promise"},
    )
    error_rate: _Fraction = Field(
        None,
        description="Largest fraction of all images with a wrong answer.",
        json_schema_extra={"unset": "no promise"},
    )
    confidence: float = Field(
        0.95, ge=0.5, lt=1, description="How often the promise must hold, over draws of the images."
    )
    score: Literal["auto", "probability", "logit"] = Field(
        "auto",
        description="What the threshold is compared with: the probability of the best label, or its"
        " logit over the norm of all logits; auto: the one that ranks better on a third of at"
        " least 600 images.",
    )
    split: Literal["val", "test", "all"] | None = Field(
        None,
        description="Split to calibrate on.",
        json_schema_extra={"unset": "val; all of a new source without splits"},
    )
    batch_size: BatchSize = Field(None, description="Batch size.")
    cache: Cache = Field("disk", description="Where decoded images are cached.")
    engine: str = Field(
        "auto",
        description="Inference engine; auto: Keras on a GPU, otherwise OpenVINO if installed.",
    )
    device: Device = Field(
        "auto", description="Device to compute on; auto: a GPU if one can be used."
    )
