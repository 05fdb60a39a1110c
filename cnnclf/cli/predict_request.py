"""What the options of `cnnclf predict` ask for: checked, and before a model is loaded."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnnclf.cli.output import out
from cnnclf.errors import DataError, UsageError
from cnnclf.full_disks import check_writable
from cnnclf.progress import Progress, Silent

if TYPE_CHECKING:
    from cnnclf.config import PredictConfig
    from cnnclf.inference.bundles import Bundle
    from cnnclf.inference.promise import Cutoff
    from cnnclf.prediction.inputs import Found, ImageInputs
    from cnnclf.prediction.label_pipeline import PredictOptions
    from cnnclf.prediction.path_lists import ByteStream
    from cnnclf.prediction.placing import Placer
    from cnnclf.prediction.row_file import Mode


@dataclass(frozen=True)
class Sorting:
    """Sorting of files into class folders.

    Args:
        mode: copy, link or move.
        directory: The parent of the class folders.
        dry_run: Only say where files would go.
    """

    mode: str
    directory: Path
    dry_run: bool

    def class_folders(self, labels: tuple[str, ...]) -> list[Path]:
        """Return the folders that files go to, one per label and that of unknown."""
        from cnnclf.prediction.placing import name_folders

        return [self.directory / name for name in name_folders(labels).values()]

    def open_placer(self, labels: tuple[str, ...]) -> "Placer":
        """Open what sorts the files."""
        from cnnclf.prediction.placing import Placer

        return Placer(self.mode, self.directory, labels=labels, dry_run=self.dry_run)


def choose_sorting(
    copy_to: Path | None, link_to: Path | None, *, move_to: Path | None, dry_run: bool
) -> Sorting | None:
    """Return how files are sorted; None if they are not.

    Raises:
        UsageError: More than one way was given, or --dry-run alone.
        RunError: The folder cannot be made, or is closed to the user.
    """
    options = {"copy": copy_to, "link": link_to, "move": move_to}
    given = [Sorting(mode, path, dry_run) for mode, path in options.items() if path is not None]
    if len(given) > 1:
        names = " and ".join(f"--{each.mode}-to" for each in given)
        raise UsageError(f"{names} cannot be combined", "choose one of them")
    if dry_run and not given:
        raise UsageError(
            "--dry-run needs --copy-to, --link-to or --move-to",
            "without sorting, predicting changes no files: remove --dry-run",
        )
    if not given:
        return None
    if not dry_run:
        check_writable(given[0].directory, f"choose another --{given[0].mode}-to")
    return given[0]


def choose_mode(
    path: Path | None, *, resume: bool, overwrite: bool, sorting: Sorting | None
) -> "Mode":
    """Return what happens to an existing file of rows.

    Raises:
        UsageError: The options cannot be combined.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite cannot be combined", "choose one of them")
    mode: Mode = "resume" if resume else "overwrite" if overwrite else "new"
    if path is None and mode != "new":
        raise UsageError(f"--{mode} needs --out FILE", "add --out")
    if path is not None and resume and sorting is not None:
        raise UsageError(
            "sorting into folders cannot be resumed",
            "it is not recorded which files were sorted; moved files are gone from their old "
            "folder, so run the same command with another --out for the rest",
        )
    return mode


def check_columns(config: "PredictConfig", *, resume: bool, cluster: bool) -> None:
    """Check that a job can be done with the columns that were asked for.

    Raises:
        UsageError: The options cannot be combined.
    """
    named = ["--all-probabilities"] if config.all_probabilities else []
    named += [f"--id-column {config.id_column}"] if config.id_column != "path" else []
    if cluster and named:
        raise UsageError(f"--ray and {named[0]} cannot be combined", "remove one of them")
    if resume and config.id_column != "path":
        raise UsageError(
            f"--resume and {named[-1]} cannot be combined: a job continues after the paths of its "
            "rows",
            "use --id-column path, or start again with --overwrite",
        )


@dataclass(frozen=True)
class ClusterCall:
    """A cluster, and where its rows are written.

    Args:
        address: As returned by `check_address`.
        path: A file, or a directory of parts.
        suffix: Suffix of the parts; empty for a file.
        mode: What happens to existing rows.
    """

    address: str
    path: Path
    suffix: str
    mode: "Mode"


def choose_cluster(
    ray: str | None,
    parts: str | None,
    *,
    path: Path | None,
    mode: "Mode",
    watch: bool,
    is_sorting: bool,
) -> ClusterCall | None:
    """Return the cluster to use, None for this machine, after checking that rows can be written.

    Raises:
        UsageError: The options cannot be combined, or the rows exist.
        MissingPackageError: Ray or the format needs a package that is not installed.
    """
    from cnnclf.prediction.row_file import FILE_FORMATS, check_row_file

    if ray is None:
        if parts is not None:
            raise UsageError("--parts needs --ray", "add --ray, or remove --parts")
        if path is not None:
            check_row_file(path, mode)
        return None
    from cnnclf.prediction.cluster.connecting import check_address, check_installed
    from cnnclf.prediction.cluster.parts import PART_FORMATS, check_parts

    address = check_address(ray)
    if watch or is_sorting:
        other = "--watch" if watch else "sorting into folders"
        raise UsageError(f"--ray and {other} cannot be combined", f"remove --ray or {other}")
    if path is None:
        raise UsageError("--ray needs --out FILE or --out DIR", "for example: --out rows.csv")
    if parts is not None and parts not in PART_FORMATS:
        raise UsageError(
            f"expected --parts {', '.join(PART_FORMATS[:-1])} or {PART_FORMATS[-1]}, "
            f"received {parts!r}",
            "for example: --parts parquet",
        )
    check_installed()
    if parts is None and path.suffix.lower() in FILE_FORMATS:
        check_row_file(path, mode)
        return ClusterCall(address, path, "", mode)
    suffix = f".{parts or 'parquet'}"
    check_parts(path, suffix, mode=mode)
    return ClusterCall(address, path, suffix, mode)


