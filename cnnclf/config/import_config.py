"""Every setting of `cnnclf import`."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cnnclf.config.sections import CommandConfig, Threads, Typed, setting, split_list

DEFAULT_SPLIT = (0.7, 0.15, 0.15)
"""Fractions of train, val and test for a source that has no split of its own."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Split = Annotated[
    tuple[Fraction, Fraction, Fraction],
    BeforeValidator(split_list),
    Typed(
        "TRAIN,VAL,TEST",
        "three fractions for train, val and test that add up to 1, such as 0.7,0.15,0.15",
    ),
]


def _split_pairs(value: object) -> object:
    """Let "train=seg_train,test=seg_test" stand for (("train", "seg_train"), ...)."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return [(split.strip(), name.strip()) for split, _, name in pairs]


def _check_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


SplitPairs = Annotated[
    tuple[tuple[Literal["train", "val", "test"], Annotated[str, Field(min_length=1)]], ...],
    BeforeValidator(_split_pairs),
    Typed("SPLIT=NAME,...", "splits with their names, such as train=seg_train,test=seg_test"),
]
Expression = Annotated[
    str,
    AfterValidator(_check_expression),
    Typed("REGEX", "a regular expression such as '^([a-z]+)'"),
]
LabelRule = Annotated[
    str,
    AfterValidator(_check_expression),
    Typed(
        "parent|grandparent|top|REGEX",
        "parent, grandparent, top, or a regular expression such as '^([a-z]+)'",
        ("parent", "grandparent", "top"),
    ),
]


def _check_channels(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) not in (1, 3):
        raise ValueError("one or three channels")
    return value


Channels = Annotated[
    tuple[Annotated[int, Field(ge=0, le=4095)], ...],
    BeforeValidator(split_list),
    AfterValidator(_check_channels),
    Typed("N|N,N,N", "one or three numbers of channels from 0, such as 3 or 2,1,0"),
]


class ImportConfig(CommandConfig):
    """How a source is imported into a dataset."""

    command: ClassVar[str] = "import"

    format: str | None = setting(
        None, "Format of the source, if detection fails.", unset="detected"
    )
    split: Split | None = setting(
        None, "Fractions of train, val and test.", unset="that of the source, or 0.7,0.15,0.15"
    )
    splits: SplitPairs | None = setting(
        None,
        "Names of the folders, or values of the split column, that are the splits.",
        unset="recognized",
    )
    label_from: LabelRule | None = setting(
        None,
        "Label of an image in a folder: the name of its folder, of the one above, of "
        "the top one, or what a regular expression finds in its name or path.",
        unset="recognized",
    )
    root: Path | None = setting(
        None,
        "Folder that the paths of a table are relative to.",
        unset="the folder of the table",
        metavar="DIR",
    )
    path_column: str | None = setting(
        None,
        "Column of a table with the paths: its name, or its number without a header.",
        metavar="COLUMN",
        unset="recognized",
    )
    label_column: str | None = setting(
        None, "Column with the labels.", metavar="COLUMN", unset="recognized"
    )
    split_column: str | None = setting(
        None, "Column with the splits.", metavar="COLUMN", unset="recognized"
    )
    group_column: str | None = setting(
        None,
        "Column with the groups; images of one group stay in one split.",
        metavar="COLUMN",
        unset="recognized",
    )
    group_regex: Expression | None = setting(
        None,
        "Group of a file: what a regular expression finds in its name, or else its "
        "path; the files of one group stay in one split.",
        unset="no groups",
    )
    channels: Channels | None = setting(
        None,
        "Channels of each image to use, one or three of them, counted from 0, for TIFF "
        "files of more channels than colors.",
        unset="gray or RGB",
    )
    header: bool = setting(True, "The first line of a table names its columns.")
    one_class: bool = setting(
        False, "Allow images of one class only, to evaluate on or to extend later."
    )
    first_label: bool = setting(
        False, "Use the first of several labels of an image instead of refusing them."
    )
    group_near_duplicates: bool = setting(
        True, "Keep images that are almost equal in one split, if a split is made."
    )
    keep_splits: Path | None = setting(
        None,
        "Dataset whose images stay in their split, such as an earlier import of this source; only "
        "new images are split.",
        unset="all images are split",
        metavar="DATASET",
    )
    seed: int = setting(0, "Random seed of the split.", ge=0)
    copy_images: bool = setting(False, "Copy images into the dataset instead of referring to them.")
    classes_file: Path | None = setting(
        None,
        "Text file with one label per line, in the order of the class indices.",
        unset="sorted labels",
    )
    threads: Threads = setting(None, "CPU threads that read and check images.", unset="all cores")
