"""Which Ray cluster `cnnclf predict --ray` uses, and where its rows go."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.errors import UsageError

if TYPE_CHECKING:
    from cnnclf.prediction.row_file import Mode


@dataclass(frozen=True)
class ClusterCall:
    """A cluster, and where its rows are written.

    Args:
        address: As returned by `check_address`.
        path: A file, or a directory of parts.
        suffix: Suffix of the parts; empty for a file.
        mode: What happens to existing rows.
    """

    address: str
    path: Path
    suffix: str
    mode: "Mode"


def choose_cluster(
    ray: str | None,
    parts: str | None,
    *,
    path: Path | None,
    mode: "Mode",
    watch: bool,
    is_sorting: bool,
) -> ClusterCall | None:
    """Return the cluster to use, None for this machine, after checking that rows can be written.

    Raises:
        UsageError: The options cannot be combined, or the rows exist.
        MissingPackageError: Ray or the format needs a package that is not installed.
    """
    from cnnclf.prediction.row_file import FILE_FORMATS, check_row_file

    if ray is None:
        if parts is not None:
            raise UsageError("--parts needs --ray", "add --ray, or remove --parts")
        if path is not None:
            check_row_file(path, mode)
        return None
    from cnnclf.prediction.cluster.connecting import check_address, check_installed
    from cnnclf.prediction.cluster.parts import PART_FORMATS, check_parts

    address = check_address(ray)
    if watch or is_sorting:
        other = "--watch" if watch else "sorting into folders"
        raise UsageError(f"--ray and {other} cannot be combined", f"remove --ray or {other}")
    if path is None:
        raise UsageError("--ray needs --out FILE or --out DIR", "for example: --out rows.csv")
    if parts is not None and parts not in PART_FORMATS:
        raise UsageError(
            f"expected --parts {', '.join(PART_FORMATS[:-1])} or {PART_FORMATS[-1]}, "
            f"received {parts!r}",
            "for example: --parts parquet",
        )
    check_installed()
    if parts is None and path.suffix.lower() in FILE_FORMATS:
        check_row_file(path, mode)
        return ClusterCall(address, path, "", mode)
    suffix = f".{parts or 'parquet'}"
    check_parts(path, suffix, mode=mode)
    return ClusterCall(address, path, suffix, mode)
