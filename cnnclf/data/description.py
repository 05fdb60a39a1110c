"""What `dataset.json` says of a dataset: labels, source, and which manifest is in use."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cnnclf.bounded import name_kind, parse_json, read_bytes
from cnnclf.data.croissant import CROISSANT_NAME, describe_dataset
from cnnclf.errors import DataError
from cnnclf.files import write_json_atomic

MANIFEST_NAME: Final = "manifest.csv"
DATASET_NAME: Final = "dataset.json"
FORMAT: Final = "cnnclf-dataset"
FORMAT_VERSION: Final = 1
VERSIONED: Final = 2
"""Format version of a dataset whose manifest was changed, which older programs cannot find."""

_MANIFEST: Final = re.compile(r"manifest(-\d{1,9})?\.csv")


def load_description(directory: Path) -> dict[str, Any]:
    """Load `dataset.json`; `manifest` names the file of rows in use.

    Raises:
        DataError: As for `load_dataset`.
    """
    path = directory / DATASET_NAME
    again = "import the source again with: cnnclf import SOURCE --out ANOTHER_DATASET"
    try:
        found = parse_json(read_bytes(path))
    except FileNotFoundError as error:
        raise DataError(
            f"{directory} is not a dataset directory: {path} does not exist", again
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the description of the dataset {path}: "
            f"{getattr(error, 'strerror', None) or error}",
            again,
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path} was not written by cnnclf import", again)
    version = found.get("version")
    if version not in (FORMAT_VERSION, VERSIONED):  # not a set: a list cannot be looked up in one
        raise DataError(
            f"{path} is damaged: its format version is missing"
            if version is None
            else f"expected format version {FORMAT_VERSION} in {path}, received {version!r:.40}",
            "upgrade cnnclf, or " + again,
        )
    expected = {"labels": list, "root": str, "source": dict}
    for name, kind in expected.items():
        if not isinstance(found.get(name), kind):
            raise DataError(f"{path} is damaged: {name!r} is not {name_kind(kind())}", again)
    labels = found["labels"]
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) < len(labels):
        raise DataError(f"{path} is damaged: 'labels' are not distinct texts", again)
    if "\0" in found["root"]:
        raise DataError(f"{path} is damaged: 'root' is not a path", again)
    versions = found.setdefault("versions", [])
    names = [found.setdefault("manifest", MANIFEST_NAME)]
    names += [isinstance(each, dict) and each.get("manifest") for each in versions]
    if not all(isinstance(name, str) and _MANIFEST.fullmatch(name) for name in names):
        raise DataError(
            f"{path} is damaged: 'manifest' or 'versions' are not those of cnnclf", again
        )
    return found


def write_description(directory: Path, description: Mapping[str, Any], *, name: str = "") -> None:
    """Write `dataset.json` of a manifest that exists, and `croissant.json` beside it.

    Raises:
        DeviceError: The disk is full.
        RunError: The directory cannot be written.
    """
    manifest = description.get("manifest", MANIFEST_NAME)
    croissant = describe_dataset(
        directory, description, manifest=manifest, name=name or directory.resolve().name
    )
    write_json_atomic(directory / CROISSANT_NAME, croissant)
    write_json_atomic(directory / DATASET_NAME, dict(description))
