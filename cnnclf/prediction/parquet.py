"""Parquet output, converted from the JSON lines that are written while the job runs."""

import importlib.util
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from cnnclf.errors import MissingPackageError
from cnnclf.prediction.rows import RowColumns

_GROUP_ROWS = 32_768  # per row group, and in memory at once
_ESCAPED = re.compile(r"\\(udc[89a-f][0-9a-f])")


def check_parquet() -> None:
    """Check that Parquet can be written, without importing anything.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingPackageError(
            "Parquet output needs pyarrow, which is not installed",
            "python -m pip install 'cnnclf[parquet]', or write .csv or .jsonl",
        )


def write_parquet(lines: Path, target: Path, *, columns: RowColumns) -> None:
    """Convert a file of JSON lines to a Parquet file, one row group at a time.

    Args:
        lines: Rows as `rows.JSON_LINES` writes them.
        target: The file to write.
        columns: Columns of the rows; probabilities become float64, the rest strings. Undecodable
            bytes of a path are escaped.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    numbers = set(columns.numbers())
    fields = [(name, pa.float64() if name in numbers else pa.string()) for name in columns.names()]
    schema = pa.schema(fields)
    with (
        lines.open("rb") as file,
        parquet.ParquetWriter(target, schema, compression="zstd") as writer,
    ):
        while group := list(itertools.islice(file, _GROUP_ROWS)):
            rows = [json.loads(line) for line in group]
            arrays = [
                pa.array([_as_text(row[name]) for row in rows], kind) for name, kind in fields
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read_paths(path: Path) -> Iterator[str]:
    """Yield the paths of a file that `write_parquet` wrote, as they are on disk."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["path"]):
            yield from map(unescape_path, batch.column(0).to_pylist())


def unescape_path(path: str) -> str:
    """Restore the undecodable bytes of a path, which are escaped in Parquet."""
    return _ESCAPED.sub(lambda match: chr(int(match[1][1:], 16)), path)


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
