"""The input of every exporter."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.inference.engines.engine import Pixels

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ExportJob:
    """One model to write in one format.

    Args:
        model: Maps uint8 images [N, H, W, C] to float32 [N, K]; computes in float32.
        directory: Existing empty directory.
        output: Kind of the output: logits or probabilities.
        quantize: None, float16 (weights stored in 16 bits) or int8 (computed in 8 bits).
        calibration: uint8 [n, H, W, C], training images for int8; empty for the others.
        description: Labels, input spec and output as in classifier.json, as JSON, to be stored
            inside the model.
    """

    model: "keras.Model"
    directory: Path
    output: str
    quantize: str | None
    calibration: Pixels
    description: str

    def calibration_batches(self) -> Iterator[Pixels]:
        """Yield the calibration images one by one, uint8 [1, H, W, C]."""
        for at in range(len(self.calibration)):
            yield self.calibration[at : at + 1]
