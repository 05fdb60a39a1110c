"""Would flips help? What a network that was trained without them makes of mirrored val images.

If sides do not matter for its classes, it labels a mirrored image as well as the image itself, and
training with flips would show it twice as many. Where a flip turns one class into another (digits,
arrows, left and right hands), mirrored images get other labels. A class of which that is true shows
it even where all classes together hardly do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.evaluation.metrics import wilson_interval
from cnnclf.evaluation.paired_statistics import mcnemar_mid_p

_MAX_P = 0.05
_MIN_RIGHT = 5  # images of a class: if all of them got another label, p would be 0.03
_MIN_WRONG = 0.02  # with fewer mistakes there is little to gain
# Of the right labels. Less is chance; and the epoch was chosen on val, but not on mirrored val.
_CLASS_LOSS, _LOSS = 0.3, 0.1


@dataclass(frozen=True)
class MirroredVal:
    """Val images and their mirror images, labeled by the same network.

    Args:
        images: How many val images.
        accuracy: Of the images themselves.
        mirrored_accuracy: Of their mirror images.
        is_equal: Whether no class, and not all images together, are labeled worse when mirrored,
            and each class has enough images to tell.
    """

    images: int
    accuracy: float
    mirrored_accuracy: float
    is_equal: bool

    def describe(self) -> str:
        """Say that flips are worth trying; empty if they are not."""
        if not self.is_equal or self.accuracy > 1 - _MIN_WRONG:
            return ""
        return (
            f"val images are labeled as well when they are mirrored (accuracy "
            f"{self.mirrored_accuracy:.4f}, not mirrored {self.accuracy:.4f}): if mirror images "
            "keep their class, try --flip 0.5, or --augment medium, which flips as well"
        )


def compare_mirrored(
    logits: NDArray[np.floating[Any]],
    mirrored: NDArray[np.floating[Any]],
    *,
    truth: NDArray[np.integer[Any]],
) -> MirroredVal:
    """Compare the labels of images with those of their mirror images.

    Args:
        logits: [n, K], of the images; at least one.
        mirrored: [n, K], of their mirror images.
        truth: Class indices, [n].
    """
    before, after = logits.argmax(axis=1) == truth, mirrored.argmax(axis=1) == truth
    count, largest = len(truth), int(np.bincount(truth).max())
    has_learned = wilson_interval(int(before.sum()), count)[0] > largest / count
    classes = [truth == index for index in range(logits.shape[1])]
    is_equal = (
        has_learned
        and all(before[of].sum() >= _MIN_RIGHT for of in classes)
        and not any(_is_worse(before[of], after[of], loss=_CLASS_LOSS) for of in classes)
        and not _is_worse(before, after, loss=_LOSS)
    )
    return MirroredVal(count, float(before.mean()), float(after.mean()), is_equal)


def _is_worse(before: NDArray[np.bool_], after: NDArray[np.bool_], *, loss: float) -> bool:
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return lost - gained > loss * before.sum() and mcnemar_mid_p(gained, lost) < _MAX_P
