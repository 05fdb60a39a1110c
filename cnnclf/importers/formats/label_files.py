"""A file for each image that says its label: Pascal VOC, labelme, YOLO, a word in a .txt.

It has the name of the image, in the same folder or in one beside it: `Annotations/1.xml` of
`JPEGImages/1.jpg`.
"""

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from cnnclf.bounded import parse_json, read_bytes
from cnnclf.config import ImportConfig
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.errors import DataError
from cnnclf.images.formats import SUFFIXES
from cnnclf.importers.formats.json_labels import Pairs, list_pairs, name_numbers
from cnnclf.importers.importer import Importer, ImportJob, Listing, read_classes_file
from cnnclf.importers.layouts.folder_view import FolderView, name_of, parent_of
from cnnclf.importers.layouts.split_words import is_neutral, read_split_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.beside import find_tables
from cnnclf.importers.tables.table_columns import name_columns
from cnnclf.importers.walk import Walk, list_visible
from cnnclf.names import count_of, name_some

_SUFFIXES: Final = (".xml", ".json", ".txt")
_SAMPLED: Final = 50
_MAX_FOLDERS: Final = 200
_MAX_BYTES: Final = 16 << 20  # labelme may put the image into its file
_MAX_LABEL: Final = 64
_BOX: Final = re.compile(r"(\d+)(?:\s+-?\d*\.?\d+(?:[eE]-?\d+)?){4,}")  # of YOLO, or a polygon
_CLASS_LISTS: Final = ("classes.txt", "obj.names", "predefined_classes.txt")
_NAMES: Final = re.compile(  # of data.yaml
    r"^names:[ \t]*(\[[^]]*\]|\{[^}]*\}|(?:\n(?:[ \t]+\S.*|-.*))+)", re.MULTILINE
)
_IMAGE_SETS: Final = "/ImageSets/Main/"
_VOC_FOLDERS: Final = ("JPEGImages", "Annotations")
_YEARS: Final = 20  # of Pascal VOC in one folder


class _UnreadableError(Exception):
    """Why the label of one image cannot be read."""


