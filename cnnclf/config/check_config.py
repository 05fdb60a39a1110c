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
    threads: Threads = Field(
        None,
        description="CPU threads that read and examine images.",
        json_schema_extra={"unset": "all cores"},
    )
