"""Checks of a map: does it depend on the network, and do its places matter to the network?

Deletion and insertion (Petsiuk, Das and Saenko, "RISE", 2018) replace pixels in the order of the
map. Their values depend on the image and on the fill, so they mean nothing alone: the same is done
in random order and in the order of edges (Sobel), which know nothing of the network. A map that
stays the same when the weights are random shows edges, not what was learned (Adebayo et al.,
"Sanity checks for saliency maps", 2018).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.explainers.explainer import AnyNetwork, Pixels
from cnnclf.explainers.fills import fill_pixels, resize_map

_STEPS = 10
_RANDOM_MAPS = 3
_SAME = 0.05  # probabilities closer than this leave nothing to delete
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Areas:
    """Mean probability of the class while pixels are replaced in the order of a map.

    Args:
        deletion: From the most important pixel on; lower is better.
        insertion: Most important pixels shown first on a filled image; higher is better.
    """

    deletion: float
    insertion: float


@dataclass(frozen=True)
class MapChecks:
    """The checks of one map.

    Args:
        areas: Of the map.
        random: Of random maps of the same resolution, on average.
        edges: Of the magnitude of the image's gradient.
        ends: Probability of the class for the image and for the filled image.
        randomized: Rank correlation with the map of the same network with random weights, the mean
            of a few; None if there is none.
    """

    areas: Areas
    random: Areas
    edges: Areas
    ends: tuple[float, float]
    randomized: float | None

    @property
    def words(self) -> str:
        """All of it in one line."""
        parts = [
            f"{name} {getattr(self.areas, name):.2f} (random {getattr(self.random, name):.2f},"
            f" edges {getattr(self.edges, name):.2f}; {better} is better)"
            for name, better in (("deletion", "lower"), ("insertion", "higher"))
        ]
        if abs(self.ends[0] - self.ends[1]) < _SAME:
            still = f"with all pixels replaced the probability is still {self.ends[1]:.2f}"
            parts = [f"deletion and insertion say nothing here: {still}"]
        if self.randomized is not None:
            parts.append(f"agreement with randomized networks {self.randomized:+z.2f} (0 is best)")
        return "; ".join(parts)


@dataclass(frozen=True, eq=False)
class CheckedImage:
    """An image and a class, with the areas of maps that know nothing of the network.

    Args:
        network: Computes probabilities.
        pixels: uint8 [H, W, C].
        class_index: The class whose probability is followed.
        fill: blur, gray or mean.
    """

    network: AnyNetwork
    pixels: Pixels
    class_index: int
    fill: str

    def filled_probability(self) -> float:
        """Return the probability of the class when all pixels are replaced."""
        logits = self.network.logits(fill_pixels(self.pixels, self.fill)[None])
        return float(self.network.probabilities(logits)[0, self.class_index])

    def measure(self, values: Floats) -> Areas:
        """Replace pixels in the order of a map, in steps of a tenth of all pixels.

        Args:
            values: [h, w], high where the map says that the class is seen.
        """
        height, width, channels = self.pixels.shape
        order = np.argsort(-resize_map(values, height, width=width).ravel(), kind="stable")
        filled = fill_pixels(self.pixels, self.fill).reshape(-1, channels)
        original = self.pixels.reshape(-1, channels)
        images = []
        for start, other in ((original, filled), (filled, original)):
            for step in range(_STEPS + 1):
                count = round(len(order) * step / _STEPS)
                image = start.copy()
                image[order[:count]] = other[order[:count]]
                images.append(image.reshape(self.pixels.shape))
        logits = self.network.logits(np.stack(images))
        curves = self.network.probabilities(logits)[:, self.class_index].reshape(2, _STEPS + 1)
        deletion, insertion = ((c[:-1] + c[1:]).mean() / 2 for c in curves)
        return Areas(float(deletion), float(insertion))

    def measure_random(self, shape: tuple[int, int], *, seed: int) -> Areas:
        """Measure random maps of a shape [h, w]; the mean of a few."""
        rng = np.random.default_rng(seed)
        areas = [self.measure(rng.random(shape)) for _ in range(_RANDOM_MAPS)]
        return Areas(
            float(np.mean([each.deletion for each in areas])),
            float(np.mean([each.insertion for each in areas])),
        )

    def measure_edges(self) -> Areas:
        """Measure the Sobel magnitude of the image."""
        return self.measure(find_edges(self.pixels))


def find_edges(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the magnitude of the Sobel gradient of the mean channel, [H, W]."""
    from scipy.ndimage import sobel

    gray = pixels.mean(axis=2)
    return np.asarray(np.hypot(*(sobel(gray, axis, mode="nearest") for axis in (0, 1))))


def correlate_ranks(first: Floats, second: Floats) -> float | None:
    """Return Spearman's rank correlation of two maps; None if one of them is constant."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(each) for each in (first, second)])
    return float(np.corrcoef(ranks)[0, 1]) if np.ptp(ranks, axis=1).all() else None
