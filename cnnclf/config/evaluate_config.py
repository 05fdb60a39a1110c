"""Every setting of `cnnclf evaluate`."""

from typing import ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import BatchSize, Cache, CommandConfig, Device, EnginePrecision, Views


class EvaluateConfig(CommandConfig):
    """Data, metrics and engine of an evaluation."""

    command: ClassVar[str] = "evaluate"

    split: Literal["train", "val", "test", "all"] | None = Field(
        None,
        description="Split to evaluate on.",
        json_schema_extra={"unset": "test; all of a new source without splits"},
    )
    top_k: int = Field(5, ge=1, description="The k of top-k accuracy.")
    by: str | None = Field(
        None,
        description="Column of the manifest; show the accuracy of each value, worst first.",
        json_schema_extra={"unset": "none", "metavar": "COLUMN"},
    )
    robustness: bool = Field(
        False, description="Measure the accuracy on noisy, blurred, turned and covered images, too."
    )
    views: Views = Field(
        "none",
        description="Average several views of each image: mirror takes 2 times the computation, "
        "shifts 5 times.",
    )
    batch_size: BatchSize = Field(None, description="Batch size.")
    cache: Cache = Field("disk", description="Where decoded images are cached.")
    engine: str | None = Field(
        None,
        description="Inference engine.",
        json_schema_extra={"unset": "keras; an export has its own"},
    )
    precision: EnginePrecision = Field("auto", description="Numeric precision of the computation.")
    device: Device = Field(
        "auto", description="Device to compute on; auto: a GPU if one can be used."
    )
