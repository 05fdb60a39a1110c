"""Every setting of `cnnclf predict`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Device, EnginePrecision, Threads, Views, setting


class PredictConfig(CommandConfig):
    """Labels to report, and the engine that computes them."""

    command: ClassVar[str] = "predict"

    top_k: int = setting(3, "Number of labels to report per image.", ge=1)
    threshold: Annotated[float, Field(ge=0, le=1)] | None = setting(
        None,
        "Minimum probability; below it the label is 'unknown'.",
        unset="that of 'cnnclf calibrate', if the model has one",
    )
    sets: Annotated[float, Field(ge=0.5, lt=1)] | None = setting(
        None, "Write sets of labels that hold the true one at this rate.", unset="no sets"
    )
    set_method: Literal["lac", "aps", "raps"] = setting(
        "lac",
        "How sets are made: lac are the smallest, aps grow with hard images, raps are "
        "never very large.",
    )
    unknown_by: Literal["probability", "distance", "both"] = setting(
        "probability",
        "What makes a label 'unknown': a probability below the threshold, a large"
        " distance to all training images, or either.",
    )
    min_familiar: float = setting(
        0.01,
        "Familiarity at or below which an image is unlike anything learned: that "
        "fraction of ordinary images is, too.",
        ge=0,
        le=0.5,
    )
    all_probabilities: bool = setting(
        False, "Write one column per class instead of the most probable labels."
    )
    id_column: Literal["path", "name", "stem"] = setting(
        "path",
        "First column: the path of the image, its file name, or the name without "
        "suffix, as submissions of competitions want it; the last two have no column of errors.",
    )
    views: Views = setting(
        "none",
        "Average several views of each image: mirror takes 2 times the computation, "
        "shifts 5 times.",
    )
    batch_size: int = setting(32, "Batch size.", ge=1, le=65_536)
    engine: str = setting(
        "auto", "Inference engine; auto: Keras on a GPU, otherwise OpenVINO if installed."
    )
    precision: EnginePrecision = setting(
        "auto", "Numeric precision of the computation; auto: bfloat16 on CPUs that support it."
    )
    threads: Threads = setting(None, "CPU threads to use.", unset="all cores")
    device: Device = setting("auto", "Device to compute on; auto: a GPU if one can be used.")

    def count_named(self, classes: int) -> int:
        """Return how many labels each prediction names."""
        return classes if self.all_probabilities else min(self.top_k, classes)
