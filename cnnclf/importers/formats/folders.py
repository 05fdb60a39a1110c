"""Folders of images: one folder per class, or such folders below train, val and test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.importer import (
    Listing,
    Record,
    path_importer,
    read_classes_file,
)
from cnnclf.importers.walk import Walk
from cnnclf.names import count_of, name_some
from cnnclf.progress import Progress

SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

_LAYOUT_HINT: Final = (
    "put the images of each class into a folder with its name ({0}/cat/1.jpg, {0}/dog/1.jpg), "
    "or give a CSV file with the columns path,label"
)


class _Layout(NamedTuple):
    """Where a folder holds classes and splits.

    Args:
        base: Path of the folder that holds the classes or splits; "" is the source itself.
        wrappers: Paths of the folders above it, from the source down.
        folders: Names of the folders in `base` with files below them.
        splits: Those of `folders` that are named like a split, with the split.
        divided: Those of `splits` that hold folders with files.
    """

    base: str
    wrappers: list[str]
    folders: list[str]
    splits: dict[str, str]
    divided: list[str]


def explain_folder(source: Path) -> DataError:
    """Return the error for a folder with neither class folders nor split folders."""
    layout = _find_layout(source)
    where = source / layout.base
    hint = _LAYOUT_HINT.format(source)
    others = [name for name in layout.folders if name not in layout.splits]
    if layout.divided and others:
        return DataError(
            f"{where} mixes split folders ({name_some(layout.divided)}) and other folders "
            f"({name_some(others)})",
            f"move {name_some(others)} elsewhere, or use --format split-folders or "
            "--format class-folders",
        )
    if layout.folders:
        return DataError(
            f"{where} has no split folders with class folders: {name_some(layout.folders)} hold "
            "only files",
            f"put the images of each class into a folder ({where}/{layout.folders[0]}/cat/1.jpg),"
            " or use --format class-folders if these are class names",
        )
    walk = Walk(source)
    loose = len(walk.look(layout.base)[1])
    if walk.skipped:
        path, reason = walk.skipped[0]
        return DataError(f"cannot read {source / path}: {reason}", "check its owner and mode")
    if loose:
        return DataError(
            f"{where} has no class folders, only {count_of(loose, 'file')}",
            hint,
        )
    return DataError(f"{where} is empty", hint)


def _recognize_split_folders(source: Path) -> str | None:
    if not source.is_dir():
        return None
    layout = _find_layout(source)
    if not layout.divided or len(layout.splits) < len(layout.folders):
        return None
    return f"{_place(source, layout)} holds {name_some(layout.divided)} with folders in them"


def _recognize_class_folders(source: Path) -> str | None:
    if not source.is_dir():
        return None
    layout = _find_layout(source)
    all_splits = len(layout.splits) == len(layout.folders)
    if not layout.folders or layout.divided or all_splits:
        return None
    names = name_some(layout.folders)
    return f"{_place(source, layout)} holds folders of files: {names}"


def _read_split_folders(
    source: Path,
    unpack_dir: Path,
    *,
    options: ImportConfig,
    progress: Progress,  # noqa: ARG001
) -> Listing:
    layout = _find_layout(source)
    if not layout.divided:
        raise explain_folder(source)
    others = [name for name in layout.folders if name not in layout.splits]
    walk = Walk(source, ignored=frozenset({unpack_dir.parent.name}))
    listing = _open_listing(source, walk, layout, options)
    order = list(SPLIT_NAMES)

    def records() -> Iterator[Record]:
        for folder in [*layout.wrappers, layout.base]:
            _look_above(walk, folder)
        for name in sorted(layout.splits, key=lambda name: order.index(name.casefold())):
            path = _join(layout.base, name)
            yield from _read_classes(walk, listing, path, split=layout.splits[name])
        if others:
            listing.remarks.append(f"folders not named like a split skipped: {name_some(others)}")
        listing.remarks.extend(walk.remarks())

    listing.records = records()
    return listing


def _read_class_folders(
    source: Path,
    unpack_dir: Path,
    *,
    options: ImportConfig,
    progress: Progress,  # noqa: ARG001
) -> Listing:
    layout = _find_layout(source)
    if not layout.folders:
        raise explain_folder(source)
    walk = Walk(source, ignored=frozenset({unpack_dir.parent.name}))
    listing = _open_listing(source, walk, layout, options)

    def records() -> Iterator[Record]:
        for folder in layout.wrappers:
            _look_above(walk, folder)
        yield from _read_classes(walk, listing, layout.base, split="")
        listing.remarks.extend(walk.remarks())

    listing.records = records()
    return listing


FOLDER_IMPORTERS: Final = (
    path_importer(
        "split-folders",
        "class folders below train, val (valid, validation) and test folders",
        recognize=_recognize_split_folders,
        read=_read_split_folders,
    ),
    path_importer(
        "class-folders",
        "one folder of images per class",
        recognize=_recognize_class_folders,
        read=_read_class_folders,
    ),
)


def _find_layout(source: Path) -> _Layout:
    """Look at the top of a folder; a folder that holds only one other folder is a wrapper."""
    walk = Walk(source)
    base, wrappers = "", []
    folders = _find_filled(walk, base)
    while len(folders) == 1 and _split_of(folders[0]) is None:
        wrappers.append(base)
        base = folders[0]
        folders = _find_filled(walk, base)
    if not folders:  # nested single folders down to the files: the first one is the class
        base, wrappers = "", []
        folders = _find_filled(walk, base)
    names = [_name(path) for path in folders]
    splits = {name: split for name in names if (split := _split_of(name))}
    return _Layout(
        base=base,
        wrappers=wrappers,
        folders=names,
        splits=splits,
        divided=[name for name in splits if _find_filled(walk, _join(base, name))],
    )


def _find_filled(walk: Walk, path: str) -> list[str]:
    return [below for below in walk.look(path)[0] if walk.has_files(below)]


def _split_of(path: str) -> str | None:
    return SPLIT_NAMES.get(_name(path).casefold())


def _place(source: Path, layout: _Layout) -> str:
    return f"{source / layout.base}" if layout.base else "it"


def _open_listing(source: Path, walk: Walk, layout: _Layout, options: ImportConfig) -> Listing:
    labels = read_classes_file(options.classes_file) if options.classes_file else None
    return Listing(
        root=source,
        records=iter(()),
        labels=labels,
        skipped=walk.skipped,
        unneeded=walk.unneeded,
        total=walk.count_files(layout.base),
    )


def _look_above(walk: Walk, path: str) -> None:
    """List what is skipped in a folder above the class folders: files, and unreadable folders."""
    folders, files = walk.look(path)
    _skip_loose_files(walk, files)
    for folder in folders:
        if not walk.has_files(folder):
            for _ in walk.all_files(folder):  # reports what cannot be read
                pass


def _skip_loose_files(walk: Walk, files: list[str]) -> None:
    walk.unneeded.extend((file, "not in a class folder") for file in files)


def _read_classes(walk: Walk, listing: Listing, path: str, *, split: str) -> Iterator[Record]:
    """Yield the images of the class folders in a folder."""
    folders, loose = walk.look(path)
    _skip_loose_files(walk, loose)
    if loose and split:
        listing.remarks.append(
            f"{count_of(len(loose), 'file')} directly in {path} skipped: not in a class folder"
        )
    empty = []
    for folder in folders:
        label = _name(folder)
        seen, unread = False, len(walk.skipped)
        for file in walk.all_files(folder):
            seen = True
            yield Record(file, label, split)
        if not seen and len(walk.skipped) == unread:
            empty.append(folder)
    if empty:
        listing.remarks.append(f"empty folders skipped: {name_some(empty)}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
