"""Every setting of `cnnclf explain`."""

from typing import ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Device, EnginePrecision, Threads


class ExplainConfig(CommandConfig):
    """What is explained, how it is checked, and the engine that computes logits."""

    command: ClassVar[str] = "explain"

    top_k: int = Field(3, ge=1, le=20, description="Number of classes to explain per image.")
    layer: str | None = Field(
        None,
        description="Layers for the views that look at one, separated by commas; all: every "
        "convolution.",
        json_schema_extra={"unset": "chosen by the view", "metavar": "LAYER,..."},
    )
    fill: Literal["blur", "gray", "mean"] = Field(
        "blur", description="What replaces pixels in occlusion, rise and the checks."
    )
    masks: int = Field(1000, ge=10, le=100_000, description="Random masks of rise.")
    sort: Literal["activation", "index"] = Field(
        "activation", description="Order of feature maps: strongest first, or by index."
    )
    checks: bool = Field(True, description="Check each map against random maps and networks.")
    limit: int = Field(100, ge=1, description="Largest number of images to explain.")
    samples: int = Field(
        500, ge=1, le=100_000, description="Training images that views may look at."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Random seed of masks and checks.")
    engine: str = Field(
        "auto",
        description="Inference engine for logits and evidence, chosen as by predict; other views "
        "of layers are computed with Keras.",
    )
    precision: EnginePrecision = Field(
        "auto", description="Numeric precision of the engine; auto: float32, an export has its own."
    )
    threads: Threads = Field(
        None, description="CPU threads to use.", json_schema_extra={"unset": "all cores"}
    )
    device: Device = Field(
        "auto", description="Device to compute on; auto: a GPU if one can be used."
    )
