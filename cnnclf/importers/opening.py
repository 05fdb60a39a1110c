"""Choosing the importer for a source, and opening any source through the user's cache."""

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from cnnclf.bounded import check_regular
from cnnclf.config import ImportConfig
from cnnclf.data.cache import CACHE_VARIABLE, cache_dir
from cnnclf.data.description import DATASET_NAME, FORMAT_VERSION, MANIFEST_NAME
from cnnclf.data.manifest import Dataset, is_broken_dataset, is_dataset, load_dataset
from cnnclf.data.manifest_versions import OWN_FILES
from cnnclf.errors import DataError, UsageError
from cnnclf.files import safe_name
from cnnclf.images.formats import SUFFIXES
from cnnclf.importers.foreign import refuse_foreign
from cnnclf.importers.formats.folders import FOLDER_IMPORTERS, choose_folder_importer
from cnnclf.importers.formats.label_files import LABEL_FILES, find_reason
from cnnclf.importers.formats.tables import METADATA, TABLE, find_split_tables
from cnnclf.importers.importer import Importer, ImportJob, read_classes_file
from cnnclf.importers.layouts.folder_layout import CLASS_FOLDERS
from cnnclf.importers.layouts.folder_view import LIST_SUFFIXES
from cnnclf.importers.pipeline import run_import
from cnnclf.importers.source import Source
from cnnclf.importers.tables.beside import find_tables
from cnnclf.importers.walk import Walk
from cnnclf.names import suggest
from cnnclf.progress import Progress, Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import CHECKPOINTS, RECORD_FILE

_DATASETS = "datasets"
_DEFAULTS = ImportConfig()
_OF_FILES = {"npz", "tar", "zip"}
_OF_FOLDERS = (LABEL_FILES, *FOLDER_IMPORTERS)
# The content of the classes file is; one class makes no other dataset of those that were imported.
_NOT_IN_KEY = {"threads", "classes_file", "one_class"}


def choose_importer(
    source: Source, importers: Sequence[Importer], *, options: ImportConfig = _DEFAULTS
) -> tuple[Importer, str]:
    """Choose the importer for a source.

    Args:
        source: What the user gave.
        importers: In the order in which they are tried.
        options: Of the import; without a format the source is recognized by its content.

    Returns:
        The importer, and the reason for it (to follow "because").

    Raises:
        DataError: The source does not exist, is a dataset already, or no importer recognizes it.
        UsageError: There is no importer of this name.
    """
    name, names = options.format, [importer.name for importer in importers]
    if name is not None and name not in names:
        raise UsageError(
            f"expected one of {', '.join(names)} as format, received {name!r}",
            suggest(name, names, option="--format ") or "omit --format",
        )
    if source.path is not None:
        _refuse_own(source.path)
        _refuse_file_of_dataset(source.path)
        _refuse_device_or_empty(source.path)
        if name is None:
            refuse_foreign(source.path)
    if name is not None:
        importer = importers[names.index(name)]
        if importer.recognize(source) is None:
            _check_kind(source.require_path(), importer)
        return importer, f"--format {name} was given"
    for importer in importers:
        reason = None if importer in _OF_FOLDERS else importer.recognize(source)
        if reason is not None:
            return importer, reason
    if source.require_path().is_dir():
        return _choose_for_folder(source.require_path(), options)
    raise _explain_file(source, names)


def _check_kind(path: Path, importer: Importer) -> None:
    """Raise DataError for a folder where the format is that of a file, or the reverse."""
    needs_folder = importer in _OF_FOLDERS
    if path.is_dir() != needs_folder and (needs_folder or importer.name in _OF_FILES):
        kinds = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise DataError(
            f"{path} is {kinds[0]}, and --format {importer.name} is for {kinds[1]}",
            "omit --format: the format is detected",
        )


