"""The names of files that a command writes, checked before any work is done."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cnnclf.errors import UsageError
from cnnclf.full_disks import check_writable

# An option that names a directory was taken for one that names a file.
_FILE_SUFFIXES = frozenset(
    (
        *(".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".toml", ".html", ".htm", ".pdf"),
        *(".png", ".jpg", ".jpeg", ".svg", ".gif", ".zip", ".tar", ".npz"),
        *(".onnx", ".tflite", ".keras", ".xml", ".pb", ".h5", ".pt", ".pth", ".safetensors"),
    )
)


def check_directory_name(path: Path | None) -> None:
    """Refuse a directory for --out that is named like a file, unless it exists.

    Raises:
        UsageError: It is named like a file.
    """
    if path is not None and path.suffix.lower() in _FILE_SUFFIXES and not path.is_dir():
        name = shlex.quote(str(path.with_suffix("")))
        raise UsageError(
            f"--out {path}: this command writes a directory with several files, not one file",
            f"--out {name}; the files are then in {name}",
        )


def check_output(
    path: Path | None, option: str, *, endings: Sequence[str], overwrite: bool
) -> None:
    """Refuse a file name that has another ending than those that can be written, or is taken.

    Args:
        path: The file; None if it was not given.
        option: The option that names it.
        endings: With the dot, in lower case; the first is suggested.
        overwrite: Whether it may exist.

    Raises:
        UsageError: It is.
        RunError: Its directory is closed to the user.
    """
    if path is None:
        return
    if path.suffix.lower() not in endings:
        better = shlex.quote(str(path.with_suffix(endings[0]))) if path.name else ""
        raise UsageError(
            f"{option} {path}: expected a file name that ends in {' or '.join(endings)}",
            better and f"{option} {better}",
        )
    if path.is_dir():
        raise UsageError(
            f"{path} is a directory", f"name a file: {option} {path / 'NAME'}{endings[0]}"
        )
    if path.is_file() and not overwrite:
        raise UsageError(
            f"{path} already exists", f"replace it with --overwrite, or choose another {option}"
        )
    check_writable(path, f"choose another {option}")
