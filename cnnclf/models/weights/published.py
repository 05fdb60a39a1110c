"""Where published ImageNet weights are on this machine, and whether they match their checksums.

Light: loads no Keras. `models/weights/downloads.py` downloads what is missing.
"""

import os
import sysconfig
from importlib import metadata
from pathlib import Path

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.files import hash_file
from cnnclf.models.backbones import Backbone
from cnnclf.models.weights.weight_files import WEIGHT_FILES, WeightsFile
from cnnclf.packages import EXTRAS, install_command

LITE0_FILE = WEIGHT_FILES["efficientnet-lite0"]


def find_keras_directory() -> Path:
    """Return the directory where Keras keeps downloaded weights; it need not exist yet."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path("~/.keras")).expanduser() / "models"


def make_keras_directory() -> None:
    """Create the directory where Keras keeps downloaded weights, and check that it is writable.

    Raises:
        RunError: It cannot be created, or is not writable.
    """
    directory, reason = find_keras_directory(), ""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if not reason and not os.access(directory, os.W_OK):
        reason = "permission denied"
    if reason:
        raise RunError(
            f"cannot write to the weights directory: {reason}: {directory}",
            "set KERAS_HOME to a writable directory",
        )


def find_published_path(backbone: Backbone) -> Path:
    """Return where the ImageNet weights of a backbone belong; a download need not be there yet.

    Raises:
        MissingPackageError: The package that ships the file is not installed.
    """
    if backbone.imagenet.package:
        return find_packaged(backbone.imagenet)
    return find_keras_directory() / backbone.imagenet.name


def find_packaged(published: WeightsFile = LITE0_FILE) -> Path:
    """Find weights in their installed package, without importing it.

    Raises:
        MissingPackageError: The package is not installed, or its file is missing.
    """
    module = published.package.replace("-", "_")
    hint = install_command(f"cnnclf[{EXTRAS[module]}]" if module in EXTRAS else published.package)
    what = f"the file {published.name} ({published.algorithm} {published.digest})"
    folder = Path(module, "models")
    try:
        package = metadata.distribution(published.package)
    except metadata.PackageNotFoundError:
        place = Path(sysconfig.get_path("purelib")) / folder
        raise MissingPackageError(
            f"the package {published.package} is not installed; it puts {what} in {place}",
            hint,
        ) from None
    path = Path(str(package.locate_file(folder / published.name)))
    if not path.is_file():
        raise MissingPackageError(
            f"{what} is missing from the package {published.package}: {path}", hint
        )
    return path


def find_state(backbone: Backbone) -> str:
    """Say whether the published weights are here: installed or downloaded, or not so."""
    state = "installed" if backbone.imagenet.package else "downloaded"
    try:
        return state if find_published_path(backbone).is_file() else f"not {state}"
    except MissingPackageError:
        return f"not {state}"


def check_published(path: Path, backbone: Backbone) -> None:
    """Check a file in Keras's directory against what was published.

    Raises:
        RunError: It cannot be read, is truncated or is another file; the hint replaces it.
    """
    fault = find_fault(path, backbone.imagenet)
    if fault:
        raise RunError(
            f"not the published weights of {backbone.name}: {fault}: {path}",
            f"cnnclf weights pull {backbone.name} --overwrite replaces the file",
        )


def find_fault(path: Path, published: WeightsFile) -> str:
    """Say how a file differs from the published one; empty if it does not.

    Where no checksum is published, the file must be complete HDF5, which detects truncation;
    whether it fits its backbone is checked when it is loaded.

    Raises:
        RunError: It cannot be read.
    """
    if published.digest:
        received = hash_weights(path, published.algorithm)
        if received == published.digest:
            return ""
        return (
            f"contents do not match the checksum ({published.algorithm} {received} instead of"
            f" {published.digest})"
        )
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r"):
            return ""
    except OSError:
        return "not a complete HDF5 file"


def hash_weights(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of a file of weights.

    Raises:
        RunError: It cannot be read.
    """
    try:
        return hash_file(path, algorithm)
    except OSError as error:
        raise RunError(f"cannot read weights file ({error.strerror}): {path}") from error