def _explain_file(source: Source, formats: Sequence[str]) -> DataError:
    """Return the error for a file that no importer recognizes."""
    suffix = source.require_path().suffix.lower()
    if suffix in SUFFIXES:
        return DataError(
            f"{source} is a single image",
            "give the folder above its class folders; a trained model labels single images: "
            "cnnclf predict RUN IMAGE",
        )
    hint = f"name it with --format ({', '.join(formats)}), or give a folder of class folders"
    if suffix in LIST_SUFFIXES:
        hint = f"if its lines have a path and a label: --format table --no-header; otherwise {hint}"
    return DataError(f"the format of {source} is not recognized", hint)


def _choose_for_folder(path: Path, options: ImportConfig) -> tuple[Importer, str]:
    """Choose between the formats of folders, and offer a table in the folder."""
    folder = Source(os.fspath(path), path)
    if splits := find_split_tables(folder, options):
        names = ", ".join(table.name for table in splits.values())
        return TABLE, f"{names} list the images of {', '.join(splits)}"
    tables, has_classes = find_tables(folder, options)
    if len(tables) == 1 and (tables[0].path.stem == METADATA or not has_classes):
        # The folders do not say what the classes are.
        table = tables[0]
        return table.as_importer(), f"{table.path.name} lists the labels of {table.labeled}"
    if files := find_reason(folder, options, is_known=bool(tables) or has_classes):
        return LABEL_FILES, files
    offer = "; ".join(table.spoken() for table in tables)
    try:
        importer, reason = choose_folder_importer(path, options)
    except DataError as error:
        if not tables:
            raise
        raise DataError(error.message, offer) from error
    for table in tables:
        # The folders of the images may be anything; but then they are not their labels.
        if (
            importer.name == CLASS_FOLDERS
            and not options.label_from
            and not any(record.label in record.path.split("/")[:-1] for record in table.records)
        ):
            raise DataError(
                f"{path} may be class folders ({reason}), or images with a table of labels",
                f"{table.spoken()}; or choose the folders: --format {CLASS_FOLDERS}",
            )
    return importer, reason


def open_cached(
    source: Source, importers: Sequence[Importer], *, options: ImportConfig, progress: Progress
) -> Dataset:
    """Load a dataset directory, or import any other source into the user's cache and load that.

    An unchanged source (same files, sizes and times) with the same options is imported once.

    Raises:
        DataError: The source cannot be imported, or the cache cannot be written to.
    """
    if source.path is not None and is_dataset(source.path):
        return load_dataset(source.path)
    try:
        importer, reason = choose_importer(source, importers, options=options)
    except DataError as error:
        # The options that it names are those of the import.
        hint = f"; these are options of: cnnclf import {shlex.quote(str(source))} --out DATASET"
        is_bare = "--" in error.hint and "cnnclf " not in error.hint
        raise DataError(error.message, error.hint + hint * is_bare) from error
    directory = _find_place(source, importer, options, progress)
    if not is_dataset(directory):
        _import_into(directory, source, importer, reason, options, progress)
        progress.note(f"imported {source} into {directory}; reused while the source is unchanged")
    else:
        progress.note(f"{source} is unchanged since its import into {directory}; using that")
    return load_dataset(directory)


def count_unread(dataset: Dataset) -> int:
    """Return how many files and rows were lost when a source was imported into the cache.

    0 for a dataset that the user made: `cnnclf import` reported them by its own exit code.
    """
    if dataset.directory.parent != cache_dir() / _DATASETS:
        return 0
    return int(dataset.source.get("unread", 0))


def _refuse_own(path: Path) -> None:
    """Raise DataError if cnnclf wrote this directory."""
    if is_dataset(path):
        raise DataError(
            f"{path} is a dataset already",
            f"use it directly: cnnclf train {shlex.quote(str(path))}",
        )
    if is_broken_dataset(path):
        load_dataset(path)  # reports what is wrong
    # Not Path.is_file, which raises an error for a folder that may not be entered.
    if os.path.isfile(path / RECORD_FILE) and os.path.isdir(path / CHECKPOINTS):  # noqa: PTH112, PTH113
        raise DataError(
            f"{path} is a run, not a source of images",
            "give a dataset or a folder of images; to continue the run: "
            f"{RunDirectory(path).resume_command()}; its dataset: "
            f"cnnclf runs show {shlex.quote(str(path))}",
        )


