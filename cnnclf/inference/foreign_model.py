"""What must be known of a model that another program trained, and whether it fits that."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError, RunError, UsageError
from cnnclf.importers.importer import read_classes_file

_NUMBERED: Final = re.compile(r"(\d+)[ :,\t]+(.+)")
_PIXEL_MAX: Final = 255.0
_SUM_TOLERANCE: Final = 2e-3  # of half-precision probabilities
_PROBES: Final = 4  # random images
NO_SOFTMAX: Final = "save the model without its softmax, so that it returns logits"

# What torchvision's models expect: (x / 255 - mean) / standard deviation, for RGB.
_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Scaling:
    """What pixels of 0 and 255 become before they enter a model.

    Args:
        low: Of 0; one number, or one for each of the three colors.
        high: Of 255, likewise.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def factors(self) -> list[float]:
        """What pixels are multiplied by."""
        return [(high - low) / _PIXEL_MAX for low, high in zip(self.low, self.high, strict=True)]

    @property
    def offsets(self) -> list[float]:
        """What is added then."""
        return list(self.low)


def parse_scaling(text: str) -> Scaling:
    """Read a scaling: "0:1", "-1:1", or "imagenet" for that of models of torchvision.

    Raises:
        UsageError: It is neither a name nor two numbers.
    """
    if text == "imagenet":
        pairs = list(zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION, strict=True))
        low = tuple(-mean / deviation for mean, deviation in pairs)
        return Scaling(low, tuple((1 - mean) / deviation for mean, deviation in pairs))
    try:
        bottom, top = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(
            "expected --scale as LOW:HIGH, what pixels of 0 and 255 become, or imagenet, "
            f"received {text!r}",
            "0:1 for x / 255, -1:1 for x / 127.5 - 1, 0:255 for no scaling, imagenet for the mean "
            "and standard deviation of torchvision",
        ) from error
    if not bottom < top:
        raise UsageError(f"--scale {text}: the first number must be below the second")
    return Scaling((bottom,), (top,))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read a size such as "224" or "48x64" (height, width).

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise UsageError(f"expected --size as 224 or 48x64 (height x width), received {text!r}")
    return int(match[1]), int(match[2] or match[1])


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, one per line; numbers in front of all of them (0 cat, 1 dog) are not part.

    Raises:
        DataError: The file cannot be read, or a label is empty or occurs twice.
    """
    try:
        names = read_classes_file(path)
    except DataError as error:
        hint = "give --labels a UTF-8 text file with one label per line, each of them once"
        raise DataError(error.message, hint) from error
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    in_order = [match and int(match[1]) == at for at, match in enumerate(numbered)]
    if not all(in_order):
        return names
    plain = tuple(match[2].strip() for match in numbered if match)
    repeated = next((name for at, name in enumerate(plain) if name in plain[:at]), None)
    if repeated is not None:
        raise DataError(
            f"{path} has the label {repeated!r} more than once",
            "give --labels a file in which each label occurs once, such as crane_bird",
        )
    return plain


def fit_shape(
    path: Path,
    *,
    shape: tuple[int | None, int | None, int],
    scaling: Scaling,
    size: tuple[int, int] | None,
) -> tuple[int, int, int]:
    """Compare what a model takes with what was asked for.

    Args:
        path: The model.
        shape: Height, width and channels of its images; None where it takes any.
        scaling: What was asked for.
        size: Height and width that were asked for; None for those of the model.

    Returns:
        Height, width and channels.

    Raises:
        UsageError: The size is not known, or the scaling is for another number of channels.
        RunError: The size is another.
    """
    if shape[2] not in (1, 3):
        raise RunError(
            f"{path} takes images of {shape[2]} channels",
            "only models of 1 (gray) or 3 channels (RGB) can be used",
        )
    if len(scaling.low) not in (1, shape[2]):
        raise UsageError(f"{path} takes gray images, and --scale imagenet is for RGB")
    if size is None and None in shape[:2]:
        raise UsageError(f"{path} takes images of any size", "add --size, such as --size 224")
    sides = size or (shape[0] or 0, shape[1] or 0)
    if any(own not in (None, side) for own, side in zip(shape[:2], sides, strict=True)):
        raise RunError(
            f"{path} takes images of {shape[0]}x{shape[1]}, not {sides[0]}x{sides[1]}",
            f"add --size {shape[0]}x{shape[1]}",
        )
    return (*sides, shape[2])


def check_outputs(path: Path, count: int, *, labels: tuple[str, ...]) -> None:
    """Refuse another number of outputs than of labels.

    Raises:
        DataError: The numbers differ.
    """
    if count != len(labels):
        raise DataError(
            f"{path} has {count} outputs, but there are {len(labels)} labels",
            "give --labels a file with one label per line for each output"
            + (", a model with one output is not supported" if count == 1 else ""),
        )


def multi_label_error(path: Path, ending: str) -> RunError:
    """Return the error for a model that decides about each class on its own."""
    return RunError(
        f"{path} ends in {ending}: it is multi-label, with a yes or no for each class",
        "only models that give one class per image can be used",
    )


def draw_probes(shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Draw random images, uint8 [4, H, W, C], which show what a model returns."""
    return np.random.default_rng(0).integers(0, 256, (_PROBES, *shape), np.uint8)


def are_probabilities(outputs: npt.NDArray[np.floating]) -> bool:
    """Return whether outputs [N, K] for a few images are probabilities of a softmax."""
    values = outputs.astype(np.float64)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=_SUM_TOLERANCE))
