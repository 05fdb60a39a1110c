"""Tar shards in the layout of WebDataset: the members of a sample share their name up to a dot.

`train-000000.tar` holds `cat_1.jpg` and `cat_1.cls`: the key ends at the first dot of the file
name (https://github.com/webdataset/webdataset, "The WebDataset Format"). Each shard is read once,
from its start to its end.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cnnclf.bounded import TarSlice, parse_json
from cnnclf.errors import DataError
from cnnclf.images.formats import FORMATS
from cnnclf.importers.archives.archives import tar_members
from cnnclf.importers.archives.packed import PackedReader, packing_of, read_start
from cnnclf.importers.formats.packed_samples import (
    SampleWriter,
    describe_files,
    find_class_names,
    safe_part,
)
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.importers.source import Source
from cnnclf.importers.walk import list_visible
from cnnclf.names import count_of, name_some

_IMAGES: Final = frozenset(
    suffix.removeprefix(".") for _, suffixes in FORMATS.values() for suffix in suffixes
)
_LABELS: Final = ("cls", "json", "txt")
_KEYS: Final = ("label", "class_name", "class", "category", "label_name")
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS: Final = 100_000
_MAX_LABEL_BYTES: Final = 1 << 20
_MAX_TEXT: Final = 100
_LOOKED_AT: Final = 8


def recognize_shards(source: Source) -> str | None:
    """Recognize a range of shards, a shard, or a folder of them, by the first members."""
    if source.path is None and _RANGE.search(source.text) and ".tar" in source.text:
        return "its name is a range of tar shards"
    shards = _list_shards(source)
    if not shards or not _is_shard(shards[0]):
        return None
    return f"{shards[0].name} holds images with a label file each"


def read_shards(source: Source, job: ImportJob) -> Listing:
    """List the samples of shards, where they are.

    Compressed shards cannot be read at random; their images become one file in the dataset, as do
    those of shards that are to be copied.

    Raises:
        DataError: Shards of the range are missing, or there is none.
    """
    shards = _list_shards(source)
    if not shards:
        raise DataError(f"{source} holds no tar shards", "give a .tar file, or a folder of them")
    missing = [path.name for path in shards if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(shards)} shards of {source} are missing: {name_some(missing)}",
            "fetch them, or give the range that is there",
        )
    names = find_class_names(shards[0].parent, job.options.classes_file)
    packed = [path.name for path in shards if packing_of(read_start(path, 6))]
    listing = Listing(root=Path(os.path.commonpath([path.parent for path in shards])))
    listing.remarks.append(
        f"read {count_of(len(shards), 'shard')}: {name_some([p.name for p in shards])}"
    )
    writer = None
    if packed or job.options.copy_images:
        listing.root, listing.unpacked = job.unpack_dir, True
        writer = SampleWriter(shards[0], job.unpack_dir)
        if packed:
            listing.remarks.append(
                f"images are copied into the dataset, as these are compressed: {name_some(packed)}"
            )
    listing.records = _Shards(shards, names, writer, listing).records()
    return listing


@dataclass
class _Sample:
    """The members of one key: where its image is, and what may be its label."""

    key: str
    suffix: str = ""
    image: TarSlice | None = None
    content: bytes = b""
    labels: dict[str, bytes] = field(default_factory=dict)


@dataclass
class _Shards:
    shards: list[Path]
    names: tuple[str, ...] | None
    writer: SampleWriter | None
    listing: Listing

    def records(self) -> Iterator[Record]:
        """Yield the samples; what cannot be read is lost, and the others are still read."""
        with self.writer or contextlib.nullcontext():
            for shard in self.shards:
                split = read_split_name(_RANGE.sub("", shard.name.partition(".")[0])).split
                read = 0
                try:
                    for sample in _read_samples(shard, with_content=self.writer is not None):
                        record = self._record(sample, shard=shard.name, split=split)
                        read += 1
                        if record is not None:
                            yield record
                except DataError as error:
                    self.listing.lose(
                        shard.name, f"{error.message}; {read} samples before it were read"
                    )

    def _record(self, sample: _Sample, *, shard: str, split: str) -> Record | None:
        where = f"{shard}/{sample.key}"
        document = _read_json(sample.labels.get("json", b"{}"))
        label, fault = _find_label(sample.labels, document, self.names)
        if sample.image is None or fault:
            fault = "has no image" if sample.image is None else fault
            self.listing.lose(where, f"the sample {fault}", label=label)
            return None
        name = f"{sample.key}.{sample.suffix}"
        if self.writer:
            record = self.writer.write(sample.content, name=name, label=label, split=split)
        else:
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            file = sample.image.file.relative_to(self.listing.root)
            part = sample.image._replace(file=file)
            record = Record(part.name("/".join(map(safe_part, parts))), label, split)
        group = document.get("group")
        return replace(record, group=group) if isinstance(group, str) else record


def _list_shards(source: Source) -> list[Path]:
    if source.path is None:
        return [Path(text) for text in islice(_expand(source.text), _MAX_SHARDS)]
    if source.path.is_dir():
        paths = list_visible(source.path)
        tars = [path for path in paths if ".tar" in path.suffixes and path.is_file()]
        others = [path for path in paths if path.is_dir()]
        return tars if not others else []
    return [source.path] if ".tar" in source.path.suffixes else []


def _expand(text: str) -> Iterator[str]:
    """Yield the names of a range such as name-{000000..000012}.tar."""
    match = _RANGE.search(text)
    if match is None:
        yield text
        return
    width = len(match[1])
    for number in range(int(match[1]), int(match[2]) + 1):
        yield from _expand(f"{text[: match.start()]}{number:0{width}d}{text[match.end() :]}")


def _split_name(name: str) -> tuple[str, str]:
    """Return the key of a member and its suffix, which begins after the first dot of the name."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return (f"{folder}/{stem}" if folder else stem), suffix.casefold()


