"""Every setting of `cnnclf explain`."""

from typing import ClassVar, Literal

from cnnclf.config.sections import CommandConfig, Device, EnginePrecision, Threads, setting


class ExplainConfig(CommandConfig):
    """What is explained, how it is checked, and the engine that computes logits."""

    command: ClassVar[str] = "explain"

    top_k: int = setting(3, "Number of classes to explain per image.", ge=1, le=20)
    layer: str | None = setting(
        None,
        "Layers for the views that look at one, separated by commas; all: every convolution.",
        unset="chosen by the view",
        metavar="LAYER,...",
    )
    fill: Literal["blur", "gray", "mean"] = setting(
        "blur", "What replaces pixels in occlusion, rise and the checks."
    )
    masks: int = setting(1000, "Random masks of rise.", ge=10, le=100_000)
    sort: Literal["activation", "index"] = setting(
        "activation", "Order of feature maps: strongest first, or by index."
    )
    checks: bool = setting(True, "Check each map against random maps and networks.")
    limit: int = setting(100, "Largest number of images to explain.", ge=1)
    samples: int = setting(500, "Training images that views may look at.", ge=1, le=100_000)
    seed: int = setting(0, "Random seed of masks and checks.", ge=0, lt=2**32)
    engine: str = setting(
        "auto",
        "Inference engine for logits and evidence, chosen as by predict; other views "
        "of layers are computed with Keras.",
    )
    precision: EnginePrecision = setting(
        "auto", "Numeric precision of the engine; auto: float32, an export has its own."
    )
    threads: Threads = setting(None, "CPU threads to use.", unset="all cores")
    device: Device = setting("auto", "Device to compute on; auto: a GPU if one can be used.")
