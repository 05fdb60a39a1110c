"""From findings and decisions to changes of a manifest; files are never touched.

decisions.csv, which check.html exports, has the columns path, decision (keep, remove or relabel)
and label (the new one). findings.csv is what `cnnclf check` wrote.
"""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.config import CheckConfig
from cnnclf.data.description import load_description
from cnnclf.data.manifest import SPLITS, load_dataset
from cnnclf.data.manifest_rows import Row, read_rows
from cnnclf.data.manifest_versions import RowChange, Version, read_known_files, write_version
from cnnclf.errors import DataError, UsageError
from cnnclf.names import count_of, name_some, suggest
from cnnclf.progress import Progress
from cnnclf.quality.check_evidence import NO_NETWORKS, Evidence, Networks
from cnnclf.quality.check_table import CHECKS, SUSPECTS
from cnnclf.quality.checking import open_evidence
from cnnclf.quality.suspects import describe_judge

DECISIONS: Final = ("keep", "remove", "relabel")
_OF_SKIPPED: Final = ("missing", "unreadable", "unusable-rows")
_MAX_LISTED: Final = 3
_DIGEST: Final = re.compile(r"[0-9a-f]{16}")  # a spreadsheet program makes 1.2E+15 of some digits
_Repeated = Mapping[str, list[tuple[int, Row]]]  # by path, of paths in several rows


@dataclass(frozen=True)
class ChangeRequest:
    """What to change in a dataset.

    Args:
        file: A decisions.csv or findings.csv; None examines the dataset.
        drop: Names of checks whose images are removed; of a pair, the first one named, so that the
            first image of a group of copies always stays.
        relabel: Whether suspects get the label that was suggested.
        fix_splits: Whether to move the images of a group and copies of an image to one split, the
            earliest one: what leaked into test leaves it. The dataset is examined. Where that would
            leave a split without images, it is refused.
    """

    file: Path | None = None
    drop: tuple[str, ...] = ()
    relabel: bool = False
    fix_splits: bool = False

    def __bool__(self) -> bool:
        return self.file is not None or bool(self.drop) or self.relabel or self.fix_splits

    @property
    def needs_features(self) -> bool:
        """Whether features of a pretrained network are needed."""
        wanted = {
            check.name for check in CHECKS if check.needs in {"features", "features or a run"}
        }
        return self.file is None and (self.relabel or bool(wanted & set(self.drop)))

    def check(self) -> None:
        """Check that there are checks of these names.

        Raises:
            UsageError: There is none; with the nearest name.
        """
        check_names(self.drop)

    def spoken(self) -> str:
        """Return the options that ask for this."""
        words = [f"--apply {self.file}"] if self.file is not None else []
        words += [f"--drop {name}" for name in self.drop]
        words += ["--relabel"] * self.relabel + ["--fix-splits"] * self.fix_splits
        return " ".join(words)


def change_dataset(
    directory: Path,
    request: ChangeRequest,
    *,
    threads: int | None = None,
    networks: Networks = NO_NETWORKS,
    progress: Progress,
) -> Version | None:
    """Write a new version of the manifest of a dataset; no image is touched.

    Args:
        directory: The dataset.
        request: What to change.
        threads: At least 1; None means one per processor.
        networks: Computes features; needed if the request needs them.
        progress: Receives the progress.

    Returns:
        The version; None if there was nothing to change.

    Raises:
        DataError: The directory is no dataset, or the file cannot be read, contradicts itself or is
            of another dataset, or `fix_splits` would leave a split without images.
        UsageError: There is no such check, or the file has findings and nothing chooses from them.
    """
    request.check()
    changes = []
    if request.file is not None:
        changes = read_changes(
            request.file,
            directory,
            drop=request.drop,
            relabel=request.relabel,
            least=not request.fix_splits,
        )
    if request.file is None or request.fix_splits:
        config = CheckConfig(threads=threads)
        evidence = open_evidence(
            load_dataset(directory), config=config, networks=networks, progress=progress
        )
        if request.file is None:
            changes = find_changes(evidence, drop=request.drop, relabel=request.relabel)
            if any(change.reason == SUSPECTS for change in changes):
                accuracy, images = evidence.judgement.accuracy, len(evidence.classes)
                judge = describe_judge(accuracy, images, unjudged=evidence.unjudged)
                progress.note(f"{SUSPECTS}: judged by {judge}")
        if request.fix_splits:
            gone = {(change.path, change.row) for change in changes if change.action == "remove"}
            changes += move_together(evidence, gone)
    return write_version(directory, changes, why=request.spoken())


