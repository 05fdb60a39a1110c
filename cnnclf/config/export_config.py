"""Every setting of `cnnclf export`."""

from typing import ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig, setting


class ExportConfig(CommandConfig):
    """Format of an export, and its comparison with Keras."""

    command: ClassVar[str] = "export"

    format: str = Field(description="Format to export to.")
    quantize: Literal["float16", "int8"] | None = setting(
        None,
        "float16: half the size, same computation. int8: a quarter of the size, 8-bit computation.",
        unset="none",
    )
    probabilities: bool = setting(False, "Output probabilities instead of logits.")
    split: Literal["val", "test"] = setting(
        "val", "Split to compare on; int8 is calibrated on training images."
    )
    max_drop: float = setting(0.5, "Maximum loss of accuracy, in percentage points.", ge=0, le=100)
    verify: bool = setting(
        True, "Compare with Keras on images; otherwise it counts as not verified."
    )

    @property
    def name(self) -> str:
        """The name of the artifact's directory in a run."""
        kind = "probabilities" if self.probabilities else None
        return "-".join(filter(None, (self.format, kind, self.quantize)))
