"""The drawn X's and O's that are part of cnnclf, written to a directory of the user."""

import contextlib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from cnnclf.errors import DataError, UsageError
from cnnclf.full_disks import check_writable
from cnnclf.workspaces import remove_leftovers, workspace

_UNFINISHED = "writing"


def write_sample_data(directory: Path) -> Path:
    """Write the class folders `o/` and `x/`, 150 drawn images of 64x64 in each.

    Args:
        directory: New or empty; created if it does not exist.

    Raises:
        UsageError: `directory` is a file or not empty.
        DataError: This installation lacks the images.
        RunError: It is closed to the user, or below a file.
        OSError: The images cannot be written.
    """
    remove_leftovers(directory, kind=_UNFINISHED)
    _check_free(directory)
    source = _find_images()
    is_new = not directory.exists()
    try:
        with workspace(directory, "images", kind=_UNFINISHED) as staging:
            for folder in (each for each in source.iterdir() if each.is_dir()):
                (staging / folder.name).mkdir()
                for image in folder.iterdir():
                    (staging / folder.name / image.name).write_bytes(image.read_bytes())
            # Each folder appears complete: a killed copy leaves no partial class.
            for written in sorted(staging.iterdir()):
                written.rename(directory / written.name)
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # holds the images, unless something failed
                directory.rmdir()
    return directory


def _check_free(directory: Path) -> None:
    another = "give a directory that does not exist yet, or an empty one"
    check_writable(directory, another)
    if directory.is_dir():
        if any(directory.iterdir()):
            raise UsageError(f"the directory {directory} is not empty", another)
    elif directory.exists() or directory.is_symlink():
        raise UsageError(f"{directory} is a file, not a directory", another)


def _find_images() -> Traversable:
    """Find the images: inside the package if installed from a wheel, else in the checkout."""
    installed = resources.files("cnnclf") / "sample_data" / "x_or_o"
    checkout = Path(__file__).parents[2] / "sample_data" / "x_or_o"
    for place in (installed, checkout):
        if place.is_dir():
            return place
    raise DataError(
        f"the sample images are missing in {installed}",
        "install cnnclf again; in a checkout, run sample_data/make_sample_data.py",
    )