def check_names(names: Collection[str]) -> None:
    """Check that there are checks of these names.

    Raises:
        UsageError: There is none; with the nearest name.
    """
    known = [check.name for check in CHECKS]
    for name in names:
        if name not in known:
            raise UsageError(
                f"--drop {name}: there is no check of this name",
                suggest(name, known, cutoff=0.4) or f"the checks are {', '.join(known)}",
            )


def read_changes(
    path: Path,
    directory: Path,
    *,
    drop: Collection[str] = (),
    relabel: bool = False,
    least: bool = True,
) -> list[RowChange]:
    """Read what a file of decisions or findings asks for.

    Args:
        path: A decisions.csv or findings.csv.
        directory: The dataset that it is of.
        drop: Names of checks; of findings, those of them are removed.
        relabel: Whether suspects get the label that was suggested; of findings only.
        least: Whether findings without a choice from them are an error.

    Raises:
        DataError: The file cannot be read, contradicts itself or is of another dataset.
        UsageError: The file has findings, and nothing says which of them to act on.
    """
    header, rows = _read_rows(path)
    _check_dataset(path, rows, directory)
    if {"decision", "path"} <= set(header):
        if drop or relabel:
            raise UsageError(
                f"{path} has decisions; --drop and --relabel choose from findings",
                "omit them, or give findings.csv",
            )
        return _read_decisions(path, rows, repeated=_find_repeated(directory))
    if not {"check", "path"} <= set(header):
        raise DataError(
            f"expected the columns path and decision, or those of findings.csv, in {path}; "
            f"it has {name_some(header) or 'none'}",
            "export decisions.csv from check.html, or give the findings.csv of cnnclf check --out",
        )
    if least and not (drop or relabel):
        raise UsageError(
            f"{path} has findings; nothing says which of them to act on",
            "--drop CHECK removes the images of a check, --relabel takes suggested labels",
        )
    repeated = _find_repeated(directory)
    return _choose(
        (
            (row["check"], row["path"], row.get("suggested") or "", number)
            for row in rows
            if row["path"]
            for number in _find_rows(row, repeated)
        ),
        drop=drop,
        relabel=relabel,
    )


def find_changes(
    evidence: Evidence, *, drop: Collection[str] = (), relabel: bool = False
) -> list[RowChange]:
    """Find what to change in a dataset that was just examined; see `ChangeRequest`."""
    wanted = {*drop, *([SUSPECTS] if relabel else [])}
    paths = evidence.dataset.manifest.paths
    return _choose(
        (
            (check.name, paths[case.row], case.suggested, case.row)
            for check in CHECKS
            if check.name in wanted and evidence.has(check.needs)
            for case in check.find(evidence)
            if case.row is not None
        ),
        drop=drop,
        relabel=relabel,
    )


def move_together(
    evidence: Evidence, gone: AbstractSet[tuple[str, int | None]]
) -> Iterator[RowChange]:
    """Move images of a group and copies of an image to the earliest of their splits.

    Args:
        evidence: The dataset and its images.
        gone: Path and row of images that are removed, as in `RowChange`; they hold nothing
            together.

    Raises:
        DataError: A split would be left without images.
    """
    paths = evidence.dataset.manifest.paths
    kept = np.array(
        [not {(path, None), (path, row)} & gone for row, path in enumerate(paths)], np.bool_
    )
    stays = kept & (evidence.splits >= 0)
    units = evidence.find_units(kept)
    earliest = np.full(len(paths), len(SPLITS))
    np.minimum.at(earliest, units[stays], evidence.splits[stays])
    _check_filled(evidence.splits[stays], earliest[units[stays]])
    for row in np.flatnonzero(stays & (evidence.splits > earliest[units])).tolist():
        target = SPLITS[int(earliest[units[row]])]
        yield RowChange(paths[row], "move", target, f"with its group or copies in {target}", row)


def _check_filled(before: npt.NDArray[np.int8], after: npt.NDArray[np.int64]) -> None:
    """Refuse to take all images from a split, as where all images of a dataset are alike."""
    emptied = [SPLITS[index] for index in sorted({*before.tolist()} - {*after.tolist()})]
    if emptied:
        raise DataError(
            f"--fix-splits would leave no images in {' and '.join(emptied)}: all of them are of "
            "groups, or almost the same as images, of an earlier split",
            "keep the splits if the images are alike by nature, or import other images for them",
        )


def _choose(
    findings: Iterable[tuple[str, str, str, int | None]], *, drop: Collection[str], relabel: bool
) -> list[RowChange]:
    """Turn findings (check, path, suggested label, row) into changes, one for each image."""
    chosen: dict[tuple[str, int | None], RowChange] = {}
    for check, path, suggested, row in findings:
        if check in drop:
            chosen[path, row] = RowChange(path, "remove", "", check, row)
        elif relabel and check == SUSPECTS and suggested:
            chosen.setdefault((path, row), RowChange(path, "relabel", suggested, check, row))
    return list(chosen.values())


