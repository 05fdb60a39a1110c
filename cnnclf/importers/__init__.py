"""Importing images into a dataset: a table of importers and the pipeline they share.

To add an importer, write a `recognize` and a `read` (see `importer.py`) in a file of their own and
add a row to `IMPORTERS`.
"""

import os
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import SKIPPED_NAME, Dataset
from cnnclf.importers.archives.archives import archive_importers
from cnnclf.importers.formats.cifar import CIFAR
from cnnclf.importers.formats.croissant_files import CROISSANT
from cnnclf.importers.formats.cvat import CVAT
from cnnclf.importers.formats.folders import FOLDER_IMPORTERS
from cnnclf.importers.formats.hub import hub_importer
from cnnclf.importers.formats.idx import IDX
from cnnclf.importers.formats.json_labels import JSON_LABELS
from cnnclf.importers.formats.label_files import LABEL_FILES
from cnnclf.importers.formats.npz import NPZ
from cnnclf.importers.formats.parquet_images import PARQUET
from cnnclf.importers.formats.pixel_tables import PIXEL_TABLE
from cnnclf.importers.formats.signal_folders import SIGNAL_IMPORTERS
from cnnclf.importers.formats.tables import TABLE
from cnnclf.importers.formats.webdataset import WEBDATASET
from cnnclf.importers.importer import Importer
from cnnclf.importers.opening import choose_importer, count_unread, open_cached
from cnnclf.importers.pipeline import ImportReport, run_import
from cnnclf.importers.source import Source
from cnnclf.progress import Progress

__all__ = [
    "IMPORTERS",
    "SKIPPED_NAME",
    "ImportReport",
    "Importer",
    "Source",
    "count_unread",
    "import_source",
    "open_dataset",
]

# In the order in which they are tried: .npz files are zip archives, and folders of any kind of file
# may look like class folders. Archives look up in the same table what came out of them.
IMPORTERS: Final[tuple[Importer, ...]] = (
    hub_importer(lambda source, options: choose_importer(source, IMPORTERS, options=options)[0]),
    IDX,
    CIFAR,
    NPZ,
    *SIGNAL_IMPORTERS,
    PARQUET,
    WEBDATASET,
    *archive_importers(lambda: IMPORTERS),
    CROISSANT,
    CVAT,
    PIXEL_TABLE,
    TABLE,
    JSON_LABELS,
    LABEL_FILES,
    *FOLDER_IMPORTERS,
)

_DEFAULTS: Final = ImportConfig()


def import_source(
    source: Source | str | os.PathLike[str],
    out: Path,
    *,
    options: ImportConfig = _DEFAULTS,
    overwrite: bool = False,
    progress: Progress,
) -> ImportReport:
    """Import a source into a new dataset directory.

    Args:
        source: A folder, a file, or any other text that an importer recognizes; never changed.
        out: The dataset directory; must not exist, or be empty.
        options: Options of the import.
        overwrite: Whether to replace a dataset in `out`; anything else there is never replaced.
        progress: Receives the format and the reason for it, the progress, notes and warnings.

    Raises:
        UsageError: Options are wrong, or `out` is in use.
        DataError: The source has no usable images.
        DeviceError: The disk is full.
        RunError: `out` cannot be written.
    """
    source = Source.of(source)
    importer, reason = choose_importer(source, IMPORTERS, options=options)
    progress.note(f"{source}: read as {importer.name}, because {reason}")
    return run_import(
        source,
        out,
        importer=importer,
        reason=reason,
        options=options,
        overwrite=overwrite,
        progress=progress,
    )


def open_dataset(
    source: Source | str | os.PathLike[str],
    *,
    options: ImportConfig = _DEFAULTS,
    progress: Progress,
) -> Dataset:
    """Load a dataset directory, or import any other source into the user's cache and load that.

    Args:
        source: A dataset directory, or anything that `import_source` accepts.
        options: Options of the import; ignored for a dataset directory.
        progress: Receives the progress, notes and warnings.

    Raises:
        UsageError: Options are wrong.
        DataError: There is no such dataset or source, or it is damaged.
    """
    return open_cached(Source.of(source), IMPORTERS, options=options, progress=progress)
