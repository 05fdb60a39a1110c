"""`cnnclf sample-data`: write the small data set that comes with cnnclf."""

import shlex
from pathlib import Path
from typing import Annotated

from cnnclf.cli.declaring import argument
from cnnclf.cli.output import out


def sample_data_command(
    directory: Annotated[
        Path, argument("DIR", "Directory to write to; created if it does not exist.")
    ],
) -> None:
    """Write sample images, small drawings of X and O in two folders, to try the other commands."""
    from cnnclf.data.sample_data import write_sample_data

    written = write_sample_data(directory)
    out.line(f"wrote {written}")
    out.json({"directory": written})
    out.hint(f"cnnclf train {shlex.quote(str(written))}")
