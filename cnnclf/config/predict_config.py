"""Every setting of `cnnclf predict`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Device, EnginePrecision, Threads


class PredictConfig(CommandConfig):
    """Labels to report, and the engine that computes them."""

    command: ClassVar[str] = "predict"

    top_k: int = Field(3, ge=1, description="Number of labels to report per image.")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Minimum probability; below it the label is 'unknown'.",
        json_schema_extra={"unset": "that of 'cnnclf calibrate', if the model has one"},
    )
    all_probabilities: bool = Field(
        False, description="Write one column per class instead of the most probable labels."
    )
    id_column: Literal["path", "name", "stem"] = Field(
        "path",
        description="First column: the path of the image, its file name, or the name without "
        "suffix, as submissions of competitions want it; the last two have no column of errors.",
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
