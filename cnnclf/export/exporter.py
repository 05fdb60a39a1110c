"""What every exporter is given."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.inference.engines.engine import Pixels

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ExportJob:
    """One model to be written in one format.

    Args:
        model: uint8 images [N, H, W, C] to float32 [N, K]; computes in float32.
        directory: Exists, and is empty.
        output: What comes out: logits or probabilities.
        quantize: None, float16 (weights kept in half the bytes) or int8 (computed in 8 bits).
        calibration: uint8 [n, H, W, C], training images for int8; empty for the others.
        description: What classifier.json will say of labels, input spec and output, as JSON, to be
            put inside the model.
    """

    model: "keras.Model"
    directory: Path
    output: str
    quantize: str | None
    calibration: Pixels
    description: str

    def calibration_batches(self) -> Iterator[Pixels]:
        """Give the images to calibrate with one by one, uint8 [1, H, W, C]."""
        for at in range(len(self.calibration)):
            yield self.calibration[at : at + 1]
