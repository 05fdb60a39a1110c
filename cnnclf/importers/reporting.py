"""What the user is told about the images of a source, in words."""

from collections.abc import Mapping
from pathlib import Path

from cnnclf.data.checks import Duplicates
from cnnclf.data.manifest import Counts
from cnnclf.data.manifest_rows import Row
from cnnclf.importers.scan import Harvest
from cnnclf.names import count_of, name_some

_EXAMPLES = 3


def tell_duplicates(
    duplicates: Duplicates, examples: Mapping[int, Row | None], *, kept: bool
) -> tuple[list[str], list[str]]:
    """Say which images occur more than once.

    Args:
        duplicates: What was found.
        examples: The rows of `duplicates.example_rows()`.
        kept: Whether the split is that of the source, which is not changed.

    Returns:
        Notes and warnings.
    """
    notes, warnings = [], []
    if duplicates.repeats:
        inside = [f"{count} within {split}" for split, count in duplicates.inside.items() if count]
        where = (
            (", ".join(inside) or "none within one split") if kept else "copies stay in one split"
        )
        notes.append(
            f"{count_of(duplicates.repeats, 'image')} repeating another one (same bytes or same "
            f"pixels): {where}"
        )
    for (later, earlier), (rows, twins) in duplicates.shared.items():
        pairs = zip(rows.tolist()[:_EXAMPLES], twins.tolist()[:_EXAMPLES], strict=True)
        told = [f"{_path(examples, row)} = {_path(examples, twin)}" for row, twin in pairs]
        warnings.append(
            f"{count_of(len(rows), 'image')} of {later} also in {earlier}, so that scores may "
            f"come out too good: {_cut(told, len(rows))}"
        )
    if len(duplicates.conflicts):
        told = [
            " = ".join(f"{_path(examples, row)} ({_label(examples, row)})" for row in pair)
            for pair in duplicates.conflicts[:_EXAMPLES].tolist()
        ]
        count = len(duplicates.conflicts)
        warnings.append(f"{count_of(count, 'image')} with different labels: {_cut(told, count)}")
    return notes, warnings


def tell_skipped(harvest: Harvest, path: Path) -> list[str]:
    """Say how many files were skipped, the most frequent reasons, and where all are listed."""
    if not harvest.skipped:
        return []
    common = harvest.reasons.most_common(_EXAMPLES)
    told = [f"{count_of(count, 'file')}: {reason}" for reason, count in common]
    rest = harvest.skipped - sum(count for _, count in common)
    if rest:
        told.append(f"{count_of(rest, 'file')} for other reasons")
    lines = "".join(f"\n  {each}" for each in told)
    return [f"{count_of(harvest.skipped, 'file')} skipped, listed in {path}{lines}"]


def tell_labels(counts: Counts, unread: Mapping[str, int]) -> list[str]:
    """Say which labels have no images, and which are suspiciously alike.

    Args:
        counts: Images by split and label.
        unread: How many files of which label cannot be used.
    """
    labels = list(next(iter(counts.values())))
    warnings = []
    lost = [
        f"{label} ({count_of(count, 'file')})"
        for label, count in unread.items()
        if label not in labels
    ]
    if lost:
        warnings.append(f"no classes, as none of their files can be used: {name_some(lost)}")
    bare = [label for label in labels if not any(each[label] for each in counts.values())]
    if bare:
        warnings.append(f"labels without images: {name_some(bare)}")
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(" ".join(label.casefold().split()), []).append(label)
    twins = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    if twins:
        warnings.append(f"labels that differ only in case or spaces: {name_some(twins)}")
    return warnings


def _cut(told: list[str], count: int) -> str:
    more = count - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _path(examples: Mapping[int, Row | None], number: int) -> str:
    row = examples.get(number)
    return row.path if row else ""


def _label(examples: Mapping[int, Row | None], number: int) -> str:
    row = examples.get(number)
    return row.label if row else ""
