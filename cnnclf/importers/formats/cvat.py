"""Tags of images in the format "CVAT for images 1.1": annotations.xml beside the images."""

from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from cnnclf.bounded import check_regular
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start
from cnnclf.importers.formats.json_labels import Pairs, list_pairs
from cnnclf.importers.importer import ImportJob, Listing, names_others, path_importer
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.names import count_of

_NAME: Final = "annotations.xml"
_HEAD_BYTES: Final = 4096
_MAX_BYTES: Final = 512 << 20


def recognize_cvat(source: Path) -> str | None:
    """Recognize annotations.xml by its first element, also in a folder."""
    path = source / _NAME if source.is_dir() else source
    if path.suffix.lower() != ".xml" or b"<annotations" not in read_start(path, _HEAD_BYTES):
        return None
    return f"{path.name} holds annotations of CVAT"


def read_cvat(source: Path, job: ImportJob) -> Listing:
    """List the images that have tags; boxes and other shapes are not labels of images.

    Raises:
        DataError: The document is damaged, has no tags, or images with several.
    """
    path = source / _NAME if source.is_dir() else source
    pairs: Pairs = {}
    splits: dict[str, str] = {}
    unlabeled, shapes = [], 0
    try:
        check_regular(path, max_bytes=_MAX_BYTES)
        if b"<!" in read_start(path, _HEAD_BYTES).replace(b"<!--", b""):
            raise DataError(f"{path} declares entities, which CVAT never writes")
        for _, image in ET.iterparse(path):  # noqa: S314 - entities are refused
            if image.tag != "image":
                continue
            name = image.get("name", "")
            splits[name] = read_split_name(image.get("subset", "")).split
            labels = dict.fromkeys(str(tag.get("label")).strip() for tag in image.iter("tag"))
            shapes += sum(child.tag != "tag" for child in image)
            if labels:
                pairs[name] = list(labels)
            else:
                unlabeled.append(name)
            image.clear()
    except (OSError, ET.ParseError) as error:
        reason = getattr(error, "strerror", None) or f"not valid XML: {error}"
        raise DataError(f"cannot read {path}: {reason}") from error
    if not pairs:
        raise DataError(
            f"{path} holds no tags of images, only {count_of(shapes, 'shape')}",
            "add tags in CVAT, or export as ImageNet",
        )
    kind = "annotations of CVAT"
    return list_pairs(path, pairs, unlabeled=unlabeled, kind=kind, job=job, splits=splits)


CVAT: Final = path_importer(
    "cvat",
    "annotations.xml of CVAT (for images 1.1) with tags, beside the images",
    recognize=recognize_cvat,
    read=read_cvat,
    is_inside=True,
    names_files=names_others,
)
