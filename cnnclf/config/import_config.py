"""Every setting of `cnnclf import`."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from cnnclf.config.sections import CommandConfig, Threads, Typed, split_list

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


class ImportConfig(CommandConfig):
    """How a source is imported into a dataset."""

    command: ClassVar[str] = "import"

    format: str | None = Field(
        None,
        description="Format of the source, if detection fails.",
        json_schema_extra={"unset": "detected"},
    )
    split: Split | None = Field(
        None,
        description="Fractions of train, val and test.",
        json_schema_extra={"unset": "that of the source, or 0.7,0.15,0.15"},
    )
    seed: int = Field(0, ge=0, description="Random seed of the split.")
    copy_images: bool = Field(
        False, description="Copy images into the dataset instead of referring to them."
    )
    classes_file: Path | None = Field(
        None,
        description="Text file with one label per line, in the order of the class indices.",
        json_schema_extra={"unset": "sorted labels"},
    )
    threads: Threads = Field(
        None,
        description="CPU threads that read and check images.",
        json_schema_extra={"unset": "all cores"},
    )
