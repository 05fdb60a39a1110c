"""Every setting of `cnnclf convolve`."""

from typing import ClassVar, Literal

from cnnclf.config.sections import CommandConfig, Size, setting


class ConvolveConfig(CommandConfig):
    """The filter, how it moves over the image, and what follows it."""

    command: ClassVar[str] = "convolve"

    filter: str = setting(
        "sobel-x",
        "Name of a filter, CSV file of its numbers, or RUN:LAYER:INDEX for one that a "
        "network has learned.",
    )
    kernel_size: int | None = setting(
        None, "Side of the kernel of blur, gaussian, identity and sobel.", ge=1, le=31, unset="3"
    )
    stride: int | None = setting(
        None,
        "Pixels between neighboring positions of the kernel.",
        ge=1,
        le=64,
        unset="1; of a learned filter: that of its layer",
    )
    dilation: int | None = setting(
        None,
        "Pixels between neighboring weights of the kernel.",
        ge=1,
        le=64,
        unset="1; of a learned filter: that of its layer",
    )
    padding: Literal["valid", "same"] | None = setting(
        None,
        "valid: none; same: as many pixels as a stride of 1 needs to keep the size.",
        unset="valid; of a learned filter: that of its layer",
    )
    pad_mode: Literal["zeros", "constant", "reflect", "edge"] = setting(
        "zeros", "What padding consists of; Keras layers know zeros only."
    )
    pad_value: float = setting(0.0, "Value of constant padding.")
    normalize: bool = setting(
        False, "Divide the kernel by its sum, or by the sum of its absolute values if that is 0."
    )
    activation: Literal[
        "none", "relu", "leaky_relu", "elu", "selu", "gelu", "swish", "tanh", "sigmoid"
    ] = setting("none", "Activation after the convolution.")
    pool: Literal["none", "max", "average"] = setting("none", "Pooling at the end.")
    pool_size: int = setting(2, "Side and stride of the pooling window.", ge=1, le=64)
    image_size: Size = setting(
        "auto", "Size the image is resized to; auto: its own, at most 512 pixels."
    )
    color: Literal["auto", "rgb", "gray"] = setting(
        "auto", "Channels of the image; auto: as in the file."
    )
