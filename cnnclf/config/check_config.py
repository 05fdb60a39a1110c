"""Every setting of `cnnclf check`."""

from typing import ClassVar

from cnnclf.config.sections import CommandConfig, Threads, setting


class CheckConfig(CommandConfig):
    """What a check of a dataset looks for."""

    command: ClassVar[str] = "check"

    mirrored: bool = setting(
        False, "Look for mirrored and rotated copies, too: eight forms of each image."
    )
    embeddings: bool = setting(
        False, "Look for crops, too: compare images by the features of a pretrained network."
    )
    cross_validate: bool | None = setting(
        None,
        "Look for wrong labels and outliers with a classifier on the features of a "
        "pretrained network, fitted in folds.",
        unset="for 100 to 5,000 images",
    )
    threads: Threads = setting(None, "CPU threads that read and examine images.", unset="all cores")
