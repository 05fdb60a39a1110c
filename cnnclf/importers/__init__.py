"""The ways into a dataset: a table of importers and the pipeline they share.

To add an importer, write a `recognize` and a `read` (see `importer.py`) in a file of their own
and add a row to `IMPORTERS`.
"""

from pathlib import Path
from typing import Final

from cnnclf.data.manifest import Dataset
from cnnclf.importers.archives.archives import TAR, ZIP
from cnnclf.importers.formats.cifar import CIFAR
from cnnclf.importers.formats.folders import FOLDER_IMPORTERS
from cnnclf.importers.formats.idx import IDX
from cnnclf.importers.formats.npy import NPY_FOLDERS
from cnnclf.importers.formats.npz import NPZ
from cnnclf.importers.formats.tables import TABLE
from cnnclf.importers.importer import Importer, ImportOptions
from cnnclf.importers.opening import choose_importer, count_unread, open_cached
from cnnclf.importers.pipeline import ImportReport, run_import
from cnnclf.importers.scan import SKIPPED_NAME
from cnnclf.progress import Progress

__all__ = [
    "IMPORTERS",
    "SKIPPED_NAME",
    "ImportOptions",
    "ImportReport",
    "Importer",
    "count_unread",
    "import_source",
    "open_dataset",
]

# In the order in which they are asked whether they recognize a source: .npz files are zip archives,
# and folders of any kind of file may look like class folders.
IMPORTERS: Final[tuple[Importer, ...]] = (
    IDX,
    CIFAR,
    NPZ,
    NPY_FOLDERS,
    ZIP,
    TAR,
    TABLE,
    *FOLDER_IMPORTERS,
)

_DEFAULTS: Final = ImportOptions()


def import_source(
    source: Path, out: Path, *, options: ImportOptions = _DEFAULTS, progress: Progress
) -> ImportReport:
    """Import a source into a new dataset directory.

    Args:
        source: A folder or file; never written to.
        out: The dataset directory; must not exist, or be empty.
        options: What the user said.
        progress: Hears how the source is read and why so, of each image, notes and warnings.

    Raises:
        UsageError: Options are wrong.
        DataError: The source is not what it should be, or `out` is in use.
        DeviceError: The disk is full.
        RunError: `out` cannot be written.
    """
    importer, reason = choose_importer(source, IMPORTERS, name=options.format)
    progress.note(f"{source}: read as {importer.name}, because {reason}")
    return run_import(
        source, out, importer=importer, reason=reason, options=options, progress=progress
    )


def open_dataset(path: Path, *, options: ImportOptions = _DEFAULTS, progress: Progress) -> Dataset:
    """Load a dataset directory, or import any other source into the user's cache and load that.

    Args:
        path: A dataset directory, or any source.
        options: How to import it; of no effect on a dataset directory.
        progress: Hears what is done.

    Raises:
        UsageError: Options are wrong.
        DataError: It is neither, or something is wrong with it.
    """
    return open_cached(path, IMPORTERS, options=options, progress=progress)
