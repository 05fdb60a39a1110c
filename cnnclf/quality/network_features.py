"""What a pretrained network sees in each image."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class NetworkFeatures(NamedTuple):
    """Features of all images of a dataset; 0 for images without any.

    Args:
        last: float16 [N, D], before the last layer: what is in the image. Cosines compare them.
        stages: float16 [N, S], means and standard deviations of the maps that earlier stages give:
            shapes and textures, which say more of images that are no photos.
    """

    last: npt.NDArray[np.float16]
    stages: npt.NDArray[np.float16]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether there are features of an image, bool [N]."""
        return np.asarray(self.last.any(axis=1))