def _find_repeated(directory: Path) -> _Repeated:
    """Find the paths that a manifest has in several rows, and these rows with their numbers."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for number, row in enumerate(read_rows(directory / load_description(directory)["manifest"])):
        found.setdefault(row.path, []).append((number, row))
    return {path: rows for path, rows in found.items() if len(rows) > 1}


def _find_rows(finding: Mapping[str, str], repeated: _Repeated) -> Iterable[int | None]:
    """Find the rows that a line of findings.csv is about; None means every row of its path.

    Rows of one path, label and split are told apart by their order: they are copies of the first.
    """
    if finding["path"] not in repeated:
        return [None]
    sides = [
        tuple(finding.get(f"{side}{name}") or "" for name in ("path", "label", "split"))
        for side in ("", "other_")
    ]
    same = [number for number, row in repeated[finding["path"]] if tuple(row[:3]) == sides[0]]
    return same[1:] if sides[0] == sides[1] else same


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns and the rows."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline()
            file.seek(0)
            # Spreadsheet programs of many countries write semicolons.
            delimiter = max(",;\t", key=first.count)
            reader = csv.DictReader(file, restval="", delimiter=delimiter)
            rows, header = list(reader), list(reader.fieldnames or ())
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}", "give a decisions.csv") from error
    if any(None in row for row in rows):
        raise DataError(
            f"{path} is no table: a line has more cells than the first one", "export it again"
        )
    return header, rows


def _check_dataset(path: Path, rows: list[dict[str, str]], directory: Path) -> None:
    """Refuse a file of another dataset: its paths, or their content, are not in this one."""
    known = read_known_files(directory)
    strange = []
    for row in rows:
        name, digest = row.get("path") or "", row.get("sha256") or ""
        digest = digest if _DIGEST.match(digest) else ""
        if not name or (row.get("check") in _OF_SKIPPED and not digest):
            continue  # about the dataset, or a file that was not imported
        if name not in known or not any(sha256.startswith(digest) for sha256 in known[name]):
            strange.append(name)
    if strange and len(strange) < len(rows):
        raise DataError(
            f"{path} does not fit {directory}, which lacks {count_of(len(strange), 'image')} of "
            f"its {len(rows):,}, or has other content there: {name_some(strange, _MAX_LISTED)}",
            f"remove these lines, or check it again: cnnclf check {directory} --out REPORT",
        )
    if strange:
        raise DataError(
            f"{path} is of another dataset: {len(strange):,} of its {len(rows):,} images are not "
            f"in {directory}: {name_some(strange, _MAX_LISTED)}",
            f"check this one: cnnclf check {directory} --out REPORT",
        )


def _read_decisions(
    path: Path, rows: list[dict[str, str]], *, repeated: _Repeated
) -> list[RowChange]:
    chosen: dict[str, tuple[str, str]] = {}
    changes: dict[str, list[RowChange]] = {}
    for number, row in enumerate(rows, 2):
        if not any(row.values()):
            continue  # spreadsheet programs write lines of delimiters below a table
        name, decision, label = row["path"], row["decision"].strip().lower(), row.get("label") or ""
        if not name:
            raise DataError(f"line {number} of {path} has no path", "correct the line")
        if decision not in DECISIONS or (decision == "relabel") != bool(label):
            fault = f"decision {decision!r}" + (f" with label {label!r}" if label else "")
            raise DataError(
                f"line {number} of {path}: {fault}; expected keep or remove without a label, or "
                "relabel with one",
                "correct the line",
            )
        earlier = chosen.setdefault(name, (decision, label))
        if earlier != (decision, label):
            raise DataError(
                f"{path} contradicts itself: {name} is to be {_spoken(*earlier)} and "
                f"{_spoken(decision, label)} (line {number})",
                "keep one of the lines",
            )
        why = row.get("reason") or row.get("check") or path.name
        if decision == "remove" and why.startswith("duplicates") and name in repeated:
            # the image and its copy have one path, so the page cannot say which of them
            _, *copies = sorted(repeated[name], key=lambda found: _order(found[1]))
            changes[name] = [RowChange(name, "remove", "", why, number) for number, _ in copies]
        elif decision == "remove":
            changes[name] = [RowChange(name, "remove", "", why)]
        elif decision == "relabel":
            changes[name] = [RowChange(name, "relabel", label, why)]
    return [change for each in changes.values() for change in each]


def _order(row: Row) -> int:
    return SPLITS.index(row.split) if row.split else -1


def _spoken(decision: str, label: str) -> str:
    return {"keep": "kept", "remove": "removed"}.get(decision, f"relabeled {label!r}")
