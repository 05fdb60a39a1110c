"""JSON documents of labels, one of each image: COCO, Label Studio, VIA, a list, or a map."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cnnclf.bounded import parse_json, read_bytes
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start
from cnnclf.importers.formats.tables import list_rows
from cnnclf.importers.importer import ImportJob, Listing, Record, names_others, path_importer
from cnnclf.importers.layouts.folder_view import is_image_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.cell_values import as_label, as_text
from cnnclf.importers.tables.file_index import FileIndex, NotFoundError
from cnnclf.importers.tables.table_columns import require_folder
from cnnclf.importers.tables.text_table import Table, TableRow
from cnnclf.names import count_of, name_some

_MAX_BYTES: Final = 512 << 20
_KEYS: Final = ("images", "annotations", "categories")
_LABELS_NAME, _DATA_NAME = "labels.json", "data"  # of FiftyOne's classification datasets
Pairs = dict[str, list[str]]
_NO_SPLITS: Final[Mapping[str, str]] = {}


def recognize_json(source: Path) -> str | None:
    """Recognize a JSON file by its name and its first character."""
    if read_start(source / _LABELS_NAME, 1) == b"{" and (source / _DATA_NAME).is_dir():
        return f"{_LABELS_NAME} lists the labels of {_DATA_NAME}/, as FiftyOne writes them"
    if source.suffix.lower() != ".json" or read_start(source, 1) not in (b"{", b"["):
        return None
    return "its name ends in .json"


def read_json(source: Path, job: ImportJob) -> Listing:
    """List the images of a JSON document; their names are looked up below its folder.

    Raises:
        DataError: It is no such document, or its images have several labels.
    """
    source = source / _LABELS_NAME if source.is_dir() else source
    document = _read_document(source)
    if rows := _read_via(document):
        document = rows
    is_list = isinstance(document, list) and all(isinstance(row, dict) for row in document)
    if is_list and document and not all(map(_is_task, document)):
        keys = dict.fromkeys(key for row in document for key in row)
        return list_rows(
            _Objects(source, "", tuple(keys), objects=document), Source.of(source), job=job
        )
    pairs, unlabeled, kind = _read_pairs(source, document)
    return list_pairs(source, pairs, unlabeled=unlabeled, kind=kind, job=job)


def _read_via(document: Any) -> list[dict[str, Any]]:
    """Return the attributes of each file, and of each region of it, in a document of VIA."""
    found = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    files = list(found.values()) if isinstance(found, dict) else []
    if not all(isinstance(file, dict) and "regions" in file for file in files):
        return []
    rows = []
    for file in files:
        regions = file["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions or []
        own = {"filename": file.get("filename")} | _attributes(file.get("file_attributes"))
        inner = [each.get("region_attributes") for each in regions if isinstance(each, dict)]
        rows += [own | _attributes(each) for each in inner] or [own]
    return rows


def _attributes(values: object) -> dict[str, Any]:
    """Return attributes as cells; boxes that are ticked are joined, as several labels are."""
    if not isinstance(values, dict):
        return {}
    return {
        key: "|".join(name for name, ticked in value.items() if ticked)
        if isinstance(value, dict)
        else value
        for key, value in values.items()
    }


@dataclass(frozen=True)
class _Objects(Table):
    """A list of objects, whose keys are columns."""

    objects: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Return what `header` has the names of."""
        return "keys"

    def rows(self) -> Iterator[tuple[int, TableRow]]:
        """Yield each object with its number, from 1."""
        yield from enumerate(self.objects, start=1)


def list_pairs(
    source: Path,
    pairs: Pairs,
    *,
    unlabeled: list[str],
    kind: str,
    job: ImportJob,
    splits: Mapping[str, str] = _NO_SPLITS,
) -> Listing:
    """List images by name, with the labels that a document, or files in a folder, give them.

    Raises:
        DataError: Images have several labels.
    """
    pairs = {name: list(filter(None, map(str.strip, labels))) for name, labels in pairs.items()}
    unlabeled = [*unlabeled, *(name for name, labels in pairs.items() if not labels)]
    pairs = {name: labels for name, labels in pairs.items() if labels}
    classes = job.read_classes()
    if classes:
        pairs = name_numbers(pairs, classes)
    several = {name: labels for name, labels in pairs.items() if len(labels) > 1}
    if several and not job.options.first_label:
        name, labels = next(iter(several.items()))
        raise DataError(
            f"{source} is a multi-label document: {count_of(len(several), 'image')} of "
            f"{len(pairs):,} have several labels, such as {name} ({name_some(labels, 3)})",
            "cnnclf gives each image one label; --first-label uses the first of each",
        )
    given = job.options.root
    beside = source if source.is_dir() else source.parent
    root = require_folder(given) if given else beside
    listing = Listing(
        root=root.absolute(),
        labels=classes,
        remarks=[f"{source.name}: read as {kind}"],
        total=len(pairs),
    )
    if unlabeled:
        listing.warnings.append(
            f"{count_of(len(unlabeled), 'image')} without a label, not used: {name_some(unlabeled)}"
        )
        listing.unneeded.extend((name, "an image without a label") for name in unlabeled)
    listing.records = _records(pairs, splits, FileIndex(root), listing)
    return listing


