"""Which folders of a folder are its classes, and which of their sub-folders hold the images."""

from dataclasses import dataclass, field
from typing import NamedTuple

from cnnclf.errors import DataError
from cnnclf.importers.layouts.folder_view import FolderView, name_of
from cnnclf.importers.layouts.split_words import (
    is_neutral,
    names_images,
    names_masks,
    read_split_name,
    settle_eval,
    without_split_word,
)
from cnnclf.names import name_some


class ClassFolder(NamedTuple):
    """A folder whose files, also those in its sub-folders, are of one class and split."""

    path: str
    label: str
    split: str


@dataclass
class Choice:
    """The classes of one or more folders.

    Attributes:
        classes: In the order in which they are read.
        beside: Paths of class folders whose images are in a sub-folder of them; files directly in
            them (boxes, notes) are none.
        skipped: From the path of a folder that is not used to the reason.
        joined: What was made one class: names of classes with those of their sub-folders.
        places: Folders that hold class folders; files directly in them have no class.
    """

    classes: list[ClassFolder] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    joined: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def split_names(view: FolderView, folders: list[str]) -> list[ClassFolder]:
    """Read folders whose names hold both split and class: train_cat, train_dog, test_cat, ...

    Returns:
        A class folder for each of them; empty if the names do not have two splits of the same two
        classes.
    """
    if not all(view.is_flat(path) for path in folders):
        return []
    present = {read_split_name(name_of(path)).split for path in folders}
    if len(present) < 2 or "" in present:
        return []
    read = [
        ClassFolder(
            path,
            without_split_word(name_of(path)),
            settle_eval(read_split_name(name_of(path)).split, present),
        )
        for path in folders
    ]
    labels: dict[str, set[str]] = {}
    for folder in read:
        labels.setdefault(folder.split, set()).add(folder.label)
    shared = set.intersection(*labels.values())
    is_whole = all(label and not label.isdecimal() for label in set.union(*labels.values()))
    return read if len(shared) > 1 and is_whole else []


def choose_classes(
    view: FolderView, path: str, *, split: str, choice: Choice, deep: bool
) -> DataError | None:
    """Add the classes in a folder to a choice.

    Args:
        view: Of the source.
        path: The folder that holds the class folders.
        split: Of all images in it.
        choice: Is added to.
        deep: Whether everything below a class folder belongs to it, because the user said so.

    Returns:
        What the user has to decide; None if all is clear.
    """
    path = _enter(view, path, choice)
    found = [folder for folder in view.filled(path) if folder not in choice.skipped]
    folders = drop_masks(view, found, choice=choice)
    choice.places.append(path)
    if not deep and not split and _hold_splits(view, folders):
        for folder in folders:
            _add_splits(view, folder, choice)
        return None
    if not deep and (problem := _find_groups(view, path, folders)):
        return problem
    for folder in folders:
        _add_class(view, folder, split, choice)
    return None


def drop_masks(view: FolderView, folders: list[str], *, choice: Choice) -> list[str]:
    """Return the folders without those of masks, if one of the others is that of the images."""
    masks = [path for path in folders if names_masks(name_of(path))]
    if not masks or not any(names_images(name_of(path)) for path in folders):
        return folders
    if any(view.filled(path) for path in masks) != any(
        view.filled(path) for path in folders if path not in masks
    ):
        return folders
    choice.skipped |= dict.fromkeys(masks, "masks or annotations of the images beside them")
    return [path for path in folders if path not in masks]


def _enter(view: FolderView, path: str, choice: Choice) -> str:
    """Enter the only folder of a split folder as long as it is only one more wrapper."""
    while True:
        folders = drop_masks(view, view.filled(path), choice=choice)
        if len(folders) != 1 or not view.filled(folders[0]) or not path:
            return path
        inner, outer = name_of(folders[0]), name_of(path)
        same = inner.casefold() == outer.casefold()
        if not (same or is_neutral(inner) or read_split_name(inner).split):
            return path
        choice.places.append(path)
        path = folders[0]


def _hold_splits(view: FolderView, folders: list[str]) -> bool:
    """Return whether all of these classes hold nothing but splits, at least two in all."""
    found = set()
    for folder in folders:
        readings = [read_split_name(name) for name in view.names(folder)]
        if not readings or view.has_images(folder):
            return False
        if any(not reading.split or reading.rest for reading in readings):
            return False
        found |= {reading.split for reading in readings}
    return len(folders) > 1 and len(found) > 1


def _add_splits(view: FolderView, folder: str, choice: Choice) -> None:
    readings = {path: read_split_name(name_of(path)).split for path in view.filled(folder)}
    choice.beside.append(folder)
    for path, split in readings.items():
        settled = settle_eval(split, readings.values())
        choice.classes.append(ClassFolder(path, name_of(folder), settled))


def _add_class(view: FolderView, folder: str, split: str, choice: Choice) -> None:
    below = drop_masks(view, view.filled(folder), choice=choice)
    dropped = len(below) < len(view.filled(folder))
    lone = len(below) == 1 and is_neutral(name_of(below[0])) and not view.has_images(folder)
    if lone or (dropped and not view.has_images(folder)):
        choice.beside.append(folder)
        choice.classes += [ClassFolder(path, name_of(folder), split) for path in below]
        return
    if below:
        names = name_some([name_of(path) for path in below], 3)
        choice.joined.append(f"{name_of(folder)} ({names})")
    choice.classes.append(ClassFolder(folder, name_of(folder), split))


def _are_parts(view: FolderView, folders: list[str]) -> bool:
    """Return whether folders differ in their numbers only (fold1, 2019) and hold the same ones."""
    words = {"".join(filter(str.isalpha, name_of(path).casefold())) for path in folders}
    inner = {frozenset(view.names(path)) for path in folders}
    return len(words) == 1 and len(inner) == 1 and len(next(iter(inner))) > 1


def _find_groups(view: FolderView, path: str, folders: list[str]) -> DataError | None:
    """Ask if the classes may be one level further down: groups of folders with other names."""
    if len(folders) < 2 or any(view.files(folder) or not view.filled(folder) for folder in folders):
        return None
    inner = [name for folder in folders for name in view.names(folder)]
    if _are_parts(view, folders):
        outer = name_some([name_of(folder) for folder in folders], 3)
        shared = name_some(sorted(set(inner)), 3)
        return DataError(
            f"the {len(folders)} folders in {view.spoken(path)} ({outer}) hold the same folders "
            f"({shared}): either these or those may be the classes",
            f"choose with --label-from parent ({shared}) or --label-from top ({outer})",
        )
    if len(set(inner)) < len(inner) or all(is_neutral(name) for name in inner):
        return None
    if len(inner) == len(folders):  # one folder in each is a wrapper of the images of the class
        return None
    tops = [name_of(folder) for folder in folders]
    return DataError(
        f"the classes in {view.spoken(path)} may be its {len(tops)} folders "
        f"({name_some(tops, 3)}) or the {len(inner):,} folders in them ({name_some(inner, 3)})",
        "choose with --label-from top or --label-from parent",
    )
