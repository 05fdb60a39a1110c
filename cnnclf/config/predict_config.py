"""Every setting of `cnnclf predict`."""

from typing import Annotated, ClassVar

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Device, EnginePrecision, Threads


class PredictConfig(CommandConfig):
    """Labels to report, and the engine that computes them."""

    command: ClassVar[str] = "predict"

    top_k: int = Field(3, ge=1, description="Number of labels to report per image.")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Minimum probability; below it the label is 'unknown'.",
        json_schema_extra={"unset": "that of the model, if it has one"},
    )
    batch_size: int = Field(32, ge=1, le=65_536, description="Batch size.")
    engine: str = Field(
        "auto",
        description="Inference engine; auto: Keras on a GPU, otherwise OpenVINO if installed.",
    )
    precision: EnginePrecision = Field(
        "auto",
        description="Numeric precision of the computation; auto: bfloat16 on CPUs that support it.",
    )
    threads: Threads = Field(
        None, description="CPU threads to use.", json_schema_extra={"unset": "all cores"}
    )
    device: Device = Field(
        "auto", description="Device to compute on; auto: a GPU if one can be used."
    )
