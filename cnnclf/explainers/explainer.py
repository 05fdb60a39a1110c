"""The interface of explainers: what they get, and what they return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.config import ExplainConfig
from cnnclf.drawing.canvas import ColorBar, Tile
from cnnclf.explainers.network import Network, RandomizedNetwork
from cnnclf.explainers.training_images import TrainingImages
from cnnclf.progress import Progress

Pixels = npt.NDArray[np.uint8]
Rows = Sequence[Sequence[Tile | None]]
AnyNetwork = Network | RandomizedNetwork


@dataclass(frozen=True, eq=False)
class Subject:
    """An image, and what the network says about it.

    Args:
        path: The file; empty for an array.
        pixels: uint8 [H, W, C], as the network sees it.
        logits: float32 [K].
        probabilities: float64 [K].
        classes: Indices of the classes to explain; the first is the one that is checked.
        kept: Results that several views use, by name.
    """

    path: str
    pixels: Pixels
    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    classes: tuple[int, ...]
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class ExplainContext:
    """What all explainers share.

    Args:
        network: The trained network.
        config: Settings.
        open_images: Opens training images; raises a CnnclfError without the dataset.
        progress: Receives tasks and notes.
        kept: Results that are used for several images, by name.
    """

    network: Network
    config: ExplainConfig
    open_images: Callable[[], TrainingImages]
    progress: Progress
    kept: dict[str, Any] = field(default_factory=dict)

    def training_images(self) -> TrainingImages:
        """Return training images.

        Raises:
            CnnclfError: The dataset is not known or not there.
        """
        images: TrainingImages = keep(self, "training images", make=self.open_images)
        return images


def keep(of: Subject | ExplainContext, name: str, *, make: Callable[[], Any]) -> Any:
    """Return a result for an image, or for all, that is computed only once."""
    if name not in of.kept:
        of.kept[name] = make()
    return of.kept[name]


@dataclass(frozen=True, eq=False)
class Explanation:
    """An explanation as a figure and as numbers.

    Args:
        rows: Tiles of the figure, or what draws them when they are needed.
        title: Above them.
        lines: Below them: what is shown, and what the checks found.
        summary: One line for the terminal.
        scores: Numbers and names, as JSON values.
        arrays: Maps and other arrays, for --npz.
        bar: Legend of the colors.
        side: Width of a column in points.
    """

    rows: Rows | Callable[[], Rows]
    title: str
    lines: Sequence[str] = ()
    summary: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    bar: ColorBar | None = None
    side: int = 150

    @property
    def tiles(self) -> Rows:
        """The tiles of the figure."""
        return self.rows() if callable(self.rows) else self.rows


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Maps of the evidence for classes.

    Args:
        values: float64 [k, h, w], one map per class, at the method's own resolution.
        method: What a value means, in one sentence.
        is_signed: Whether negative values mean evidence against the class.
        errors: Completeness errors [k]: |sum of the map - what it has to be|, as a fraction of
            `scale`; None for methods that promise nothing.
        tolerance: The largest error of a complete map; infinite for approximate methods.
        scale: What errors are fractions of, in words.
        terms: What the map adds up to, in words, one per class.
    """

    values: npt.NDArray[np.float64]
    method: str
    is_signed: bool = True
    errors: npt.NDArray[np.float64] | None = None
    tolerance: float = 1e-5  # what float32 sums of thousands of terms leave
    scale: str = "the largest logit"
    terms: Sequence[str] = ()


class MapMethod(Protocol):
    """Computes the maps of one image."""

    def __call__(
        self,
        network: AnyNetwork,
        pixels: Pixels,
        *,
        classes: Sequence[int],
        config: ExplainConfig,
    ) -> ClassMaps:
        """Compute one map per class.

        Args:
            network: Trained or randomized.
            pixels: uint8 [H, W, C].
            classes: Class indices.
            config: Settings.
        """
