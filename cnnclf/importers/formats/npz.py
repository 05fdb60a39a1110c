"""NumPy archives (.npz) with arrays of images and of labels, for one split or for several."""

import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start, zip_faults
from cnnclf.importers.formats.arrays import (
    SCALE_RULE,
    Part,
    Pixels,
    check_image_shape,
    index_labels,
    scale_samples,
    spoken_shape,
    unpack_parts,
)
from cnnclf.importers.formats.npz_arrays import NpzArray, array_key, find_arrays
from cnnclf.importers.importer import ImportJob, Listing, path_importer
from cnnclf.importers.source import Source
from cnnclf.importers.walk import list_visible
from cnnclf.names import count_of, natural_key


def recognize_npz(source: Path) -> str | None:
    """Recognize a zip file that holds nothing but arrays."""
    if read_start(source, 2) != b"PK":
        return None
    try:
        with zip_faults(source), zipfile.ZipFile(source) as archive:
            names = archive.namelist()
    except DataError:
        return "its name ends in .npz" if source.suffix.lower() == ".npz" else None
    if not names or not all(name.endswith(".npy") and "/" not in name for name in names):
        return None
    return f"it is a zip file of NumPy arrays ({', '.join(array_key(name) for name in names[:4])})"


def read_npz(source: Path, job: ImportJob) -> Listing:
    """Unpack the pairs of arrays that hold images and labels.

    They are recognized by their names: x, images, data, features ... and y, labels, targets ...,
    with train, val or test for the splits; text in class_names names the classes. Images are
    [N, H, W], [N, H, W, C], [N, C, H, W] or [N, side * side]; labels are [N], [N, 1] or one-hot
    [N, K], integers or text.

    Raises:
        DataError: There are no such pairs, or their arrays do not belong together.
    """
    arrays = find_arrays(source)
    pairs = _find_pairs(source, arrays)
    rule = _choose_rule([images for _, images, _ in pairs])
    names, indices = _name_classes(source, pairs, arrays, job)
    parts = [_part(images, split, indices[images.key], rule) for split, images, _ in pairs]
    listing = unpack_parts(source, parts, names=names, job=job)
    listing.remarks += [f"labels of {images.key}: {labels.key}" for _, images, labels in pairs]
    if rule.text:
        listing.remarks.append(rule.text)
    used = {array.key for _, *both in pairs for array in both}
    listing.warnings += [
        f"{key} has no array of labels with a name like it: its {count_of(array.count, 'image')} "
        "are not used"
        for key, array in arrays.items()
        if key not in used and _IMAGE_WORDS.fullmatch(_split_and_word(key)[1])
    ]
    return listing


@dataclass(frozen=True)
class _Rule:
    """How the numbers of all arrays become pixels, and the remark about it."""

    factor: float | None
    text: str


_Pair = tuple[str, NpzArray, NpzArray]
_Indices = npt.NDArray[np.int64]

_SPLIT_WORDS: Final = (
    (re.compile(r"train(ing)?"), "train"),
    (re.compile(r"val(id(ation)?)?|dev"), "val"),
    (re.compile(r"test(ing)?"), "test"),
)
_IMAGE_WORDS: Final = re.compile(
    r"x|xs|set_?x|(image|img|picture|data|feature|input|sample|pixel)s?"
)
_LABEL_WORDS: Final = re.compile(r"y|ys|set_?y|(label|target|output|class_?id)s?|class")
_NAME_WORDS: Final = re.compile(r"(class|label|target|category)_?names?|classes|categories|names")
_MIDDLE: Final = 127
_MAX_CLASSES: Final = 2**31
_CHANNELS: Final = (1, 3, 4)


def _find_pairs(source: Path, arrays: dict[str, NpzArray]) -> list[_Pair]:
    images: dict[str, NpzArray] = {}
    labels: dict[str, NpzArray] = {}
    for key, array in arrays.items():
        split, word = _split_and_word(key)
        for words, found in ((_IMAGE_WORDS, images), (_LABEL_WORDS, labels)):
            if not words.fullmatch(word):
                continue
            if split in found:
                raise DataError(
                    f"{source} has two arrays of the same kind: {found[split].key} and {key}"
                )
            found[split] = array
    if not images and set(arrays) == {"arr_0", "arr_1"}:
        # The names that numpy.savez gives to arrays without names.
        images, labels = {"": arrays["arr_0"]}, {"": arrays["arr_1"]}
    pairs = [(split, images[split], labels[split]) for split in images if split in labels]
    if not pairs:
        raise DataError(
            "expected arrays such as x and y, or x_train, y_train, x_test and y_test, in "
            f"{source}, received {', '.join(list(arrays)[:12]) or 'none'}",
            "save them as numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)",
        )
    for _, one, two in pairs:
        _check_pair(source, one, two)
    return pairs


def _split_and_word(key: str) -> tuple[str, str]:
    text = key.lower()
    for pattern, split in _SPLIT_WORDS:
        if pattern.search(text):
            return split, pattern.sub("", text, count=1).strip("_-. ")
    return "", text


def _check_pair(source: Path, images: NpzArray, labels: NpzArray) -> None:
    if images.header.dtype.kind not in "biuf":
        raise DataError(f"expected numbers in {images.key} of {source}, received text")
    if images.count != labels.count or not labels.count:
        raise DataError(
            f"expected as many labels as images, at least one, in {source}, received "
            f"{images.count} images in {images.key} and {labels.count} labels in {labels.key}"
        )
    _image_shape(images)


