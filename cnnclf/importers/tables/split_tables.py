"""Tables of one folder that each list the images of a split: train.csv, val.csv and test.csv."""

from collections.abc import Iterable
from pathlib import Path

from cnnclf.importers.layouts.split_words import read_split_name, settle_eval


def name_splits(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the table of each split, train first, if their names differ in nothing else.

    Args:
        paths: Tables of one folder.

    Returns:
        Empty unless two splits or more have a table, and each of them one only.
    """
    families: dict[tuple[str, ...], list[tuple[str, Path]]] = {}
    for path in paths:
        split, rest = read_split_name(path.stem)
        if split:
            families.setdefault(rest, []).append((split, path))
    several = [each for each in families.values() if len(each) > 1]
    if len(several) != 1:
        return {}
    present = {split for split, _ in several[0]}
    found = {settle_eval(split, present): path for split, path in several[0]}
    order = [split for split in ("train", "val", "test") if split in found]
    return {split: found[split] for split in order} if len(order) == len(several[0]) else {}