def _is_shard(path: Path) -> bool:
    kinds: dict[str, set[str]] = {}
    try:
        with PackedReader(path) as reader:
            for member in islice(tar_members(reader), _LOOKED_AT):
                key, suffix = _split_name(member.name)
                kinds.setdefault(key, set()).add(suffix)
    except DataError:
        pass  # of what was seen before; the rest is reported when it is read
    return any(found & _IMAGES and found & set(_LABELS) for found in kinds.values())


def _read_samples(path: Path, *, with_content: bool) -> Iterator[_Sample]:
    """Yield the samples of a shard; members of one sample follow each other.

    Raises:
        DataError: The shard is damaged, after what comes before the damage.
    """
    sample: _Sample | None = None
    with PackedReader(path) as reader:
        for member in tar_members(reader):
            key, suffix = _split_name(member.name)
            if not member.isreg() or not key.rpartition("/")[2]:
                continue
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key)
            is_label = suffix in _LABELS and member.size <= _MAX_LABEL_BYTES
            if suffix in _IMAGES and not member.issparse():
                part = TarSlice(path, member.offset_data, member.size)
                sample.image, sample.suffix = part, suffix
                if not reader.packing and part.offset + part.size > reader.packed_bytes:
                    raise reader.fault("it ends too early")
            if is_label or (sample.image is not None and with_content and suffix in _IMAGES):
                reader.seek(member.offset_data)
                content = reader.read_exactly(member.size)
                if is_label:
                    sample.labels[suffix] = content
                else:
                    sample.content = content
    if sample is not None:
        yield sample


def _find_label(
    labels: dict[str, bytes], document: dict[str, Any], names: tuple[str, ...] | None
) -> tuple[str, str]:
    """Return the label that the files of a sample tell, or "" and what is wrong.

    Numbers stand for class names, if there are any, unless a text is the name of a class itself.
    """
    values = [document[key] for key in _KEYS if isinstance(document.get(key), str | int)]
    texts = [value for value in values if isinstance(value, str)]
    found, is_name = str((texts or values or [""])[0]).strip(), bool(texts)
    for suffix in ("cls", "txt"):
        text = labels.get(suffix, b"").decode("utf-8", "replace").strip()
        if not found and len(text) <= _MAX_TEXT and "\n" not in text:
            found, is_name = text, suffix == "txt"
    if not found:
        return "", "has no label (cls, json or txt)"
    if names is None or not found.isdecimal() or (is_name and found in names):
        return found, ""
    if int(found) >= len(names):
        return "", f"has label {found} of {len(names)} class names, which are counted from 0"
    return names[int(found)], ""


def _read_json(content: bytes) -> dict[str, Any]:
    """Return the object in a .json file; empty if there is none."""
    try:
        document = parse_json(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


WEBDATASET: Final = Importer(
    "webdataset",
    "tar shards of WebDataset: a file, a folder, or a range such as train-{000000..000012}.tar",
    recognize_shards,
    read_shards,
    describe_state=lambda source: describe_files(_list_shards(source)),
)
