"""Every setting of `cnnclf convolve`."""

from typing import ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Size


class ConvolveConfig(CommandConfig):
    """The filter, how it moves over the image, and what follows it."""

    command: ClassVar[str] = "convolve"

    filter: str = Field(
        "sobel-x",
        description="Name of a filter, CSV file of its numbers, or RUN:LAYER:INDEX for one that a "
        "network has learned.",
    )
    kernel_size: int | None = Field(
        None,
        ge=1,
        le=31,
        description="Side of the kernel of blur, gaussian, identity and sobel.",
        json_schema_extra={"unset": "3"},
    )
    stride: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Pixels between neighboring positions of the kernel.",
        json_schema_extra={"unset": "1; of a learned filter: that of its layer"},
    )
    dilation: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Pixels between neighboring weights of the kernel.",
        json_schema_extra={"unset": "1; of a learned filter: that of its layer"},
    )
    padding: Literal["valid", "same"] | None = Field(
        None,
        description="valid: none; same: as many pixels as a stride of 1 needs to keep the size.",
        json_schema_extra={"unset": "valid; of a learned filter: that of its layer"},
    )
    pad_mode: Literal["zeros", "constant", "reflect", "edge"] = Field(
        "zeros", description="What padding consists of; Keras layers know zeros only."
    )
    pad_value: float = Field(0.0, description="Value of constant padding.")
    normalize: bool = Field(
        False,
        description="Divide the kernel by its sum, or by the sum of its absolute values if that "
        "is 0.",
    )
    activation: Literal[
        "none", "relu", "leaky_relu", "elu", "selu", "gelu", "swish", "tanh", "sigmoid"
    ] = Field("none", description="Activation after the convolution.")
    pool: Literal["none", "max", "average"] = Field("none", description="Pooling at the end.")
    pool_size: int = Field(2, ge=1, le=64, description="Side and stride of the pooling window.")
    image_size: Size = Field(
        "auto", description="Size the image is resized to; auto: its own, at most 512 pixels."
    )
    color: Literal["auto", "rgb", "gray"] = Field(
        "auto", description="Channels of the image; auto: as in the file."
    )
