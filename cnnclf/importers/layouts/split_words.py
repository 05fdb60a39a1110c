"""Names of splits: the split that a folder, a file or a cell of a table names in its own words."""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cnnclf.names import name_some

SPLIT_WORDS: Final = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "trn": "train",
    "tr": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "devel": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "holdout": "test",
    "heldout": "test",
    "unseen": "test",
    "eval": "eval",
    "evaluation": "eval",
}
"""The split of a word; "eval" is val or test, whichever the source lacks."""

# They say nothing about the split or the class.
_IMAGES: Final = frozenset(
    {"image", "images", "img", "imgs", "jpeg", "jpegs", "jpg", "photo", "photos", "png"}
)
_NEUTRAL: Final = _IMAGES | {
    "all", "batch", "classes", "data", "dataset", "datasets", "dir", "directory", "file", "files",
    "folder", "folders", "full", "of", "part", "pic", "pics", "picture", "pictures", "processed",
    "raw", "sample", "samples", "set", "sets", "shard", "split", "splits", "subset", "the",
    "version",
}  # fmt: skip
_MASKS: Final = frozenset(
    {"annotation", "annotations", "groundtruth", "gt", "mask", "masks", "segmentation"}
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_GLUED: Final = re.compile(
    rf"({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))})"
    r"(?:set|data|dataset|images?|imgs?|folder|split|ing)?"
)


class SplitReading(NamedTuple):
    """What a name says.

    Args:
        split: `train`, `val`, `test`, `eval` (val or test), or "" if it names none or several.
        rest: The words that say something else, such as ("seg",) of `seg_train`.
    """

    split: str
    rest: tuple[str, ...]


def read_split_name(name: str) -> SplitReading:
    """Find the split that a name holds as a word: `seg_train`, `TrainingSet`, `val2017`."""
    spoken = re.sub(r"(?i)(hold|held)[-_ ]?out", "holdout", name)
    found, rest = set(), []
    for word in map(str.casefold, _WORD.findall(spoken)):
        glued = _GLUED.fullmatch(word)
        if glued:
            found.add(SPLIT_WORDS[glued[1]])
        elif word not in _NEUTRAL and not word.isdecimal():
            rest.append(word)
    if found == {"train", "val"}:
        found = {"train"}
    return SplitReading(found.pop() if len(found) == 1 else "", tuple(rest))


def without_split_word(name: str) -> str:
    """Return a name without the word for a split: cat of `train_cat` and `CatTrain`."""
    for word in _WORD.finditer(name):
        if _GLUED.fullmatch(word[0].casefold()):
            before, after = name[: word.start()], name[word.end() :]
            # One separator stays between what was before and after the word.
            first, second = before.rstrip(_SEPARATORS), after.lstrip(_SEPARATORS)
            between = before[len(first) :] if first and second else ""
            return f"{first}{between}{second}"
    return name


_SEPARATORS: Final = " _-.+"


def settle_eval(split: str, present: Iterable[str]) -> str:
    """Return the split of a reading where `eval` is what a source lacks, else test."""
    if split != "eval":
        return split
    return "val" if "test" in present and "val" not in present else "test"


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


def describe_unread(names: Sequence[str], folder: Path) -> str:
    """Say that other splits lie beside a source, and what reads all of them."""
    what = f"{name_some(names)} beside it {'is' if len(names) == 1 else 'are'} not read"
    return f"{what}: cnnclf import {shlex.quote(str(folder))} reads all, by their splits"


def is_neutral(name: str) -> bool:
    """Return whether a name says nothing about a class, such as `images` or `data`."""
    words = {word for word in _words(name) if not word.isdecimal()}
    return bool(words) and words <= _NEUTRAL


def names_images(name: str) -> bool:
    """Return whether a folder beside masks is that of the images."""
    return bool(_words(name) & _IMAGES) and not names_masks(name)


def names_masks(name: str) -> bool:
    """Return whether a folder is named like one of masks or annotations."""
    return bool(_words(name) & _MASKS)


def _words(name: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(name)}
