"""Every setting of `cnnclf check`."""

from typing import ClassVar

from pydantic import Field

from cnnclf.config.sections import CommandConfig, Threads


class CheckConfig(CommandConfig):
    """What a check of a dataset looks for."""

    command: ClassVar[str] = "check"

    mirrored: bool = Field(
        False, description="Look for mirrored and rotated copies, too: eight forms of each image."
    )
    embeddings: bool = Field(
        False,
        description="Look for crops, too: compare images by the features of a pretrained network.",
    )
    cross_validate: bool | None = Field(
        None,
        description="Look for wrong labels and outliers with a classifier on the features of a "
        "pretrained network, fitted in folds.",
        json_schema_extra={"unset": "for 100 to 5,000 images"},
    )
    threads: Threads = Field(
        None,
        description="CPU threads that read and examine images.",
        json_schema_extra={"unset": "all cores"},
    )