@dataclass(frozen=True)
class ImageSearch:
    """A search for images that has found the first one.

    Args:
        inputs: What is searched.
        found: The paths.
        progress: Shows the progress of the job.
        nothing: Raised unless an interrupted job has rows; None if there is a first image.
    """

    inputs: "ImageInputs"
    found: "Iterator[Found]"
    progress: Progress
    nothing: DataError | None = None

    def check(self, *, earlier: int) -> None:
        """Check that there is anything to do or to finish.

        Raises:
            DataError: No image was found and there are no rows.
        """
        if self.nothing is not None and not earlier:
            raise self.nothing

    def end(self) -> None:
        """Show the notes that had to wait for the last row of a table."""
        if isinstance(self.progress, _Remarks):
            for note in self.progress.notes:
                out.note(note)


def search_images(
    images: list[str],
    shard: str | None,
    *,
    path: Path | None,
    mode: "Mode",
    watch: bool,
    sorting: Sorting | None,
    bundle: Path,
) -> ImageSearch:
    """Find the first image, so that errors come before a model is loaded.

    Raises:
        UsageError: The inputs cannot be watched, or the shard is invalid.
        DataError: No image was found.
        RunError: Files are sorted, and the labels of the model cannot be read.
    """
    from cnnclf.inference.bundles import read_bundle, read_kind
    from cnnclf.prediction.inputs import ImageInputs, NoImagesError
    from cnnclf.prediction.row_file import is_interrupted
    from cnnclf.prediction.sharding import parse_shard

    if watch:
        _check_watching(images)
    progress = _choose_progress(path, watch=watch)
    inputs = ImageInputs(
        images,
        cast("ByteStream", sys.stdin.buffer) if "-" in images and sys.stdin else None,
        excluded=sorting.class_folders(read_bundle(bundle).labels) if sorting else (),
        progress=progress,
        shard=parse_shard(shard) if shard is not None else None,
        kind=read_kind(bundle),
        may_be_empty=watch,
    )
    if sorting is not None and sorting.mode == "move":
        # Moving files out of a folder while it is listed may hide others.
        inputs.sort_at_once = sys.maxsize
    if watch:
        return ImageSearch(inputs, inputs.find(), progress)
    try:
        return ImageSearch(inputs, inputs.first(), progress)
    except NoImagesError as error:
        if mode != "resume" or path is None or not is_interrupted(path):
            raise
        return ImageSearch(inputs, iter(()), progress, error)


def choose_cutoff(
    given: float | None, content: Mapping[str, Any], *, labels: tuple[str, ...]
) -> "Cutoff":
    """Return below what a label is `unknown`, and warn if a class has that name."""
    from cnnclf.inference.promise import read_cutoff
    from cnnclf.inference.ranking import UNKNOWN

    cutoff = read_cutoff(content, given)
    if cutoff.threshold is not None and UNKNOWN in labels:
        out.warn(f"a class is also called {UNKNOWN!r}; rows below the threshold look the same")
    return cutoff


def choose_options(bundle: "Bundle", config: "PredictConfig") -> "PredictOptions":
    """Return how answers are made: by what is stored in the bundle, and what was asked for.

    Raises:
        UsageError: The bundle lacks what is asked for; with how to get it.
        DataError: The sets need more images than the bundle was calibrated on.
        RunError: A file of the bundle is damaged.
    """
    from cnnclf.inference.answer_rules import read_rules
    from cnnclf.inference.calibration_data import can_compare
    from cnnclf.inference.ranking import UNKNOWN, low_probability
    from cnnclf.prediction.label_pipeline import PredictOptions

    content, labels = bundle.content, bundle.labels
    rules = read_rules(content, bundle.directory, config=config)
    if rules.familiarity is None and can_compare(content):
        out.note(
            f"no column familiar: {bundle.directory} has no index of training images; "
            "cnnclf calibrate makes one"
        )
    cutoff = choose_cutoff(config.threshold, content, labels=labels)
    if config.threshold is None and cutoff.threshold is not None:
        out.note(
            f"labels below {cutoff.threshold:.4g} are {UNKNOWN}: calibrate stored this threshold; "
            "--threshold 0 names all"
        )
    return PredictOptions(
        config.count_named(len(labels)),
        cutoff.threshold,
        config.batch_size,
        config.threads,
        cutoff.norm,
        rules,
        unsure_below=low_probability(len(labels)) if cutoff.threshold is None else 0.0,
    )


def _check_watching(images: list[str]) -> None:
    from cnnclf.prediction.new_files import check_watchable

    if out.json_mode:
        raise UsageError(
            "--watch and --json cannot be combined: a JSON document has an end",
            "use --out rows.jsonl",
        )
    check_watchable(images)
    out.note(f"watching {', '.join(images)} for new files; stop with Ctrl-C")


def _choose_progress(path: Path | None, *, watch: bool) -> Progress:
    """Show no bar and no notes while a table grows on the terminal: they would garble the table."""
    if path is None and not out.json_mode and sys.stdout.isatty():
        return _WatchRemarks() if watch else _Remarks()
    return out.progress()


class _Remarks(Silent):
    """Keeps notes for the end of the table, and shows warnings."""

    def warn(self, text: str) -> None:
        out.warn(text)


class _WatchRemarks(_Remarks):
    """Shows notes, too: the table has no end."""

    def note(self, text: str) -> None:
        out.note(text)
