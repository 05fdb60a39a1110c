"""Describes a dataset in the Croissant format, which other programs and search engines read.

Croissant Format Specification 1.0 (MLCommons, 2024): JSON-LD with the files of a dataset and the
records in them. Here the records are the rows of the manifest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cnnclf.files import hash_file

CROISSANT_NAME: Final = "croissant.json"
_ENCODINGS: Final = {
    "image": "image/*",
    "array": "application/octet-stream",
    "sound": "audio/*",
}
_OWN_TERMS: Final = (
    "citeAs", "column", "conformsTo", "equivalentProperty", "extract", "field", "fileProperty",
    "fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
    "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
# Of the manifest, with its type and what it means.
_COLUMNS: Final = {
    "path": ("sc:Text", "Path of the file, relative to the folder of the images."),
    "label": ("sc:Text", "Class of the image."),
    "split": ("sc:Text", "train, val or test; empty for none."),
    "width": ("sc:Integer", "Columns of pixels."),
    "height": ("sc:Integer", "Rows of pixels."),
    "sha256": ("sc:Text", "Checksum of the file."),
    "group": ("sc:Text", "Files of one group share a split; empty for none."),
}


def describe_dataset(
    directory: Path, description: Mapping[str, Any], *, manifest: str, name: str
) -> dict[str, Any]:
    """Return the content of `croissant.json`."""
    kind = description["source"].get("kind", "image")
    counts = {split: sum(each.values()) for split, each in description["counts"].items()}
    spoken = ", ".join(f"{count} {split}" for split, count in counts.items())
    return {
        "@context": _make_context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{kind.capitalize()}s of {len(description['labels'])} classes: {spoken}. "
        f"Files are relative to {description['root']}.",
        "version": "1.0.0",
        "distribution": [
            _describe(
                "FileObject",
                manifest,
                description="One row per image.",
                contentUrl=manifest,
                encodingFormat="text/csv",
                sha256=hash_file(directory / manifest),
            ),
            _describe(
                "FileSet",
                "files",
                description="The files that the manifest names.",
                encodingFormat=_ENCODINGS[kind],
                includes=f"{description['root']}/**",
            ),
        ],
        "recordSet": [_list_labels(description["labels"]), _list_rows(manifest)],
    }


def _make_context() -> dict[str, Any]:
    terms: dict[str, Any] = {name: f"cr:{name}" for name in _OWN_TERMS}
    return terms | {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "rai": "http://mlcommons.org/croissant/RAI/",
        "sc": "https://schema.org/",
    }


def _describe(kind: str, identifier: str, **facts: Any) -> dict[str, Any]:
    """Describe a part of a dataset, whose name is the end of its identifier."""
    name = identifier.rpartition("/")[2]
    return {"@type": f"cr:{kind}", "@id": identifier, "name": name, **facts}


def _list_labels(labels: list[str] | tuple[str, ...]) -> dict[str, Any]:
    field = "labels/name"
    return _describe(
        "RecordSet",
        "labels",
        description="The classes, in the order of their numbers.",
        dataType="sc:Enumeration",
        key={"@id": field},
        field=[_describe("Field", field, description="Name of the class.", dataType="sc:Text")],
        data=[{field: label} for label in labels],
    )


def _list_rows(manifest: str) -> dict[str, Any]:
    fields = []
    for name, (kind, meaning) in _COLUMNS.items():
        source = {"fileObject": {"@id": manifest}, "extract": {"column": name}}
        reference = {"references": {"field": {"@id": "labels/name"}}} if name == "label" else {}
        facts = {"dataType": kind, "source": source, **reference}
        fields.append(_describe("Field", f"samples/{name}", description=meaning, **facts))
    return _describe("RecordSet", "samples", description="The images.", field=fields)