def _image_shape(array: NpzArray) -> tuple[tuple[int, ...], bool]:
    """Return the shape [H, W] or [H, W, C] of an image, and whether the array is channels-first."""
    shape = array.header.shape[1:]
    channels_first = len(shape) == 3 and shape[2] not in _CHANNELS and shape[0] in _CHANNELS
    if channels_first:
        shape = (shape[1], shape[2], shape[0])
    elif len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
        shape = (math.isqrt(shape[0]),) * 2
    check_image_shape(f"{array.key} of {array.source}", shape)
    return shape, channels_first


def _choose_rule(arrays: list[NpzArray]) -> _Rule:
    """Choose how numbers become pixels: by convention, images are numbers of 0..1 or 0..255.

    The convention is the same for every file, so that files imported separately are scaled in the
    same way; all other numbers are scaled by `SCALE_RULE`.
    """
    others = [array for array in arrays if array.header.dtype not in (np.uint8, np.bool_)]
    if not others:
        return _Rule(None, "")
    low, high = math.inf, -math.inf
    for array in others:
        for block in array.blocks():
            if not np.isfinite(block).all():
                return _Rule(None, SCALE_RULE)
            low, high = min(low, float(block.min())), max(high, float(block.max()))
    if any(array.header.dtype.kind == "f" for array in others) and low >= 0 and high <= 1:
        return _Rule(255.0, "numbers from 0 to 1 were multiplied by 255")
    if low >= 0 and _MIDDLE <= high <= 255:
        return _Rule(1.0, "numbers from 0 to 255 were rounded")
    return _Rule(None, SCALE_RULE)


def _part(array: NpzArray, split: str, indices: _Indices, rule: _Rule) -> Part:
    shape, channels_first = _image_shape(array)

    def blocks() -> Iterator[Pixels]:
        start = 0
        for block in array.blocks():
            if rule.factor is None or block.dtype in (np.uint8, np.bool_):
                pixels, faults = scale_samples(block)
                part.faults.update({start + at: reason for at, reason in faults.items()})
            else:
                pixels = np.rint(block * rule.factor).astype(np.uint8)
            if channels_first:
                pixels = pixels.transpose(0, 2, 3, 1)
            yield pixels.reshape(len(block), *shape)
            start += len(block)

    part = Part(array.key, split, indices, blocks)
    return part


def _name_classes(
    source: Path, pairs: list[_Pair], arrays: dict[str, NpzArray], job: ImportJob
) -> tuple[tuple[str, ...], dict[str, _Indices]]:
    values = {images.key: _read_labels(source, labels) for _, images, labels in pairs}
    if all(isinstance(value, list) for value in values.values()):
        texts = {key: value for key, value in values.items() if isinstance(value, list)}
        names = tuple(sorted({text for value in texts.values() for text in value}, key=natural_key))
        position = {name: index for index, name in enumerate(names)}
        return names, {
            key: np.array([position[text] for text in value], np.int64)
            for key, value in texts.items()
        }
    numbers = {key: value for key, value in values.items() if not isinstance(value, list)}
    if len(numbers) < len(values):
        raise DataError(f"the labels of {source} are both numbers and text; make them one kind")
    return index_labels(source, numbers, classes=job.read_classes() or _find_names(source, arrays))


def _find_names(source: Path, arrays: dict[str, NpzArray]) -> tuple[str, ...] | None:
    for key, array in arrays.items():
        word = _split_and_word(key)[1]
        if (
            _NAME_WORDS.fullmatch(word)
            and array.header.dtype.kind in "SU"
            and len(array.header.shape) == 1
        ):
            names = tuple(_texts(source, array))
            if len(set(names)) < len(names):
                raise DataError(f"{key} of {source} repeats a class name")
            return names
    return None


def _read_labels(source: Path, array: NpzArray) -> _Indices | list[str]:
    shape, kind = array.header.shape, array.header.dtype.kind
    if kind in "SU" and math.prod(shape[1:]) == 1:
        return _texts(source, array)
    values = array.read() if kind in "biuf" else np.zeros(0)
    if not np.isfinite(values).all():
        values = np.zeros(0)
    one_hot = len(shape) == 2 and shape[1] > 1 and values.size > 0
    if one_hot and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all():
        return np.asarray(values.argmax(axis=1), np.int64)
    single = math.prod(shape[1:]) == 1 and values.size > 0
    if single and (np.abs(values) < _MAX_CLASSES).all() and not (values % 1).any():
        return values.reshape(-1).astype(np.int64)
    raise DataError(
        "expected labels as integers, text or one-hot, one for each sample, in "
        f"{array.key} of {source}, received {array.header.dtype.name} of {spoken_shape(shape)}"
    )


def _texts(source: Path, array: NpzArray) -> list[str]:
    try:
        texts = [
            value.decode() if isinstance(value, bytes) else str(value)
            for value in array.read().reshape(-1).tolist()
        ]
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(f"the text in {array.key} of {source} is damaged") from error
    if not all(text.strip() for text in texts):
        raise DataError(f"{array.key} of {source} holds an empty label")
    return texts


def _find_inside(folder: Source, options: ImportConfig) -> Source | None:  # noqa: ARG001
    found = [file for file in list_visible(folder.require_path()) if recognize_npz(file)]
    return Source.of(found[0]) if len(found) == 1 else None


NPZ: Final = path_importer(
    "npz",
    "NumPy arrays of images and labels (.npz)",
    recognize=recognize_npz,
    read=read_npz,
    unpacks=True,
)._replace(find_inside=_find_inside)
