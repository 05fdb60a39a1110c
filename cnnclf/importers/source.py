"""What the user gives to import: a path, or any other text that an importer recognizes."""

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from cnnclf.errors import DataError


@dataclass(frozen=True)
class Source:
    """A source of images as the user gave it.

    Args:
        text: As typed, such as `photos`, `hf://user/name` or `shard-{000000..000012}.tar`.
        path: The file or folder of this name; None if there is none.
        within: A folder that no path in the source may lead out of, if the source came out of an
            archive; None for no limit.
    """

    text: str
    path: Path | None
    within: Path | None = None

    @classmethod
    def of(cls, given: "Source | str | os.PathLike[str]") -> "Source":
        """Return the source for a text or a path; a source is returned as it is."""
        if isinstance(given, Source):
            return given
        text = os.fspath(given)
        path = Path(text)
        return cls(text, path if _exists(path) else None)

    def __str__(self) -> str:
        return self.text

    def absolute(self) -> "Source":
        """Return the same source independent of the current directory."""
        if self.path is None:
            return self
        path = Path(os.path.abspath(self.path))  # noqa: PTH100 - takes ".." out
        return replace(self, text=os.fspath(path), path=path)

    def require_path(self) -> Path:
        """Return the file or folder.

        Raises:
            DataError: There is none.
        """
        if self.path is None:
            if "://" in self.text:
                raise DataError(
                    f"{self.text} does not exist here, and import downloads no addresses",
                    "download it and give the file or folder; only hf://user/name is fetched",
                )
            is_pattern = not {"*", "?", "["}.isdisjoint(self.text)
            hint = (
                "import takes no patterns: give the folder of the images"
                if is_pattern
                else "check the path"
            )
            raise DataError(f"{self.text} does not exist", hint)
        return self.path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a text that is no path, such as a list of shards
            return False
        raise
