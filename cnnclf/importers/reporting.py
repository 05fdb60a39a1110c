"""The notes and warnings about the images of a source."""

from collections.abc import Mapping
from pathlib import Path

from cnnclf.data.checks import Duplicates, find_similar_labels
from cnnclf.data.manifest import Counts
from cnnclf.data.manifest_rows import Row
from cnnclf.importers.scan import Scan
from cnnclf.names import count_of, name_some

_EXAMPLES = 3
_MANY_LABELS = 10


def report_duplicates(
    duplicates: Duplicates, examples: Mapping[int, Row | None], *, kept: bool
) -> tuple[list[str], list[str]]:
    """Report which images occur more than once.

    Args:
        duplicates: The images found.
        examples: The rows of `duplicates.example_rows()`.
        kept: Whether the source had a split, which is not changed.

    Returns:
        Notes and warnings.
    """
    notes, warnings = [], []
    if duplicates.repeats:
        inside = [f"{count} within {split}" for split, count in duplicates.inside.items() if count]
        where = (", ".join(inside) or "none within one split") if kept else "kept in the same split"
        notes.append(
            f"{count_of(duplicates.repeats, 'duplicate image')} (same bytes or pixels): {where}"
        )
    for (later, earlier), (rows, twins) in duplicates.shared.items():
        pairs = zip(rows.tolist()[:_EXAMPLES], twins.tolist()[:_EXAMPLES], strict=True)
        shown = [f"{_path(examples, row)} = {_path(examples, twin)}" for row, twin in pairs]
        warnings.append(
            f"{count_of(len(rows), 'image')} of {later} also in {earlier}, so scores may be too "
            f"high: {_cut(shown, len(rows))}"
        )
    if len(duplicates.conflicts):
        shown = [
            " = ".join(f"{_path(examples, row)} ({_label(examples, row)})" for row in pair)
            for pair in duplicates.conflicts[:_EXAMPLES].tolist()
        ]
        count = len(duplicates.conflicts)
        warnings.append(f"{count_of(count, 'image')} with different labels: {_cut(shown, count)}")
    return notes, warnings


def report_skipped(scan: Scan, path: Path) -> list[str]:
    """Report how many files were skipped, the most frequent reasons, and the list of all."""
    if not scan.skipped:
        return []
    return [f"{count_of(scan.skipped, 'file')} skipped, listed in {path}: {name_reasons(scan)}"]


def name_reasons(scan: Scan) -> str:
    """Name the most frequent reasons why files were skipped."""
    common = scan.reasons.most_common(_EXAMPLES)
    lines = [
        f"{count_of(count, 'file')}: {reason}{_spoken_lines(scan.lines.get(reason, []), count)}"
        for reason, count in common
    ]
    rest = scan.skipped - sum(count for _, count in common)
    if rest:
        lines.append(f"{count_of(rest, 'file')} for other reasons")
    return "; ".join(lines)


def _spoken_lines(lines: list[str], count: int) -> str:
    if not lines:
        return ""
    more = ", ..." if count > len(lines) else ""
    are_several = count > 1 or " and " in lines[0]
    return f" (line{'s' if are_several else ''} {', '.join(lines)}{more})"


def report_oddities(oddities: Mapping[str, int]) -> list[str]:
    """Report what may lose information when pixels become 8 bits."""
    dark = next((count for name, count in oddities.items() if name.startswith("dark")), 0)
    scaled = sum(count for name, count in oddities.items() if "scaled" in name)
    warnings = []
    if dark:
        warnings.append(
            f"{count_of(dark, '16-bit image')} of few bits (12-bit cameras save such files): "
            "training reads the bits that are used, see --value-range of cnnclf train"
        )
    if scaled:
        warnings.append(
            f"{count_of(scaled, 'image')} of 32 bits or floating point, each scaled from its own "
            "lowest to its highest value; --value-range LOW:HIGH of cnnclf train keeps levels "
            "comparable"
        )
    return warnings


def report_labels(counts: Counts, unread: Mapping[str, int]) -> list[str]:
    """Report which labels have no images, and which are suspiciously similar.

    Args:
        counts: Images by split and label.
        unread: Number of files that cannot be used by label.
    """
    labels = list(next(iter(counts.values())))
    warnings = []
    lost = [
        f"{label} ({count_of(count, 'file')})"
        for label, count in unread.items()
        if label and label not in labels
    ]
    if lost:
        warnings.append(f"classes without a usable file are excluded: {name_some(lost)}")
    untrained = [
        f"{label} ({count_of(count, 'image')})"
        for label in labels
        if (count := counts["val"][label] + counts["test"][label]) and not counts["train"][label]
    ]
    if untrained and any(counts["train"].values()):
        warnings.append(
            f"labels without training images, only in val or test, so they cannot be learned: "
            f"{name_some(untrained)}"
        )
    total = sum(sum(each.values()) for each in counts.values())
    if len(labels) >= _MANY_LABELS and 2 * len(labels) > total:
        warnings.append(
            f"{count_of(total, 'image')} have {len(labels):,} different labels, too few of each to "
            "learn: if they are amounts, make a column of ranges; if they are names of files or "
            "persons, give another --label-column"
        )
    bare = [label for label in labels if not any(each[label] for each in counts.values())]
    if bare:
        warnings.append(f"labels without images: {name_some(bare)}")
    if similar := find_similar_labels(labels):
        warnings.append(f"labels that may be one class: {name_some(similar)}")
    return warnings


def _cut(shown: list[str], count: int) -> str:
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _path(examples: Mapping[int, Row | None], number: int) -> str:
    row = examples.get(number)
    return row.path if row else ""


def _label(examples: Mapping[int, Row | None], number: int) -> str:
    row = examples.get(number)
    return row.label if row else ""
