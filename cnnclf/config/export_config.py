"""Every setting of `cnnclf export`."""

from typing import ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig


class ExportConfig(CommandConfig):
    """Format of an export, and its comparison with Keras."""

    command: ClassVar[str] = "export"

    format: str = Field(description="Format to export to.")
    quantize: Literal["float16", "int8"] | None = Field(
        None,
        description="float16: half the size, same computation. int8: a quarter of the size, "
        "8-bit computation.",
        json_schema_extra={"unset": "none"},
    )
    probabilities: bool = Field(False, description="Output probabilities instead of logits.")
    split: Literal["val", "test"] = Field(
        "val", description="Split to compare on; int8 is calibrated on training images."
    )
    max_drop: float = Field(
        0.5, ge=0, le=100, description="Maximum loss of accuracy, in percentage points."
    )
    verify: bool = Field(
        True,
        description="Compare with Keras on images; otherwise it counts as not verified.",
    )
