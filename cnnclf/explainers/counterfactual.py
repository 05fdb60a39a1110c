"""The smallest change of an image that changes its label: turned by 14 degrees it becomes another.

Not what was decisive, but how stable the decision is. Needs logits only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cnnclf.drawing.canvas import Tile
from cnnclf.explainers.explainer import ExplainContext, Explanation, Pixels, Subject
from cnnclf.explainers.fills import blur_pixels
from cnnclf.explainers.map_figure import describe_subject, to_rgb


@dataclass(frozen=True)
class Change:
    """A family of changes.

    Args:
        name: In a word.
        strengths: From the smallest on; both directions where it has two: positive is right, down,
            clockwise, larger and brighter.
        apply: From an image [H, W, C] and a strength to the changed image.
        words: How to say it, with {} for the strength.
        most: How to say all of them, with {} for the largest.
    """

    name: str
    strengths: Sequence[float]
    apply: Callable[[Pixels, float], Pixels]
    words: str
    most: str

    def describe(self, strength: float) -> str:
        """Say a strength."""
        return _say(self.words, strength)

    def describe_most(self) -> str:
        """Say which strengths there are, in both directions where it has two."""
        return _say(self.most, max(self.strengths))


@dataclass(frozen=True, eq=False)
class Flip:
    """The smallest change of a family that changes the label.

    Args:
        change: The family.
        strength: Its smallest strength that changes the label; None if none does.
        shown: The strength of the image below: that one, or the one at which the label that stays
            is least probable.
        pixels: The changed image.
        label: The label of the changed image.
        probability: Its probability.
        distance: Root mean square difference of pixels, 0..255.
    """

    change: Change
    strength: float | None
    shown: float
    pixels: Pixels
    label: str
    probability: float
    distance: float


def explain_counterfactual(context: ExplainContext, subject: Subject) -> Explanation:
    """Draw the smallest changes of each family that change the label."""
    labels = context.network.labels
    flips = [find_flip(context, subject, change=change) for change in CHANGES]
    best = labels[int(np.argmax(subject.probabilities))]
    tiles: list[Tile | None] = [
        Tile(
            to_rgb(subject.pixels),
            f"{best}, {100 * subject.probabilities.max():.1f} %",
            "the image",
        )
    ]
    for flip in flips:
        caption = (
            f"{flip.change.describe(flip.strength)} it becomes {flip.label}"
            if flip.strength is not None
            else f"stays {flip.label}, even {flip.change.describe_most()}; "
            f"least sure {flip.change.describe(flip.shown)}"
        )
        title = f"{flip.label}, {100 * flip.probability:.1f} %"
        tiles.append(Tile(to_rgb(flip.pixels), title, caption, marked=flip.strength is not None))
    found = [flip for flip in flips if flip.strength is not None]
    smallest = min(found, key=lambda flip: flip.distance, default=None)
    if smallest is None:
        summary = f"none of these changes changes the label {best}"
    else:
        how = smallest.change.describe(smallest.strength or 0.0)
        summary = f"the least change of pixels: {how} it becomes {smallest.label}"
    return Explanation(
        rows=[tiles[:4], tiles[4:]],
        title=f"{describe_subject(subject, labels)}: what changes the label",
        lines=[f"Per kind of change, the smallest that changes the label; {summary}."],
        summary=summary,
        scores={
            "label": best,
            "changes": [
                {
                    "change": flip.change.name,
                    "strength": flip.strength,
                    "shown": flip.shown,
                    "label": flip.label,
                    "probability": flip.probability,
                    "distance": flip.distance,
                }
                for flip in flips
            ],
        },
        arrays={flip.change.name: flip.pixels for flip in flips},
    )


def find_flip(context: ExplainContext, subject: Subject, *, change: Change) -> Flip:
    """Find the smallest change of one family that changes the label."""
    network = context.network
    images = np.stack([change.apply(subject.pixels, each) for each in change.strengths])
    probabilities = network.probabilities(network.logits(images))
    answers, own = probabilities.argmax(axis=1), int(np.argmax(subject.probabilities))
    changed = np.flatnonzero(answers != own)
    at = int(changed[0] if len(changed) else probabilities[:, own].argmin())
    difference = images[at].astype(np.float64) - subject.pixels
    return Flip(
        change,
        change.strengths[at] if len(changed) else None,
        change.strengths[at],
        images[at],
        network.labels[int(answers[at])],
        float(probabilities[at].max()),
        float(np.sqrt((difference**2).mean())),
    )


def _say(words: str, strength: float) -> str:
    return words.format(100 * strength if "%" in words else strength)


def _move(pixels: Pixels, matrix: Sequence[float]) -> Pixels:
    """Move pixels by an affine matrix from new to old coordinates around the center."""
    height, width = pixels.shape[:2]
    a, b, c, d, e, f = matrix
    x, y = width / 2, height / 2  # Pillow counts from the corner of the first pixel
    around = (a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    planes = []
    for channel in range(pixels.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel]))
        moved = plane.transform(
            (width, height),
            Image.Transform.AFFINE,
            around,
            Image.Resampling.BILINEAR,
            fillcolor=round(float(np.median(edge[:, channel]))),
        )
        planes.append(np.asarray(moved))
    return np.stack(planes, axis=-1)


def _shift_across(pixels: Pixels, fraction: float) -> Pixels:
    return _move(pixels, (1, 0, -fraction * pixels.shape[1], 0, 1, 0))


def _shift_down(pixels: Pixels, fraction: float) -> Pixels:
    return _move(pixels, (1, 0, 0, 0, 1, -fraction * pixels.shape[0]))


def _turn(pixels: Pixels, degrees: float) -> Pixels:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _move(pixels, (cos, sin, 0, -sin, cos, 0))


def _zoom(pixels: Pixels, factor: float) -> Pixels:
    return _move(pixels, (1 / factor, 0, 0, 0, 1 / factor, 0))


def _brighten(pixels: Pixels, levels: float) -> Pixels:
    brighter: Pixels = np.clip(pixels + np.float32(levels), 0, 255).round().astype(np.uint8)
    return brighter


def _both(values: Sequence[float]) -> list[float]:
    return [sign * value for value in values for sign in (1, -1)]


_FRACTIONS = [step / 50 for step in range(1, 21)]  # to 40 % of the side
_FACTORS = [1.05**step for step in range(1, 15)]  # to twice the size

CHANGES: tuple[Change, ...] = (
    Change(
        "shift across",
        _both(_FRACTIONS),
        _shift_across,
        "shifted by {:+.0f} % of its width (+: right)",
        "shifted by up to {:.0f} % of its width, left or right",
    ),
    Change(
        "shift down",
        _both(_FRACTIONS),
        _shift_down,
        "shifted by {:+.0f} % of its height (+: down)",
        "shifted by up to {:.0f} % of its height, up or down",
    ),
    Change(
        "rotation",
        _both(range(2, 91, 2)),
        _turn,
        "turned by {:+.0f} degrees (+: clockwise)",
        "turned by up to {:.0f} degrees, either way",
    ),
    Change(
        "zoom",
        [f for each in _FACTORS for f in (each, 1 / each)],
        _zoom,
        "scaled by {:.2f}",
        "enlarged or reduced by a factor of up to {:.2f}",
    ),
    Change(
        "brightness",
        _both(range(5, 151, 5)),
        _brighten,
        "with {:+.0f} gray levels",
        "with up to {:.0f} gray levels more or less",
    ),
    Change(
        "blur",
        [step / 200 for step in range(1, 21)],
        blur_pixels,
        "blurred with a sigma of {:.1f} % of its longer side",
        "blurred with a sigma of up to {:.1f} % of its longer side",
    ),
)
