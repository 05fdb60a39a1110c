"""An image and what a filter makes of it: reading, convolution, activation and pooling."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.config.convolve_config import ConvolveConfig
from cnnclf.errors import UsageError
from cnnclf.explainers.convolution import Convolved, Maps, Sliding, activate, convolve, pool_maps
from cnnclf.explainers.filter_table import Kernel, find_kernel
from cnnclf.explainers.learned_filter import open_learned, parse_learned
from cnnclf.images.decode import InputSpec, decode_image, fit_pixels, inspect_image
from cnnclf.images.modes import is_gray_mode
from cnnclf.progress import Progress

MAX_SIDE = 512

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ConvolvedImage:
    """An image, a filter, and each step of the result.

    Args:
        name: Of the image.
        pixels: What was read, uint8 [H, W, C].
        convolved: Input of the filter, filter and sums.
        config: The settings.
        notes: What a user should know.
    """

    name: str
    pixels: Pixels
    convolved: Convolved
    config: ConvolveConfig
    notes: tuple[str, ...]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels that the filter reads."""
        count = self.convolved.image.shape[2]
        if self.is_pixels:
            return ("gray",) if count == 1 else ("red", "green", "blue")
        return tuple(f"channel {number}" for number in range(count))

    @property
    def is_pixels(self) -> bool:
        """Whether the filter reads the pixels, and not the output of a layer."""
        return np.array_equal(self.convolved.image, self.pixels)

    @property
    def white(self) -> float:
        """The least value that figures show as white: that of white pixels, or none of maps."""
        return 255.0 if self.is_pixels else 0.0

    @cached_property
    def activated(self) -> Maps:
        """The sum after the activation, [h, w]."""
        return activate(self.convolved.summed, self.config.activation)

    @cached_property
    def result(self) -> Maps:
        """The result of all steps, [h, w]."""
        if self.config.pool == "none":
            return self.activated
        return pool_maps(self.activated, self.config.pool, size=self.config.pool_size)

    def formulas(self) -> dict[str, str]:
        """Return how the size of each step is computed, with its numbers."""
        sides = self.convolved.kernel.weights.shape[:2]
        sliding, image = self.convolved.sliding, self.convolved.image
        lines = {
            f"{what} after the filter": sliding.formula(size, side)
            for what, size, side in zip(("rows", "columns"), image.shape, sides, strict=False)
        }
        if self.config.pool != "none":
            size = self.config.pool_size
            pooling = Sliding(size)
            for what, before in zip(("rows", "columns"), self.activated.shape, strict=True):
                lines[f"{what} after pooling"] = pooling.formula(before, size)
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return sizes, filter and range of the result, for JSON."""
        sliding = self.convolved.sliding
        return {
            "image": self.name,
            "input_shape": self.convolved.image.shape,
            "filter": self.convolved.kernel.name,
            "kernel": self.convolved.kernel.weights,
            "bias": self.convolved.kernel.bias,
            "stride": sliding.stride,
            "dilation": sliding.dilation,
            "padding": sliding.padding,
            "output_shape": self.result.shape,
            "low": float(self.result.min()),
            "high": float(self.result.max()),
            "mean": float(self.result.mean()),
            "formulas": self.formulas(),
        }


def convolve_image(
    image: Path | Pixels,
    config: ConvolveConfig,
    *,
    verbose: bool = False,
    progress: Progress | None = None,
) -> ConvolvedImage:
    """Read an image and slide a filter over it.

    A learned filter reads what its layer reads for the image, in the layer's way.

    Args:
        image: A file, or uint8 [H, W], [H, W, 1] or [H, W, 3].
        config: The filter and what follows it.
        verbose: Do not silence libraries.
        progress: Shows what takes long.

    Raises:
        ImageError: The image cannot be read.
        UsageError: There is no such filter, or it does not fit the image.
        DataError: A file is no kernel.
        RunError: There is no network.
    """
    name = "" if isinstance(image, np.ndarray) else str(image)
    learned = parse_learned(config.filter)
    if learned is None:
        kernel, sliding = find_kernel(config.filter, size=config.kernel_size), Sliding()
        pixels, notes = _read_pixels(image, config)
        maps = pixels.astype(np.float64)
    else:
        _check_learned(image, config)
        run, layer, index = learned
        found = open_learned(
            run, Path(name), layer=layer, index=index, verbose=verbose, progress=progress
        )
        pixels, maps, kernel, sliding = found.pixels, found.maps, found.kernel, found.sliding
        notes = []
    kernel = kernel.normalized() if config.normalize else kernel
    sliding = Sliding(
        config.stride or sliding.stride,
        config.dilation or sliding.dilation,
        config.padding or sliding.padding,
        config.pad_mode,
        config.pad_value,
    )
    notes += _explain_padding(kernel, sliding)
    convolved = convolve(maps, kernel, sliding=sliding)
    done = ConvolvedImage(name, pixels, convolved, config, tuple(notes))
    _ = done.result  # refuses a pooling window that is too large
    return done


def _check_learned(image: Path | Pixels, config: ConvolveConfig) -> None:
    given = {"kernel_size", "image_size", "color"} & config.model_fields_set
    if given:
        option = f"--{min(given).replace('_', '-')}"
        raise UsageError(
            f"{option} cannot be given for a learned filter: the network decides it",
            "leave it to RUN:LAYER:INDEX",
        )
    if isinstance(image, np.ndarray):
        raise UsageError("a learned filter needs an image file, not an array")


def _explain_padding(kernel: Kernel, sliding: Sliding) -> list[str]:
    is_even = any(side % 2 == 0 for side in kernel.weights.shape[:2])
    if sliding.padding == "same" and is_even and sliding.stride == 1:
        words = "an even kernel with same padding has no center: as in Keras, one pixel more is"
        return [f"{words} added at the bottom and right"]
    if sliding.padding == "valid" and sliding.pad_mode != "zeros":
        return [f"--pad-mode {sliding.pad_mode} changes nothing without --padding same"]
    return []


def _read_pixels(image: Path | Pixels, config: ConvolveConfig) -> tuple[Pixels, list[str]]:
    """Read the image at its own size, if that is not too large."""
    notes = []
    if isinstance(image, np.ndarray):
        (height, width), is_gray = image.shape[:2], image.ndim == 2 or image.shape[2] == 1
    else:
        info = inspect_image(image, exact=False)
        height, width, is_gray = info.height, info.width, is_gray_mode(info.mode)
        notes += [f"the image: {info.note}"] if info.note else []
    size = config.image_size
    if size == "auto":
        scale = min(1.0, MAX_SIDE / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        if scale < 1:
            notes.append(
                f"the image has {height}x{width} pixels and is resized to {size[0]}x{size[1]}; "
                "--image-size changes that"
            )
    channels = {"auto": 1 if is_gray else 3, "gray": 1, "rgb": 3}[config.color]
    spec = InputSpec(*size, channels=channels, fit="squash")
    if isinstance(image, np.ndarray):
        return fit_pixels(image, spec), notes
    return decode_image(image, spec), notes
