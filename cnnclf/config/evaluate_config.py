"""Every setting of `cnnclf evaluate`."""

from typing import ClassVar, Literal

from cnnclf.config.sections import (
    BatchSize,
    Cache,
    CommandConfig,
    Device,
    EnginePrecision,
    Views,
    setting,
)


class EvaluateConfig(CommandConfig):
    """Data, metrics and engine of an evaluation."""

    command: ClassVar[str] = "evaluate"

    split: Literal["train", "val", "test", "all"] | None = setting(
        None, "Split to evaluate on.", unset="test; all of a new source without splits"
    )
    top_k: int = setting(5, "The k of top-k accuracy.", ge=1)
    by: str | None = setting(
        None,
        "Column of the manifest; show the accuracy of each value, worst first.",
        unset="none",
        metavar="COLUMN",
    )
    robustness: bool = setting(
        False, "Measure the accuracy on noisy, blurred, turned and covered images, too."
    )
    views: Views = setting(
        "none",
        "Average several views of each image: mirror takes 2 times the computation, "
        "shifts 5 times.",
    )
    batch_size: BatchSize = setting(None, "Batch size.")
    cache: Cache = setting("disk", "Where decoded images are cached.")
    engine: str | None = setting(None, "Inference engine.", unset="keras; an export has its own")
    precision: EnginePrecision = setting("auto", "Numeric precision of the computation.")
    device: Device = setting("auto", "Device to compute on; auto: a GPU if one can be used.")
