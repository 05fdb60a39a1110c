"""Python interface: what its functions receive."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from cnnclf.config import CommandConfig, explicit_settings, load_config
from cnnclf.progress import Progress, Silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cnnclf.data.manifest import Dataset
    from cnnclf.inference.classifier import Classifier

StrPath = str | os.PathLike[str]
"""A path as text, or an object that is one."""

Settings = Mapping[str, object]
"""Values by dotted key, such as {"training.epochs": 3}, as with --set, or {"training": {...}}."""

if TYPE_CHECKING:
    OneImage: TypeAlias = StrPath | bytes | npt.NDArray[np.uint8]

_Config = TypeVar("_Config", bound=CommandConfig)


def resolve(
    kind: type[_Config], config: CommandConfig | Settings | None
) -> tuple[_Config, dict[str, str]]:
    """Return all settings, presets applied, and where each given one came from."""
    if isinstance(config, CommandConfig) and not isinstance(config, kind):
        raise TypeError(f"expected {kind.__name__}, received {type(config).__name__}")
    given = explicit_settings(config) if isinstance(config, CommandConfig) else config
    if not isinstance(given, Mapping | None):
        raise TypeError(
            f'expected settings such as {{"training.epochs": 3}}, received {type(given).__name__}'
        )
    return load_config(arguments=given, kind=kind)


def texts_of(values: str | Sequence[str]) -> tuple[str, ...]:
    """Return several texts; a single one needs no list."""
    return (values,) if isinstance(values, str) else tuple(values)


def list_images(
    images: "OneImage | Iterable[OneImage]",
) -> "list[str | bytes | npt.NDArray[np.uint8]]":
    """Return images one by one: paths as text, contents of files, and arrays.

    Args:
        images: One or several; an array [n, H, W, C] is several, and one of texts is paths.

    Raises:
        TypeError: Anything else.
    """
    import numpy as np

    several: Iterable[object]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        several = images.tolist() if images.dtype.kind in "OUT" else [images]
    elif isinstance(images, str | bytes | os.PathLike) or hasattr(images, "read"):
        several = [images]
    else:
        several = images if isinstance(images, Iterable) else [images]
    found: list[str | bytes | npt.NDArray[np.uint8]] = []
    for each in several:
        image = os.fspath(each) if isinstance(each, os.PathLike) else each
        if not isinstance(image, str | bytes | np.ndarray):
            raise TypeError(
                "expected paths, contents of files (bytes) or arrays, received "
                f"{type(image).__name__}; of an open file give its read(), of an image of Pillow "
                'np.asarray(image.convert("RGB"))'
            )
        found.append(image)
    return found


def path_of(thing: "Classifier | Dataset | StrPath") -> Path:
    """Return the directory of something that is loaded, or its path."""
    return Path(thing) if isinstance(thing, str | os.PathLike) else thing.directory


def source_of(dataset: "Dataset | StrPath | None") -> str | Path | None:
    """Return a source as it was given, since hf://user/name is no path; None for none."""
    if isinstance(dataset, str | os.PathLike):
        return os.fspath(dataset)
    return None if dataset is None else dataset.directory


def open_data(dataset: "Dataset | StrPath", progress: Progress) -> "Dataset":
    """Open a source of images; return a dataset as it is."""
    from cnnclf.importers import open_dataset

    if isinstance(dataset, str | os.PathLike):
        return open_dataset(dataset, progress=progress)
    return dataset


class Logged(Silent):
    """Logs notes and warnings as `cnnclf`; by default Python shows only the warnings."""

    logger = logging.getLogger("cnnclf")

    def note(self, text: str) -> None:
        """Log at level INFO."""
        self.logger.info(text)

    def warn(self, text: str) -> None:
        """Log at level WARNING."""
        self.logger.warning(text)
