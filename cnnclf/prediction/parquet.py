"""Rows as parquet, made of the JSON lines that they were kept in while the job ran."""

import importlib.util
import itertools
import json
from pathlib import Path

from cnnclf.errors import MissingPackageError
from cnnclf.prediction.rows import Columns

# Rows of one row group: also what is in memory at once.
_GROUP_ROWS = 32_768


def check_parquet() -> None:
    """Refuse parquet where it cannot be written, without importing anything.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingPackageError(
            "expected pyarrow to write parquet, it is not installed",
            "python -m pip install 'cnnclf[parquet]', or write .csv or .jsonl",
        )


def write_parquet(lines: Path, target: Path, columns: Columns) -> None:
    """Turn a file of JSON lines into a parquet file, a row group at a time.

    Args:
        lines: Rows as `rows.JSON_LINES` writes them.
        target: What to write.
        columns: What the rows hold; probabilities become float64, all else text. A path that is no
            text has its undecodable bytes escaped.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    fields = [
        (name, pa.float64() if name.startswith("probability") else pa.string())
        for name in columns.names()
    ]
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


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
