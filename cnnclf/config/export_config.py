"""Every setting of `cnnclf export`."""

from typing import ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig


class ExportConfig(CommandConfig):
    """What is written, and how it is compared with the original."""

    command: ClassVar[str] = "export"

    format: str = Field(description="Format to write.")
    quantize: Literal["float16", "int8"] | None = Field(
        None,
        description="float16: half the size, computed as before. int8: a quarter of the size, "
        "computed in 8 bits.",
        json_schema_extra={"unset": "none"},
    )
    probabilities: bool = Field(False, description="Output probabilities instead of logits.")
    split: Literal["val", "test"] = Field(
        "val", description="Images to compare on; int8 is calibrated on training images."
    )
    max_drop: float = Field(
        0.5, ge=0, le=100, description="Maximum loss of accuracy, in percentage points."
    )
    verify: bool = Field(
        True, description="Compare with the original on images; without, it is 'not verified'."
    )
