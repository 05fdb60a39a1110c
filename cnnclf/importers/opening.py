"""Finding the importer for a source, and opening any source through the user's cache."""

import hashlib
import os
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from cnnclf.data.cache import CACHE_VARIABLE, cache_dir
from cnnclf.data.manifest import FORMAT_VERSION, Dataset, is_dataset, load_dataset
from cnnclf.errors import DataError, UsageError
from cnnclf.files import safe_name
from cnnclf.importers.formats.folders import explain_folder
from cnnclf.importers.importer import Importer, ImportOptions, read_classes_file
from cnnclf.importers.pipeline import run_import
from cnnclf.importers.walk import Walk
from cnnclf.progress import Progress
from cnnclf.runs import CHECKPOINTS, RECORD_FILE

_DATASETS = "datasets"


def choose_importer(
    source: Path, importers: Sequence[Importer], *, name: str | None = None
) -> tuple[Importer, str]:
    """Choose the importer for a source.

    Args:
        source: A folder or file.
        importers: In the order in which they are asked.
        name: The importer that the user wants; None means recognize the source by its content.

    Returns:
        The importer, and why that one (to follow "because").

    Raises:
        DataError: The source does not exist, is a dataset already, or nothing recognizes it.
        UsageError: There is no importer of this name.
    """
    names = [importer.name for importer in importers]
    if name is not None and name not in names:
        near = get_close_matches(name, names, n=1)
        raise UsageError(
            f"expected one of {', '.join(names)} as format, received {name!r}",
            f"did you mean --format {near[0]}?" if near else "leave --format out",
        )
    if not source.exists():
        raise DataError(
            f"expected a folder or file with images, but {source} does not exist",
            "check the path",
        )
    if is_dataset(source):
        raise DataError(
            f"expected a source of images, but {source} is a dataset already",
            f"use it as it is: cnnclf train {shlex.quote(str(source))}",
        )
    if (source / RECORD_FILE).is_file() and (source / CHECKPOINTS).is_dir():
        raise DataError(
            f"expected a source of images, but {source} is a run",
            f"its own dataset is taken by: cnnclf evaluate {shlex.quote(str(source))}",
        )
    if name is not None:
        return importers[names.index(name)], f"--format {name} says so"
    for importer in importers:
        reason = importer.recognize(source)
        if reason is not None:
            return importer, reason
    if source.is_dir():
        raise explain_folder(source)
    raise DataError(
        f"expected a source of images, but the content of {source} is of no known kind",
        f"say what it is with --format ({', '.join(names)}), or give a folder of class folders",
    )


def open_cached(
    path: Path, importers: Sequence[Importer], *, options: ImportOptions, progress: Progress
) -> Dataset:
    """Load a dataset directory, or import any other source into the user's cache and load that.

    An unchanged source (same files, sizes and times) with the same options is imported once.

    Raises:
        DataError: The source cannot be imported, or the cache cannot be written to.
    """
    if is_dataset(path):
        return load_dataset(path)
    importer, reason = choose_importer(path, importers, name=options.format)
    directory = _find_place(path, options, progress)
    if not is_dataset(directory):
        _import_into(directory, path, importer, reason, options, progress)
        progress.note(f"imported {path} into {directory}, to be used again while it is unchanged")
    else:
        progress.note(f"{path} is unchanged since it was imported into {directory}: using that")
    return load_dataset(directory)


def count_unread(dataset: Dataset) -> int:
    """Return how many images could not be used when a source was imported into the cache.

    0 for a dataset that the user made: `cnnclf import` told of them by its own exit code.
    """
    if dataset.directory.parent != cache_dir() / _DATASETS:
        return 0
    return int(dataset.source.get("unread", 0))


def _import_into(
    directory: Path,
    source: Path,
    importer: Importer,
    reason: str,
    options: ImportOptions,
    progress: Progress,
) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"expected a cache that can be written to, but {directory.parent}: {error.strerror}",
            f"set {CACHE_VARIABLE} to another folder, or import first: "
            f"cnnclf import {shlex.quote(str(source))} --out DATASET",
        ) from error
    progress.note(f"{source}: read as {importer.name}, because {reason}")
    try:
        run_import(
            source, directory, importer=importer, reason=reason, options=options, progress=progress
        )
    except DataError:
        # Another process may have imported the same source in the meantime.
        if not is_dataset(directory):
            raise


def _find_place(source: Path, options: ImportOptions, progress: Progress) -> Path:
    """Return the directory in the cache for a source in its present state."""
    key = hashlib.sha256()
    resolved = source.resolve()
    said = [FORMAT_VERSION, options.format, options.split, options.seed, options.copy_images]
    for part in (os.fspath(resolved), *map(repr, said)):
        _add(key, part)
    if options.classes_file is not None:
        _add(key, repr(read_classes_file(options.classes_file)))
    if not resolved.is_dir():
        _add(key, _describe_state(resolved))
    else:
        with progress.task("looking for changes", None, unit="files") as task:
            for path in Walk(resolved).all_files():
                _add(key, path)
                _add(key, _describe_state(resolved / path))
                task.advance()
    name = safe_name(resolved.stem, fallback="source")
    return cache_dir() / _DATASETS / f"{name}-{key.hexdigest()[:16]}"


def _describe_state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def _add(key: "hashlib._Hash", text: str) -> None:
    key.update(text.encode("utf-8", "surrogateescape") + b"\0")
