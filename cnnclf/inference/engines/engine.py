"""What an engine is: uint8 images in, float32 logits out, one batch or a stream of them."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Tag = TypeVar("Tag")


class Engine(Protocol):
    """Computes what a model says of decoded images; several threads may use it at once."""

    @property
    def name(self) -> str:
        """Its row in the table: keras, openvino, onnxruntime or litert."""

    @property
    def precision(self) -> str:
        """What it computes in, float32, bfloat16 or int8."""

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch: uint8 [n, H, W, C], n >= 1, to float32 [n, K]."""

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches in their order, several at once where the engine can.

        A bounded number of batches is taken before their logits are given, so memory stays
        constant. A batch without images is given back only after all before it: a source that
        has to wait sends one so that nothing is held back meanwhile. Pixels must stay as they are
        until their logits are given. Errors of the source pass through.

        Args:
            batches: Anything that tells the batch, and uint8 [n, H, W, C], n >= 0.

        Yields:
            The same thing, and float32 [n, K].
        """


@dataclass(frozen=True)
class ModelFile:
    """A model as it lies on the disk.

    Args:
        path: The file, or the directory of a format that is one.
        format: A key of `FORMATS`: keras, openvino, onnx, litert, savedmodel.
        checksum: What identifies its content.
        shape: (height, width, channels) of an image.
        outputs: How many numbers come out for each image.
        precision: What it computes in if nothing else is asked for.
    """

    path: Path
    format: str
    checksum: str
    shape: tuple[int, int, int]
    outputs: int
    precision: str = "float32"

    def check(self, asked: Iterable[Any], given: Iterable[Any]) -> None:
        """Refuse a model that takes or gives something else than its bundle says.

        Args:
            asked: Shape of its input; the first size, of the batch, is not looked at.
            given: Shape of its output.

        Raises:
            RunError: It does not fit.
        """
        shape, outputs = tuple(asked), tuple(given)
        if shape[1:] != self.shape:
            raise self.damaged(f"its model takes {shape}, its input spec says (n, {self.shape})")
        if outputs[1:] != (self.outputs,):
            raise self.damaged(f"its model gives {outputs}, it has {self.outputs} labels")

    def damaged(self, problem: str) -> RunError:
        """Give the error for a model that does not fit its bundle."""
        return RunError(
            f"the bundle {self.path.parent} is damaged: {problem}",
            "copy the whole bundle again, or make it again",
        )


class KerasSource(Protocol):
    """Gives the Keras model of a bundle, for the engine of Keras and to convert it for others."""

    @property
    def jit_compile(self) -> bool:
        """Whether XLA shall compile its graph; asked after `load`."""

    def load(self) -> Any:
        """Load the model, or give the one that is loaded already."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine shall compute.

    Args:
        keras: Gives the Keras model.
        precision: One of those that its row names; None for what the model file has.
        threads: Threads of the CPU; None for all that the process may use.
    """

    keras: KerasSource
    precision: str | None = None
    threads: int | None = None


class EngineRefusedError(RunError):
    """An engine computes something else than Keras does."""


class NotConvertedError(EngineRefusedError):
    """An engine cannot have the model at all, whatever the precision."""