def _refuse_file_of_dataset(path: Path) -> None:
    """Raise DataError if this is a file of a dataset, whose paths have another root."""
    is_own = path.name in (DATASET_NAME, MANIFEST_NAME) or OWN_FILES.fullmatch(path.name)
    if is_own and is_dataset(path.parent):
        raise DataError(
            f"{path} is a file of the dataset {path.parent}",
            f"give the dataset itself: {shlex.quote(str(path.parent))}",
        )


def _refuse_device_or_empty(path: Path) -> None:
    """Raise DataError if reading the path might never end, or gives nothing."""
    try:
        is_empty = not check_regular(path).st_size
    except IsADirectoryError:
        return
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "give a file or folder") from error
    if is_empty:
        raise DataError(f"{path} is empty: it has 0 bytes", "fetch or export it again")


def _import_into(
    directory: Path,
    source: Source,
    importer: Importer,
    reason: str,
    options: ImportConfig,
    progress: Progress,
) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {directory.parent}: {error.strerror}",
            f"set {CACHE_VARIABLE} to another folder, or import first: "
            f"cnnclf import {shlex.quote(str(source))} --out DATASET",
        ) from error
    progress.note(f"{source}: read as {importer.name}, because {reason}")
    try:
        run_import(
            source, directory, importer=importer, reason=reason, options=options, progress=progress
        )
    except (DataError, UsageError):
        # Another process may have imported the same source in the meantime.
        if not is_dataset(directory):
            raise


def _find_place(
    source: Source, importer: Importer, options: ImportConfig, progress: Progress
) -> Path:
    """Return the directory in the cache for a source in its present state."""
    key = hashlib.sha256()
    resolved = None if source.path is None else source.path.resolve()
    said = [FORMAT_VERSION, sorted(options.model_dump(exclude=_NOT_IN_KEY).items())]
    # The images are read by the path that was given, which may be a link that is removed.
    given = source.text if source.path is None else os.path.abspath(source.path)  # noqa: PTH100
    for text in (given, "" if resolved is None else os.fspath(resolved), *map(repr, said)):
        _add(key, text)
    if options.classes_file is not None:
        _add(key, repr(read_classes_file(options.classes_file)))
    if importer.describe_state is not None:
        states = importer.describe_state(source)
    else:
        states = iter(()) if resolved is None else _describe_files(resolved, progress)
    if importer.names_files is not None and importer.names_files(source, options):
        states = chain(states, _describe_named(importer, source, options))
    for text in states:
        _add(key, text)
    name = safe_name((resolved or Path(source.text)).stem, fallback="source")
    return cache_dir() / _DATASETS / f"{name}-{key.hexdigest()[:16]}"


def _describe_files(path: Path, progress: Progress) -> Iterator[str]:
    """Yield the size and time of a file, or the path, size and time of each file of a folder."""
    if not path.is_dir():
        yield _describe_file(path)
        return
    with progress.task("looking for changes", None, unit="files") as task:
        for below in Walk(path).all_files():
            yield below
            yield _describe_file(path / below)
            task.advance()


def _describe_named(importer: Importer, source: Source, options: ImportConfig) -> Iterator[str]:
    """Yield the path, size and time of each image that a source names and that is there."""
    listing = importer.read(source, ImportJob(Path(), options, Silent()))
    listing.empty = listing.skipped.clear  # reported by the import
    for record in listing.records:
        yield record.path
        yield _describe_file(listing.root / record.path)


def _describe_file(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def _add(key: "hashlib._Hash", text: str) -> None:
    key.update(text.encode("utf-8", "surrogateescape") + b"\0")