def name_numbers(pairs: Pairs, classes: Sequence[str]) -> Pairs:
    """Return the labels with the names of classes for their numbers, which begin at 0."""
    names = {str(number): name for number, name in enumerate(classes)}
    known = set(classes)
    return {
        image: [label if label in known else names.get(label, label) for label in labels]
        for image, labels in pairs.items()
    }


def _records(
    pairs: Pairs, splits: Mapping[str, str], index: FileIndex, listing: Listing
) -> Iterator[Record]:
    for name, labels in pairs.items():
        try:
            yield Record(index.take(name), labels[0], splits.get(name, ""))
        except NotFoundError as error:
            listing.lose(name, str(error), label=labels[0])


def _read_document(source: Path) -> Any:
    try:
        return parse_json(read_bytes(source, max_bytes=_MAX_BYTES))
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{source} is not JSON: {error}") from error


def _read_pairs(source: Path, document: Any) -> tuple[Pairs, list[str], str]:
    """Return the labels of each image, the images without one, and what kind of document it is."""
    if isinstance(document, dict) and all(isinstance(document.get(key), list) for key in _KEYS):
        return _read_coco(source, document)
    if isinstance(document, dict) and isinstance(document.get("labels"), dict):
        return _read_numbered(source, document)
    is_map = isinstance(document, dict) and all(
        isinstance(label, str | int) for label in document.values()
    )
    if document and is_map:
        pairs = {name: [as_label(as_text("label", label))] for name, label in document.items()}
        return pairs, [], "a map from file to label"
    if isinstance(document, list) and document and all(map(_is_task, document)):
        return _read_tasks(source, document)
    raise DataError(
        f"{source} is neither a COCO document, nor a list of objects with path and label, nor a "
        "map from file to label",
        "write a CSV file with the columns path,label",
    )


def _read_numbered(source: Path, document: dict[str, Any]) -> tuple[Pairs, list[str], str]:
    """Read {"classes": [...], "labels": {name: label or index of a class}}, as FiftyOne has it."""
    classes = document.get("classes") or []
    pairs: Pairs = {}
    unlabeled = []
    for name, value in document["labels"].items():
        is_index = type(value) is int and isinstance(classes, list) and 0 <= value < len(classes)
        if value is None:
            unlabeled.append(name)
        elif is_index or isinstance(value, str):
            pairs[name] = [as_label(str(classes[value] if is_index else value))]
        else:
            raise DataError(
                f"expected a label, or a number of one of {len(classes)} classes, for {name} in "
                f"{source}, received {str(value)[:40]}"
            )
    return pairs, unlabeled, "a list of classes with the labels of files"


def _read_coco(source: Path, document: dict[str, Any]) -> tuple[Pairs, list[str], str]:
    try:
        categories = {row["id"]: str(row["name"]) for row in document["categories"]}
        names = {row["id"]: str(row["file_name"]) for row in document["images"]}
        pairs: Pairs = {}
        for row in document["annotations"]:
            labels = pairs.setdefault(names[row["image_id"]], [])
            if categories[row["category_id"]] not in labels:
                labels.append(categories[row["category_id"]])
    except (KeyError, TypeError) as error:
        raise DataError(f"{source} is not a valid COCO document: {error!r} is missing") from error
    return pairs, [name for name in names.values() if name not in pairs], "a COCO document"


def _is_task(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("data"), dict)


def _read_tasks(source: Path, document: list[Any]) -> tuple[Pairs, list[str], str]:
    """Read the tasks of Label Studio: an image, and annotations whose results are choices."""
    pairs: Pairs = {}
    unlabeled = []
    for number, row in enumerate(document, start=1):
        texts = [value for value in row["data"].values() if isinstance(value, str)]
        name = next(filter(is_image_name, texts), "")
        if not name:
            raise DataError(f"object {number} of {source} names no image: {', '.join(row['data'])}")
        try:
            choices = [
                str(choice)
                for annotation in row.get("annotations") or row.get("completions") or ()
                if not annotation.get("was_cancelled")
                for result in annotation["result"]
                if result["type"] == "choices"
                for choice in result["value"]["choices"]
            ]
        except (KeyError, TypeError, AttributeError) as error:
            detail = f": {error} is missing" if isinstance(error, KeyError) else ""
            raise DataError(
                f"object {number} of {source} is no task of Label Studio{detail}"
            ) from error
        if choices:
            pairs[name] = list(dict.fromkeys(choices))
        else:
            unlabeled.append(name)
    return pairs, unlabeled, "tasks of Label Studio with choices"


JSON_LABELS: Final = path_importer(
    "json",
    "JSON with labels: COCO, Label Studio, VIA, a list of objects, or a map from file to label",
    recognize=recognize_json,
    read=read_json,
    names_files=names_others,
)
