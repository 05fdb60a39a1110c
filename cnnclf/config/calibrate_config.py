"""Every setting of `cnnclf calibrate`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import BatchSize, Cache, CommandConfig, Device, setting

_Fraction = Annotated[float, Field(gt=0, lt=1)] | None


class CalibrateConfig(CommandConfig):
    """What a threshold is to promise, and the images it is chosen on."""

    command: ClassVar[str] = "calibrate"

    precision_target: _Fraction = setting(
        None, "Smallest fraction of the answers that is correct.", unset="no promise"
    )
    coverage: _Fraction = setting(
        None, "Smallest fraction of the images that is answered.", unset="no promise"
    )
    error_rate: _Fraction = setting(
        None, "Largest fraction of all images with a wrong answer.", unset="no promise"
    )
    confidence: float = setting(
        0.95, "How often the promise must hold, over draws of the images.", ge=0.5, lt=1
    )
    score: Literal["auto", "probability", "logit"] = setting(
        "auto",
        "What the threshold is compared with: the probability of the best label, or its"
        " logit over the norm of all logits; auto: the one that ranks better on a third of at"
        " least 600 images.",
    )
    split: Literal["val", "test", "all"] | None = setting(
        None, "Split to calibrate on.", unset="val; all of a new source without splits"
    )
    batch_size: BatchSize = setting(None, "Batch size.")
    cache: Cache = setting("disk", "Where decoded images are cached.")
    engine: str = setting(
        "auto", "Inference engine; auto: Keras on a GPU, otherwise OpenVINO if installed."
    )
    device: Device = setting("auto", "Device to compute on; auto: a GPU if one can be used.")
