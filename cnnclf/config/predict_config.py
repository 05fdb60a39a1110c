"""Every setting of `cnnclf predict`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Device, EnginePrecision, Threads, Views


class PredictConfig(CommandConfig):
    """Labels to report, and the engine that computes them."""

    command: ClassVar[str] = "predict"

    top_k: int = Field(3, ge=1, description="Number of labels to report per image.")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Minimum probability; below it the label is 'unknown'.",
        json_schema_extra={"unset": "that of 'cnnclf calibrate', if the model has one"},
    )
    sets: Annotated[float, Field(ge=0.5, lt=1)] | None = Field(
        None,
        description="Write sets of labels that hold the true one at this rate.",
        json_schema_extra={"unset": "no sets"},
    )
    set_method: Literal["lac", "aps", "raps"] = Field(
        "lac",
        description="How sets are made: lac are the smallest, aps grow with hard images, raps are "
        "never very large.",
    )
    unknown_by: Literal["probability", "distance", "both"] = Field(
        "probability",
        description="What makes a label 'unknown': a probability below the threshold, a large"
        " distance to all training images, or either.",
    )
    min_familiar: float = Field(
        0.01,
        ge=0,
        le=0.5,
        description="Familiarity at or below which an image is unlike anything learned: that "
        "fraction of ordinary images is, too.",
    )
    all_probabilities: bool = Field(
        False, description="Write one column per class instead of the most probable labels."
    )
    id_column: Literal["path", "name", "stem"] = Field(
        "path",
        description="First column: the path of the image, its file name, or the name without "
        "suffix, as submissions of competitions want it; the last two have no column of errors.",
    )
    views: Views = Field(
        "none",
        description="Average several views of each image: mirror takes 2 times the computation, "
        "shifts 5 times.",
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
