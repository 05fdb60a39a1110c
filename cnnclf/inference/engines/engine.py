"""The interface of engines: uint8 images in, float32 logits out, one batch or a stream of them."""

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
    """Computes the logits of decoded images; thread-safe."""

    @property
    def name(self) -> str:
        """Its name in the table: keras, openvino, onnxruntime or litert."""

    @property
    def precision(self) -> str:
        """Its precision: float32, bfloat16 or int8."""

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch: uint8 [n, H, W, C], n >= 1, to float32 [n, K]."""

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches in order, several at once where the engine supports it.

        A bounded number of batches is consumed before their logits are yielded, so memory is
        constant. An empty batch is yielded only after all batches before it: a source that has to
        wait sends one to flush the stream. Pixels must not change until their logits are yielded.
        Errors of the source propagate.

        Args:
            batches: A tag that identifies the batch, and uint8 [n, H, W, C], n >= 0.

        Yields:
            The tag, and float32 [n, K].
        """


@dataclass(frozen=True)
class ModelFile:
    """A model on disk.

    Args:
        path: The file, or the directory for formats that are one.
        format: A key of `FORMATS`: keras, openvino, onnx, litert, savedmodel.
        checksum: Identifies its content.
        shape: (height, width, channels) of an image.
        outputs: Number of outputs for each image.
        precision: The precision it computes in by default.
    """

    path: Path
    format: str
    checksum: str
    shape: tuple[int, int, int]
    outputs: int
    precision: str = "float32"

    def check(self, input_shape: Iterable[Any], output_shape: Iterable[Any]) -> None:
        """Check that the shapes of the model match its bundle.

        Args:
            input_shape: Shape of its input; the batch dimension is ignored.
            output_shape: Shape of its output; the batch dimension is ignored.

        Raises:
            RunError: They do not match.
        """
        shape, outputs = tuple(input_shape), tuple(output_shape)
        if shape[1:] != self.shape:
            raise self.damaged(
                f"the input of the model has the shape {shape}, the input spec (n, {self.shape})"
            )
        if outputs[1:] != (self.outputs,):
            raise self.damaged(
                f"the output of the model has the shape {outputs}, but there are {self.outputs} "
                "labels"
            )

    def damaged(self, problem: str) -> RunError:
        """Return the error for a model that does not match its bundle."""
        return RunError(
            f"the bundle {self.path.parent} is damaged: {problem}",
            "copy the whole bundle again, or export it again",
        )


class KerasSource(Protocol):
    """Loads the Keras model of a bundle, for the Keras engine and for conversions."""

    @property
    def jit_compile(self) -> bool:
        """Whether XLA compiles the graph; known after `load`."""

    def load(self) -> Any:
        """Load the model on the first call; return the same model afterwards."""


@dataclass(frozen=True)
class EngineOptions:
    """Options for opening an engine.

    Args:
        keras: Loads the Keras model.
        precision: One of the row's precisions; None for that of the model file.
        threads: CPU threads; None for all that the process may use.
    """

    keras: KerasSource
    precision: str | None = None
    threads: int | None = None


class EngineRefusedError(RunError):
    """The logits of an engine differ from those of Keras, or it cannot compute the model."""


class NotConvertedError(EngineRefusedError):
    """The model cannot be converted for an engine, in any precision."""
