"""Writes a dataset as tar shards in the layout of WebDataset."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cnnclf.bounded import MAX_IMAGE_BYTES, read_bytes
from cnnclf.data.manifest import Dataset
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.errors import DataError, UsageError
from cnnclf.files import check_replaceable, replace_directory_atomic
from cnnclf.full_disks import write_error
from cnnclf.progress import Progress
from cnnclf.workspaces import remove_leftovers, workspace

CLASS_NAMES: Final = "classnames.txt"
_UNFINISHED: Final = "sharding"
_MAX_SHARD_BYTES: Final = 256 << 20
_TIME: Final = 0  # of every member, so that the same dataset gives the same shards


class WrittenShards(NamedTuple):
    """What was written.

    Args:
        directory: Where.
        shards: Names of the shards, in order.
        images: How many images they hold.
        lost: Rows of the manifest whose files could not be read.
    """

    directory: Path
    shards: tuple[str, ...]
    images: int
    lost: tuple[str, ...]


def write_shards(
    dataset: Dataset,
    out: Path,
    *,
    overwrite: bool = False,
    max_bytes: int = _MAX_SHARD_BYTES,
    progress: Progress,
) -> WrittenShards:
    """Write each split as SPLIT-000000.tar and so on, with the bytes of the files unchanged.

    Each sample has its image, the number of its class (.cls) and label, path and group (.json);
    `classnames.txt` names the classes in the order of their numbers.

    Args:
        dataset: What to write.
        out: A new directory.
        overwrite: Whether to replace a directory of shards.
        max_bytes: A shard ends with the sample that reaches this size.
        progress: Receives the progress.

    Raises:
        UsageError: `out` exists.
        DataError: No file can be read, or the dataset does not hold images.
        RunError: `out` cannot be written.
        DeviceError: The disk is full.
    """
    if dataset.kind != "image":
        raise DataError(f"{dataset.place} holds {dataset.kind}s, and shards hold images")
    if out.exists() and not (overwrite and (out / CLASS_NAMES).is_file()):
        raise UsageError(
            f"{out} already exists" + " and does not hold shards" * overwrite,
            "choose another --out"
            if overwrite
            else "replace it with --overwrite, or choose another --out",
        )
    if overwrite and out.exists():
        check_replaceable(out)
    remove_leftovers(out.parent, kind=_UNFINISHED)
    try:
        with workspace(out.parent, out.name[:80], kind=_UNFINISHED) as staging:
            written = _write(dataset, staging, max_bytes=max_bytes, progress=progress)
            if overwrite and out.exists():
                replace_directory_atomic(staging, out)
            else:
                staging.rename(out)
    except OSError as error:
        raise write_error(out, error) from error
    return written._replace(directory=out)


def _write(dataset: Dataset, folder: Path, *, max_bytes: int, progress: Progress) -> WrittenShards:
    names = "".join(f"{label}\n" for label in dataset.labels)
    # bytes of a folder that are not UTF-8 are escaped, as JSON does
    (folder / CLASS_NAMES).write_bytes(names.encode("utf-8", "backslashreplace"))
    lost: list[str] = []
    shards: list[str] = []
    images = 0
    with progress.task("writing shards", len(dataset), unit="images") as task:
        for split in (*SPLITS, ""):
            rows = [row for row in range(len(dataset)) if _split_of(dataset, row) == split]
            samples = _read_samples(dataset, rows, lost)
            number = 0
            sample = next(samples, None)
            while sample is not None:
                name = f"{split or 'all'}-{number:06}.tar"
                size = 0
                with tarfile.open(folder / name, "w") as archive:
                    while sample is not None and size < max_bytes:
                        for member, content in sample:
                            info = tarfile.TarInfo(member)
                            info.size, info.mtime = len(content), _TIME
                            archive.addfile(info, io.BytesIO(content))
                            size += len(content)
                        images += 1
                        task.advance()
                        sample = next(samples, None)
                shards.append(name)
                number += 1
    if not images:
        raise DataError(f"no image of {dataset.place} can be read", "import the source again")
    return WrittenShards(folder, tuple(shards), images, tuple(lost))


def _split_of(dataset: Dataset, row: int) -> str:
    index = int(dataset.manifest.splits[row])
    return SPLITS[index] if index >= 0 else ""


def _read_samples(
    dataset: Dataset, rows: list[int], lost: list[str]
) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the members of each sample; files that cannot be read are added to `lost`."""
    manifest = dataset.manifest
    for row in rows:
        path = manifest.paths[row]
        try:
            content = read_bytes(dataset.file(row), max_bytes=MAX_IMAGE_BYTES)
        except OSError as error:
            lost.append(f"{path}: {error.strerror or error}")
            continue
        index = int(manifest.class_indices[row])
        facts = {"label": dataset.labels[index], "path": path, "group": manifest.groups[row]}
        suffix = Path(path).suffix.lower() or ".bin"
        yield [
            (f"{row:08}{suffix}", content),
            (f"{row:08}.cls", str(index).encode()),
            (f"{row:08}.json", json.dumps(facts).encode("utf-8", "surrogateescape")),
        ]