@dataclass(frozen=True)
class _Labeled:
    """The images of a folder.

    Args:
        source: The folder.
        files: The file of the label of each image, if there is one.
        masks: What belongs to an image in another folder.
        sets: The lists of splits of Pascal VOC.
    """

    source: Path
    files: dict[str, str | None]
    masks: dict[str, str]
    sets: tuple[str, ...]

    def sample(self) -> list[str]:
        """Return the labels of some images, several of an image as one."""
        named = [file for file in self.files.values() if file]
        found = []
        for file in named[:: max(1, len(named) // _SAMPLED)][:_SAMPLED]:
            try:
                labels = _read_labels(self.source / file)
            except _UnreadableError:
                continue
            found += [", ".join(labels)] if labels else []
        return found


def find_reason(folder: Source, options: ImportConfig, *, is_known: bool) -> str | None:
    """Return why files say the labels of a folder, unless a table, folders or a rule do.

    Args:
        folder: The folder.
        options: Of the import.
        is_known: Whether a table or folders say the labels. Pascal VOC has folders of masks, which
            are no classes.
    """
    if options.label_from or (is_known and not _is_pascal_voc(folder.require_path())):
        return None
    return recognize_label_files(folder)


def recognize_label_files(source: Source) -> str | None:
    """Recognize a folder where most images have a file with a label, which repeats."""
    path = source.path
    if path is None or not path.is_dir() or not _has_label_files(path):
        return None
    labeled = _find_files(path)
    labels = labeled.sample()
    named = [file for file in labeled.files.values() if file]
    # Captions are texts that hardly ever repeat, and no labels.
    if len(named) * 2 <= len(labeled.files) or not 0 < len(set(labels)) * 2 <= len(labels):
        return None
    return f"a file has the label of each image, such as {named[0]}"


def read_label_files(given: Source, job: ImportJob) -> Listing:
    """List the images by the labels in their files; those of boxes are the classes in an image.

    Raises:
        DataError: No image has such a file, or images have labels of several classes.
    """
    source = given.require_path()
    labeled = _find_files(source)
    pairs: Pairs = {}
    unreadable = []
    for image, file in labeled.files.items():
        try:
            pairs[image] = _read_labels(source / file) if file else []
        except _UnreadableError as error:
            unreadable.append((image, f"{file} {error}"))
    if not any(pairs.values()):
        raise DataError(
            f"{source} holds no image with a label in a file of its name",
            "give 1.jpg its label in 1.txt, 1.xml or 1.json, in its folder or in one beside it",
        )
    is_named = job.options.classes_file is not None  # then list_pairs names the numbers
    pairs = pairs if is_named else name_numbers(pairs, _read_class_names(source))
    has_numbers = any(label.isdecimal() for labels in pairs.values() for label in labels)
    kinds = sorted({Path(file).suffix for file in labeled.files.values() if file})
    listing = list_pairs(
        source,
        pairs,
        unlabeled=[],
        kind=f"images, each with its label in a file ({name_some(kinds)})",
        job=job,
        splits=_read_splits(labeled),
    )
    if has_numbers and not is_named:
        listing.warnings.append("the labels are numbers: --classes-file FILE names the classes")
    if masks := labeled.masks:
        first = next(iter(masks))
        listing.remarks.append(
            f"{count_of(len(masks), 'image')} not used, such as {first}: a mask of {masks[first]}"
        )
    reasons = {mask: f"its label is that of {image}" for mask, image in masks.items()}
    listing.unneeded.extend(reasons.items())
    for image, reason in unreadable:
        listing.lose(image, reason)
    return listing


def _has_label_files(source: Path) -> bool:
    """Return whether any folder, of those that are looked at, has files that may be labels."""
    view, waiting = FolderView(source), [""]
    for _ in range(_MAX_FOLDERS):
        if not waiting:
            break
        here = waiting.pop()
        if any(file.casefold().endswith(_SUFFIXES) for file in view.files(here)):
            return True
        waiting += view.filled(here)
    return False


def _is_pascal_voc(source: Path) -> bool:
    places = [source, *list_visible(source)[:_YEARS]]
    # `os`: a path that is in a closed folder is none, where `Path` raises
    return any(
        all(os.path.isdir(each / name) for name in _VOC_FOLDERS)  # noqa: PTH112
        for each in places
    )


def _find_files(source: Path) -> _Labeled:
    images, others = [], defaultdict(list)
    for path in Walk(source).all_files():
        if path.casefold().endswith(tuple(SUFFIXES)):
            images.append(path)
        elif path.casefold().endswith(_SUFFIXES):
            others[name_of(path).rpartition(".")[0]].append(path)
    sets = [path for split in SPLITS for path in others[split] if _IMAGE_SETS in f"/{path}"]
    folders = set(map(parent_of, images))
    files = {image: _choose(image, others, folders) for image in images}
    masks = _find_masks(files)
    files = {image: file for image, file in files.items() if image not in masks}
    return _Labeled(source, files, masks, tuple(sets))


def _find_masks(files: dict[str, str | None]) -> dict[str, str]:
    """Return what has the label of an image in a folder named like one of images, or a fuller one.

    Images beside each other may share a file.
    """
    counts = Counter(map(parent_of, files))
    best: dict[str, str] = {}
    for image, file in files.items():
        if file:
            best[file] = max(best.get(file, image), image, key=lambda each: _rank(each, counts))
    return {
        image: best[file]
        for image, file in files.items()
        if file and parent_of(best[file]) != parent_of(image)
    }


def _rank(image: str, counts: Counter[str]) -> tuple[bool, int]:
    folder = parent_of(image)
    return is_neutral(name_of(folder)), counts[folder]


def _choose(image: str, others: dict[str, list[str]], of_images: set[str]) -> str | None:
    """Return the file of an image: beside it, or where one folder of its path is another one.

    That one has no images: valid/1.txt is not the file of train/1.jpg.
    """
    name, folders = name_of(image), parent_of(image).split("/")
    found = others.get(name.rpartition(".")[0], []) + others.get(name, [])

    def differ(file: str) -> int:
        above = parent_of(file).split("/")
        if len(above) != len(folders) or (above != folders and parent_of(file) in of_images):
            return 2
        return sum(one != other for one, other in zip(above, folders, strict=True))

    near = [file for file in sorted(found, key=differ) if differ(file) < 2]
    return near[0] if near else None


def _read_labels(path: Path) -> list[str]:
    """Return the labels that a file gives an image, each once."""
    try:
        data = read_bytes(path, max_bytes=_MAX_BYTES)
        suffix = path.suffix.casefold()
        read = {".xml": _read_voc, ".json": _read_json}.get(suffix, _read_text)
        return list(dict.fromkeys(filter(None, map(str.strip, read(data)))))
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {error.strerror}") from error
    except (ValueError, ET.ParseError) as error:
        raise _UnreadableError(f"is damaged: {error}") from error


def _read_voc(data: bytes) -> list[str]:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it declares entities")
    root = ET.fromstring(data)  # noqa: S314 - entities are refused
    return [found.findtext("name", "") for found in root.iter("object")]


def _read_json(data: bytes) -> list[str]:
    """Read the flags or else the shapes of labelme, the tags of Supervisely, or a label."""
    document = parse_json(data)
    if not isinstance(document, dict):
        return []
    flags = document.get("flags")
    if isinstance(flags, dict) and any(flags.values()):
        return [name for name, is_set in flags.items() if is_set]
    rows = [*_objects(document, "shapes"), *_objects(document, "tags")]
    if not rows:
        label = document.get(name_columns(tuple(document)).get("label", ""))
        return [str(label)] if isinstance(label, str | int) else []
    return [str(row.get("label") or row.get("name") or "") for row in rows]


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _read_text(data: bytes) -> list[str]:
    """Read one line, the label, or lines of boxes that begin with the number of a class."""
    lines = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    boxes = [_BOX.fullmatch(line) for line in lines]
    if lines and all(boxes):
        return [str(int(box[1])) for box in boxes if box]
    return lines if len(lines) == 1 and len(lines[0]) <= _MAX_LABEL else []


def _read_class_names(source: Path) -> tuple[str, ...]:
    """Return the names of class numbers that YOLO keeps beside the images; none if there are none.

    Raises:
        DataError: The file of the names cannot be used.
    """
    for name in _CLASS_LISTS:
        for folder in (source, source / "labels"):
            if os.path.isfile(folder / name):  # noqa: PTH113 (as above)
                return read_classes_file(folder / name)
    try:
        found = _NAMES.search(read_bytes(source / "data.yaml").decode().replace("\r\n", "\n"))
    except (OSError, ValueError):
        return ()
    return () if found is None else _parse_names(found[1])


def _parse_names(text: str) -> tuple[str, ...]:
    """Read a list, or a map from all numbers below a count, in YAML of one line or several."""
    is_flow = text[0] in "[{"
    text = text[1:-1].replace("\n", " ") if is_flow else re.sub(r"[ \t]#.*", "", text)
    end = "," if is_flow else "\n"
    items = re.findall(
        rf"""(?:^|{end})[ \t]*(?:-[ \t]|(\d+)[ \t]*:)?[ \t]*('[^']*'|"[^"]*"|[^{end}]*)""", text
    )
    filled = [(number, name.strip(" \t'\"")) for number, name in items if name.strip()]
    names = {int(number or at): name for at, (number, name) in enumerate(filled)}
    is_whole = sorted(names) == [*range(len(filled))] and all(names.values())
    return tuple(names[at] for at in range(len(filled))) if is_whole else ()


def _read_splits(labeled: _Labeled) -> dict[str, str]:
    """Return the splits that the lists of Pascal VOC, or else folders, give the images."""
    splits: dict[str, str] = {}
    for path in labeled.sets:
        base, split = f"/{path}".rpartition(_IMAGE_SETS)[0], name_of(path).removesuffix(".txt")
        try:
            stems = read_bytes(labeled.source / path).decode().split()
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {labeled.source / path}: {error}") from error
        splits |= {f"{base}/{stem}": split for stem in stems}

    def split_of(image: str) -> str:
        above = parent_of(image)
        if labeled.sets:
            base = parent_of(f"/{above}")
            return splits.get(f"{base}/{name_of(image).rpartition('.')[0]}", "")
        words = (read_split_name(folder).split for folder in above.split("/"))
        return next(filter(None, words), "")

    return {image: split_of(image) for image in labeled.files}


def _find_inside(folder: Source, options: ImportConfig) -> Source | None:
    tables, has_classes = find_tables(folder, options)
    is_known = bool(tables) or has_classes
    return None if find_reason(folder, options, is_known=is_known) is None else folder


LABEL_FILES: Final = Importer(
    "label-files",
    "a file with the label of each image: Pascal VOC, labelme, YOLO, or text",
    recognize_label_files,
    read_label_files,
    find_inside=_find_inside,
)
