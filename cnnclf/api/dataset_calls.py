"""Python interface: a source of images becomes a dataset, which is loaded and checked."""

from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.api.arguments import Logged, Settings, StrPath, open_data, resolve
from cnnclf.config import CheckConfig, ImportConfig
from cnnclf.progress import Progress
from cnnclf.runtime import keeping_policy

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.quality.checking import QualityReport


def import_dataset(
    source: StrPath,
    out: StrPath,
    *,
    config: ImportConfig | Settings | None = None,
    progress: Progress | None = None,
) -> "Dataset":
    """Read images into a dataset directory: check every file, find duplicates, split.

    Args:
        source: A folder of class folders, an archive, a table of paths and labels, or arrays;
            never written to.
        out: The dataset directory; must not exist, or be empty.
        config: Settings of `cnnclf import`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        The dataset. Files that cannot be read are listed in its `skipped.csv`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        UsageError: `out` is in use.
        DataError: The source is not what it should be.
        RunError: `out` cannot be written.

    Example:
        >>> dataset = cnnclf.import_dataset("photos/", "data/photos")
        >>> dataset.labels
        ('cat', 'dog')
    """
    from cnnclf.importers import import_source

    settings, _ = resolve(ImportConfig, config)
    import_source(source, Path(out), options=settings, progress=progress or Logged())
    return load_dataset(out)


def load_dataset(directory: StrPath) -> "Dataset":
    """Load a dataset directory.

    Args:
        directory: What `import_dataset` or `cnnclf import` made.

    Returns:
        The dataset: `labels`, `counts()`, `manifest`, `file(row)`.

    Raises:
        DataError: It is not a dataset, is damaged or from a newer version, or its images are gone.

    Example:
        >>> cnnclf.load_dataset("data/photos").counts()["train"]
        {'cat': 70, 'dog': 70}
    """
    from cnnclf.data.manifest import load_dataset as load

    return load(Path(directory))


@keeping_policy()
def check(
    dataset: "Dataset | StrPath",
    config: CheckConfig | Settings | None = None,
    *,
    run: StrPath | None = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> "QualityReport":
    """Find out what is wrong with the images of a dataset; no file is changed.

    Args:
        dataset: A dataset, or any source that can be imported.
        config: Settings of `cnnclf check`.
        run: A run, whose probabilities show which labels may be wrong.
        out: Directory of findings.csv and check.html; None writes nothing.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        The report: `findings`, the worst first, each with `severity`, `check`, `path` and
        `message`; `by_check()`; `failed`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: There is no such dataset or source, or it has no images.
        RunError: `out` cannot be written.

    Example:
        >>> [finding.path for finding in cnnclf.check("photos/").findings]
        ['cat/7.jpg']
    """
    from cnnclf.quality.checking import check_dataset, write_report
    from cnnclf.training.witnesses import open_networks

    settings, _ = resolve(CheckConfig, config)
    progress = progress or Logged()
    data = open_data(dataset, progress)
    networks = open_networks(
        data, settings, run=None if run is None else Path(run), progress=progress
    )
    report, evidence = check_dataset(data, config=settings, networks=networks, progress=progress)
    if out is not None:
        write_report(Path(out), report, evidence=evidence, progress=progress)
    return report
