"""Croissant descriptions (croissant.json) of files that are here: a table, or a set of images.

Croissant Format Specification 1.0 (MLCommons, 2024). The records of a table are read from the
columns that its fields name; those of a set of files by its patterns, with the label that an
expression finds in the path, or else the folder.
"""

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cnnclf.bounded import is_inside, parse_json, read_bytes
from cnnclf.data.croissant import CROISSANT_NAME
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start
from cnnclf.importers.formats.tables import read_table
from cnnclf.importers.importer import ImportJob, Listing, Record, names_others, path_importer
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.table_columns import name_columns
from cnnclf.importers.walk import Walk
from cnnclf.names import name_some

_HEAD_BYTES: Final = 1 << 14
_WILD: Final = frozenset("*?[")
_TYPES: Final = {"Label": "label", "Split": "split"}  # of fields, in the vocabulary of Croissant
_OPTIONS: Final = ("path", "label", "split", "group")  # --path-column and so on
_Fields = dict[str, dict[str, Any]]


def recognize_croissant(source: Path) -> str | None:
    """Recognize a description by its vocabulary, and a folder by one that describes files in it."""
    path = source / CROISSANT_NAME if source.is_dir() else source
    if path.suffix.lower() != ".json" or b"mlcommons.org/croissant" not in read_start(
        path, _HEAD_BYTES
    ):
        return None
    try:
        _choose(path)
    except DataError:
        return None if source.is_dir() else "it is a Croissant description"
    return f"{path.name} is a Croissant description"


def read_croissant(source: Path, job: ImportJob) -> Listing:
    """List the records of a description.

    Raises:
        DataError: It is damaged, or describes no images with labels that are here.
    """
    path = source / CROISSANT_NAME if source.is_dir() else source
    place, fields, root = _choose(path)
    spoken = ", ".join(f"{meaning} from {_name(field)!r}" for meaning, field in fields.items())
    if isinstance(place, Path):
        columns = {f"{name}_column": _column(fields[name]) for name in _OPTIONS if name in fields}
        given = {name: getattr(job.options, name) or column for name, column in columns.items()}
        given |= {"root": job.options.root or root, "format": None}
        listing = read_table(Source.of(place), job.replace_options(**given))
    else:
        listing = Listing(root=path.parent.absolute(), labels=job.read_classes())
        listing.records = _match_files(path.parent, place, fields.get("label"), listing)
    listing.remarks.insert(0, f"{path.name}: {spoken or 'labels are folders'}")
    return listing


def _choose(path: Path) -> tuple[Path | list[str], _Fields, Path | None]:
    """Return the table, or the patterns of files, that a description is of.

    Also the fields of its records by meaning, and where the files that it names are.
    """
    try:
        document = parse_json(read_bytes(path))
        resources = {_id(each): each for each in _list(document.get("distribution"))}
        record_sets = [_list(each.get("field")) for each in _list(document.get("recordSet"))]
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the description {path}: {reason}") from error
    patterns = {
        name: [str(text) for text in _texts(each.get("includes"))]
        for name, each in resources.items()
        if each.get("includes") and not each.get("containedIn")
    }
    root = next((_fixed_part(path.parent, texts[0]) for texts in patterns.values()), None)
    faults = []
    for fields in record_sets:
        named = name_columns([_name(field) for field in fields])
        found = {
            meaning: field
            for field in fields
            for meaning, name in named.items()
            if name == _name(field)
        }
        for field in fields:
            kinds = {
                str(kind).rpartition("/")[2].rpartition(":")[2]
                for kind in _texts(field.get("dataType"))
            }
            found |= {_TYPES[kind]: field for kind in kinds & _TYPES.keys()}
        tables = {
            _id(_source(field).get("fileObject")) for field in found.values()
        } & resources.keys()
        for name in sorted(tables):
            url = resources[name].get("contentUrl")
            if not is_inside(url) or not (path.parent / str(url)).is_file():
                faults.append(f"{url or name} is not here")
            elif "label" in found:
                here = {k: v for k, v in found.items() if _id(_source(v).get("fileObject")) == name}
                return path.parent / str(url), here, root
        sets = [_id(_source(field).get("fileSet")) for field in fields]
        for name in [each for each in sets if each in patterns]:
            label = {k: v for k, v in found.items() if k == "label" and "fileSet" in _source(v)}
            return patterns[name], label, None
    raise DataError(
        f"{path} describes no images with labels that are here"
        + (f": {name_some(faults)}" if faults else ""),
        "fetch the files that it names next to it, or import the folder of the images itself",
    )


def _match_files(
    folder: Path, patterns: list[str], label: dict[str, Any] | None, listing: Listing
) -> Iterator[Record]:
    source = _source(label or {})
    transforms = _list(source.get("transform"))
    expression = next((str(each["regex"]) for each in transforms if each.get("regex")), "")
    is_name = (source.get("extract") or {}).get("fileProperty") == "filename"
    try:
        search = re.compile(expression).search
    except re.error as error:
        raise DataError(f"the expression {expression!r} of labels is not valid: {error}") from error
    walk = Walk(folder)
    for name in walk.all_files():
        if not any(fnmatch.fnmatchcase(f"./{name}", f"*{each}") for each in patterns):
            continue
        path = PurePosixPath(name)
        found = search(path.name if is_name else name) if expression else None
        text = next(filter(None, found.groups()), found[0]) if found else ""
        text = text if expression else path.parent.name
        if text:
            yield Record(name, text, read_split_name(path.parts[0]).split)
        else:
            listing.lose(name, "no label in its path")
    listing.skipped.extend(walk.skipped)


def _fixed_part(folder: Path, pattern: str) -> Path | None:
    """Return the folder that a pattern begins with, if it is here."""
    parts = PurePosixPath(pattern).parts
    wild = next((at for at, part in enumerate(parts) if _WILD.intersection(part)), len(parts))
    place = folder.joinpath(*parts[:wild])
    return place if place.is_dir() else None


def _column(field: dict[str, Any]) -> str | None:
    extract = _source(field).get("extract") or {}
    return extract.get("column") or str(extract.get("jsonPath", "")).lstrip("$.") or None


def _source(field: dict[str, Any]) -> dict[str, Any]:
    source = field.get("source")
    return source if isinstance(source, dict) else {}


def _name(field: dict[str, Any]) -> str:
    return str(field.get("name") or _id(field)).rpartition("/")[2]


def _id(node: object) -> str:
    return str(node.get("@id") or node.get("name") or "") if isinstance(node, dict) else ""


def _list(value: object) -> list[dict[str, Any]]:
    return [each for each in _texts(value) if isinstance(each, dict)]


def _texts(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


CROISSANT: Final = path_importer(
    "croissant",
    "Croissant description of a table or a set of files that are here, or a folder with one",
    recognize=recognize_croissant,
    read=read_croissant,
    names_files=names_others,
)
