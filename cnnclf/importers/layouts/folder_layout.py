"""The meaning of the folders of a source as a whole."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.layouts.class_choice import (
    Choice,
    ClassFolder,
    choose_classes,
    drop_masks,
    split_names,
)
from cnnclf.importers.layouts.folder_view import FolderView, is_image_name, name_of
from cnnclf.importers.layouts.label_lists import LabelList, find_label_list
from cnnclf.importers.layouts.split_choice import SplitChoice, choose_given, choose_splits
from cnnclf.importers.layouts.split_words import is_neutral, read_split_name
from cnnclf.names import count_of, name_some

SPLIT_FOLDERS: Final = "split-folders"
CLASS_FOLDERS: Final = "class-folders"
UNLABELED: Final = "images without a label"

_SAMPLE: Final = 50
_ARCHIVES: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar", ".7z")
_LAYOUT_HINT: Final = (
    "put the images of each class into a folder with its name ({0}/cat/1.jpg, {0}/dog/1.jpg), "
    "or give a CSV file with the columns path,label"
)


@dataclass
class FolderLayout:
    """What the folders of a source mean.

    Attributes:
        format: `split-folders` or `class-folders`.
        base: Path of the folder that holds the classes or splits; "" is the source itself.
        wrappers: Paths of the folders above it, from the source down.
        names: Names of its splits or classes, for the reason.
        splits: From the paths of split folders to their splits.
        choice: The class folders.
        lists: Splits whose labels are in a file.
        unlabeled: Paths of folders with images of no class.
        remarks: What was read as what.
        problem: Why it cannot be read without a decision of the user; None if it can.
    """

    format: str
    base: str
    wrappers: list[str]
    names: list[str]
    splits: dict[str, str] = field(default_factory=dict)
    choice: Choice = field(default_factory=Choice)
    lists: list[LabelList] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    problem: DataError | None = None


def find_layout(
    source: Path,
    options: ImportConfig,
    *,
    format: str | None = None,  # noqa: A002
) -> FolderLayout:
    """Find out what the folders of a source mean.

    Args:
        source: A folder.
        options: `splits` and `label_from` decide what the names leave open.
        format: `split-folders` or `class-folders` if the user said so.

    Raises:
        DataError: A folder that `--splits` names does not exist.
    """
    view = FolderView(source)
    choice = Choice()
    base, wrappers, folders = _descend(view, choice)
    splits = SplitChoice()
    if options.splits and format != CLASS_FOLDERS:
        splits = choose_given(view, base, folders=folders, given=options.splits)
    elif format != CLASS_FOLDERS:
        flat = options.label_from not in (None, "top")
        splits = choose_splits(view, folders, forced=format == SPLIT_FOLDERS, flat=flat)
    if splits.splits:
        return _lay_out_splits(view, splits, base, wrappers, choice, options)
    layout = FolderLayout(
        CLASS_FOLDERS, base, wrappers, [name_of(path) for path in folders], choice=choice
    )
    both = [] if options.label_from or format == CLASS_FOLDERS else split_names(view, folders)
    if both:
        choice.classes += both
        choice.places.append(base)
        layout.format = SPLIT_FOLDERS
        first = both[0]
        layout.remarks.append(
            f"read the names of {len(both)} folders as split and class: {name_of(first.path)} as "
            f"{first.label} in {first.split}"
        )
        return layout
    named = [path for path in folders if read_split_name(name_of(path)).split]
    if format is None and not options.label_from and split_names(view, named):
        others = name_some([name_of(path) for path in folders if path not in named])
        layout.problem = DataError(
            f"{view.spoken(base)} has folders named by split and class "
            f"({name_some([name_of(path) for path in named], 3)}), but also {others}",
            f"move {others} elsewhere; or --format {CLASS_FOLDERS} makes each folder a class",
        )
        return layout
    layout.problem = _lay_out_classes(view, layout, folders, options, forced=format)
    return layout


def _lay_out_splits(
    view: FolderView,
    splits: SplitChoice,
    base: str,
    wrappers: list[str],
    choice: Choice,
    options: ImportConfig,
) -> FolderLayout:
    layout = FolderLayout(
        SPLIT_FOLDERS,
        base,
        wrappers,
        [name_of(path) for path in splits.splits],
        splits=splits.splits,
        choice=choice,
        unlabeled=list(splits.unlabeled),
        problem=splits.problem,
    )
    choice.places.append(base)
    choice.skipped |= dict.fromkeys(splits.skipped, "not a folder of a split")
    odd = [f"{name_of(p)} as {s}" for p, s in splits.splits.items() if name_of(p).casefold() != s]
    if odd:
        layout.remarks.append(f"read {', '.join(odd)}")
    for path, split in splits.splits.items():
        if options.label_from and options.label_from != "top":
            if _finds_labels(view, path, options.label_from):
                choice.classes.append(ClassFolder(path, "", split))
            else:
                layout.unlabeled.append(path)
        elif found := find_label_list(view, path, split=split):
            layout.lists.append(found)
            layout.remarks.append(f"labels of {path}: {found.table}")
        elif not view.filled(path):
            layout.unlabeled.append(path)
        else:
            deep = options.label_from == "top"
            problem = choose_classes(view, path, split=split, choice=choice, deep=deep)
            layout.problem = layout.problem or problem
    _join_spellings(layout)
    _drop_bare_images(view, layout)
    return layout


def _join_spellings(layout: FolderLayout) -> None:
    """Read Train/Cat and test/cat as one class; a and A stay two where a split holds both."""
    classes = layout.choice.classes
    known = {(each.split, each.label) for each in classes}
    spellings: dict[str, set[str]] = {}
    for split, label in known:
        if split == "train":
            spellings.setdefault(label.casefold(), set()).add(label)
    joined: dict[str, str] = {}
    for number, each in enumerate(classes):
        alike = spellings.get(each.label.casefold(), set())
        label = next(iter(alike), "")
        if len(alike) == 1 and (each.split, label) not in known:
            classes[number] = each._replace(label=label)
            joined[each.label] = label
    if joined:
        words = name_some([f"{name} as {label}" for name, label in joined.items()])
        layout.remarks.append(f"read {words}, as in train: the names differ only in case")


def _finds_labels(view: FolderView, path: str, rule: str) -> bool:
    """Return whether a rule finds a label in one of the first names; of test1/7.jpg it may not."""
    names = [name_of(file) for file in view.files(path) if is_image_name(file)][:_SAMPLE]
    return not names or rule in ("parent", "grandparent") or any(re.search(rule, n) for n in names)


def _drop_bare_images(view: FolderView, layout: FolderLayout) -> None:
    """Take a split without class folders, such as test/images, as one of unlabeled images."""
    trained = {each.label for each in layout.choice.classes if each.split == "train"}
    for path in layout.splits:
        inside = [each for each in layout.choice.classes if each.path.startswith(f"{path}/")]
        names = {each.label for each in inside}
        if len(inside) == 1 and not names & trained and trained and _is_wrapper(view, path, inside):
            layout.choice.classes.remove(inside[0])
            layout.unlabeled.append(inside[0].path)


def _is_wrapper(view: FolderView, path: str, inside: list[ClassFolder]) -> bool:
    name = inside[0].label
    same = name.casefold() == name_of(path).casefold()
    return view.has_images(inside[0].path) and (
        same or is_neutral(name) or bool(read_split_name(name).split)
    )


def _lay_out_classes(
    view: FolderView,
    layout: FolderLayout,
    folders: list[str],
    options: ImportConfig,
    *,
    forced: str | None,
) -> DataError | None:
    if options.label_from and options.label_from != "top":
        layout.choice.classes.append(ClassFolder(layout.base, "", ""))
        return None
    bare = folders and all(read_split_name(name_of(path)).split for path in folders)
    if forced == SPLIT_FOLDERS or not folders or (bare and forced is None):
        return _explain(view, layout.base, folders)
    deep = options.label_from == "top" or forced == CLASS_FOLDERS
    problem = choose_classes(view, layout.base, split="", choice=layout.choice, deep=deep)
    if any(each.split for each in layout.choice.classes):
        layout.format = SPLIT_FOLDERS
    return problem


def _explain(view: FolderView, base: str, folders: list[str]) -> DataError:
    """Return the error for a folder with neither class folders nor split folders."""
    where = view.spoken(base)
    if folders:
        names = [name_of(path) for path in folders]
        return DataError(
            f"{where} has no split folders with class folders: {name_some(names)} hold only files",
            f"put the images of each class into a folder ({where}/{names[0]}/cat/1.jpg), use "
            "--format class-folders if these are class names, or, if the names of the files tell "
            "the class (cat.0.jpg), --label-from '^([a-z]+)'",
        )
    files = view.files(base)
    if view.walk.skipped:
        path, reason = view.walk.skipped[0]
        return DataError(f"cannot read {view.spoken(path)}: {reason}", "check its owner and mode")
    if any(is_image_name(file) for file in files):
        example = next(name_of(file) for file in files if is_image_name(file))
        return DataError(
            f"{where} has no class folders, only {count_of(view.count_files(base), 'file')}",
            f"{_LAYOUT_HINT.format(view.source)}; if names such as {example} tell the class: "
            "--label-from REGEX",
        )
    packed = [name_of(file) for file in files if file.casefold().endswith(_ARCHIVES)]
    if packed:
        return DataError(
            f"{where} holds no images, but other archives: {name_some(packed)}",
            "unpack them into one folder, each into a folder of its own, and import that",
        )
    if files:
        return DataError(
            f"{where} has no class folders, only {count_of(view.count_files(base), 'file')}",
            _LAYOUT_HINT.format(view.source),
        )
    return DataError(f"{where} is empty", _LAYOUT_HINT.format(view.source))


def _descend(view: FolderView, choice: Choice) -> tuple[str, list[str], list[str]]:
    """Enter folders that hold only one other, and skip copies of a folder in itself.

    Unlabeled images beside the only other folder (test/ beside data/train and data/valid) stay out.
    """
    base, wrappers = "", []
    folders = _find_folders(view, base, choice)
    while inner := _find_only(view, folders):
        choice.skipped |= {path: UNLABELED for path in folders if path != inner}
        wrappers.append(base)
        base = inner
        folders = _find_folders(view, base, choice)
    if not folders:  # nested single folders down to the files: the first one is the class
        base, wrappers = "", []
        folders = _find_folders(view, base, choice)
    return base, wrappers, folders


def _find_only(view: FolderView, folders: list[str]) -> str:
    """Return the only folder that is neither a split nor unlabeled images of one; "" if several."""
    inner = [path for path in folders if not _is_split(path)]
    if len(inner) != 1 or not all(view.is_flat(path) for path in folders if path != inner[0]):
        return ""
    # Beside others, one with images of its own is a class; train, next to it, is then one, too.
    is_class = not view.filled(inner[0]) or view.has_images(inner[0])
    return "" if len(folders) > 1 and is_class else inner[0]


def _is_split(path: str) -> bool:
    reading = read_split_name(name_of(path))
    return bool(reading.split) and not reading.rest


def _find_folders(view: FolderView, base: str, choice: Choice) -> list[str]:
    folders = drop_masks(view, view.filled(base), choice=choice)
    notes = [path for path in folders if view.holds_notes(path)]
    if len(notes) < len(folders):
        choice.skipped |= dict.fromkeys(notes, "no images")
    name = name_of(base) or view.source.name
    for path in folders:
        if name_of(path) == name and _is_copy(view, base, path):
            choice.skipped[path] = (
                f"{name}/{name} holds the folders of {name} again, with the same file names"
            )
    return [path for path in folders if path not in choice.skipped]


def _is_copy(view: FolderView, base: str, path: str) -> bool:
    inner = view.names(path)
    outer = {name_of(other): other for other in view.filled(base) if other != path}
    return bool(inner) and all(
        name in outer and view.same_files(f"{path}/{name}", outer[name]) for name in inner
    )
