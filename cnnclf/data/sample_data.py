"""The drawn X's and O's that come with cnnclf, written where a user wants them."""

import contextlib
import shutil
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from cnnclf.errors import DataError, UsageError


def write_sample_data(directory: Path) -> Path:
    """Write the class folders `o/` and `x/`, 150 drawn images of 64x64 in each.

    Args:
        directory: New or empty; made if it does not exist.

    Returns:
        `directory`.

    Raises:
        UsageError: `directory` is a file or holds something.
        DataError: This installation came without the images.
        OSError: The images cannot be written.
    """
    _check_free(directory)
    source = _find_images()
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
    try:
        for folder in _list_folders(source):
            (staging / folder.name).mkdir()
            for image in folder.iterdir():
                (staging / folder.name / image.name).write_bytes(image.read_bytes())
        # Each folder appears whole: a killed copy leaves no half class behind.
        for written in sorted(staging.iterdir()):
            written.rename(directory / written.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # holds the images, unless something failed
                directory.rmdir()
    return directory


def _check_free(directory: Path) -> None:
    another = "name a directory that does not exist yet, or an empty one"
    if directory.is_dir():
        if any(directory.iterdir()):
            raise UsageError(f"expected a new or empty directory, received {directory}", another)
    elif directory.exists() or directory.is_symlink():
        raise UsageError(f"expected a directory, received the file {directory}", another)


def _find_images() -> Traversable:
    """Find the images: inside the package when installed from a wheel, else in the checkout."""
    installed = resources.files("cnnclf") / "sample_data" / "x_or_o"
    checkout = Path(__file__).parents[2] / "sample_data" / "x_or_o"
    for place in (installed, checkout):
        if place.is_dir():
            return place
    raise DataError(
        f"expected the sample images in {installed}, received none",
        "install cnnclf again; a checkout draws them with sample_data/make_sample_data.py",
    )


def _list_folders(source: Traversable) -> list[Traversable]:
    return [folder for folder in source.iterdir() if folder.is_dir()]
