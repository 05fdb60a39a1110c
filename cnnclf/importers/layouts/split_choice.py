"""Which folders of a source are its splits, by the words in their names and what they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnclf.errors import DataError
from cnnclf.importers.layouts.folder_view import FolderView, name_of, parent_of
from cnnclf.importers.layouts.label_lists import find_label_list
from cnnclf.importers.layouts.split_words import SplitReading, read_split_name, settle_eval
from cnnclf.importers.walk import join
from cnnclf.names import name_some


@dataclass(frozen=True)
class SplitChoice:
    """The splits among some folders.

    Args:
        splits: From the path of each split folder to its split; empty if there are none.
        unlabeled: Paths of folders among them with images of no class.
        skipped: Paths of other folders that are not used.
        problem: What the user has to decide; None if all is clear.
    """

    splits: dict[str, str] = field(default_factory=dict)
    unlabeled: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problem: DataError | None = None


def choose_splits(
    view: FolderView, folders: list[str], *, forced: bool = False, flat: bool = False
) -> SplitChoice:
    """Find the splits among the folders of one folder.

    A folder is a split if it holds folders, or a list of labels, and its name is a word for a split
    (`train_images`), or if several names differ in that word only (`seg_train`, `seg_test`).

    Args:
        view: Of the source.
        folders: Paths of the folders with files.
        forced: Whether the user said that these are split folders, so that others are skipped.
        flat: Whether splits need not hold folders, because file names tell the class.
    """
    readings = {path: read_split_name(name_of(path)) for path in folders}
    divided = [path for path in folders if flat or view.filled(path) or find_label_list(view, path)]
    found = _find_named(readings, divided)
    if not found:
        return SplitChoice()
    present = set(found.values())
    splits = {path: settle_eval(split, present) for path, split in found.items()}
    rest = [path for path in folders if path not in splits]
    problem = None
    if not forced:
        problem = _find_rivals(view, splits) or _find_strangers(view, splits, rest)
    unlabeled = [path for path in rest if view.is_flat(path)]
    skipped = [path for path in rest if path not in unlabeled]
    return SplitChoice(splits, unlabeled, skipped, problem)


def choose_given(
    view: FolderView, base: str, *, folders: list[str], given: tuple[tuple[str, str], ...]
) -> SplitChoice:
    """Take the folders that --splits names; all others are skipped.

    Raises:
        DataError: There is no such folder.
    """
    splits = {}
    for split, name in given:
        places = (join(base, name), name)
        found = next((path for path in places if view.filled(path) or view.files(path)), None)
        if found is None:
            names = name_some([name_of(path) for path in folders], 12) or "no folders"
            raise DataError(
                f"--splits {split}={name}: there is no folder {name!r} in {view.spoken(base)}",
                f"it holds {names}",
            )
        splits[found] = split
    rest = [path for path in folders if path not in splits]
    unlabeled = [path for path in rest if view.is_flat(path)]
    return SplitChoice(splits, unlabeled, [path for path in rest if path not in unlabeled])


def spoken_option(splits: Mapping[str, str]) -> str:
    """Return --splits as the user would type it for some folders."""
    pairs = ",".join(f"{split}={name_of(path)}" for path, split in splits.items())
    return f"--splits {pairs}"


def _find_named(readings: Mapping[str, SplitReading], divided: list[str]) -> dict[str, str]:
    """Return the divided folders that are named like splits."""
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for path in divided:
        if readings[path].split:
            groups.setdefault(readings[path].rest, {})[path] = readings[path].split
    found = groups.pop((), {})
    for group in groups.values():
        # One name with another word, such as steam_train, is rather a class.
        several = len(set(group.values())) > 1
        if several or (found and not set(group.values()) & set(found.values())):
            found |= group
    order = ("train", "val", "eval", "test")
    return dict(sorted(found.items(), key=lambda item: order.index(item[1])))


def _find_rivals(view: FolderView, splits: dict[str, str]) -> DataError | None:
    """Refuse two folders for one split, unless they differ in their numbers (train-00)."""
    for split in sorted(set(splits.values())):
        same = [path for path, other in splits.items() if other == split]
        if len({"".join(filter(str.isalpha, name_of(path).casefold())) for path in same}) > 1:
            both = name_some([name_of(path) for path in same])
            one = {path: other for path, other in splits.items() if path not in same[1:]}
            return DataError(
                f"{both} in {view.spoken(parent_of(same[0]))} may all be {split}, or only "
                f"{name_of(same[0])} is",
                f"to join them: {spoken_option(splits)}; to use one: {spoken_option(one)}",
            )
    return None


def _find_strangers(view: FolderView, splits: dict[str, str], rest: list[str]) -> DataError | None:
    """Refuse folders beside the splits that are named like none and may be classes."""
    strangers = [
        path
        for path in rest
        if view.filled(path) and not view.is_flat(path) and view.has_images_below(path)
    ]
    flat = [
        path for path in rest if view.is_flat(path) and not read_split_name(name_of(path)).split
    ]
    if len(splits) == 1 and len(flat) > 1:  # bus, car and train/steam: train may be a class, too
        strangers += flat
    if not strangers:
        return None
    names, first = name_some([name_of(path) for path in strangers]), name_of(strangers[0])
    known = name_some([name_of(path) for path in splits])
    where = view.spoken(parent_of(strangers[0]))
    shared = {name for path in splits for name in view.names(path)} & set(view.names(strangers[0]))
    if shared:
        missing = next((s for s in ("val", "test", "train") if s not in splits.values()), "train")
        more = {**splits, strangers[0]: missing}
        return DataError(
            f"{first} in {where} holds the same classes as {known}, but its name is of no split",
            f"to use it: {spoken_option(more)}; to skip it: {spoken_option(splits)}",
        )
    return DataError(
        f"{where} mixes split folders ({known}) and other folders ({names})",
        f"{spoken_option(splits)} skips {names}; --format class-folders makes each folder a class",
    )
