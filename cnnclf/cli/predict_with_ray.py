"""`cnnclf predict --ray`: the same command, with its images labeled by many machines."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import out
from cnnclf.cli.row_sinks import open_file_sink, summary_fields
from cnnclf.errors import CnnclfError, UsageError

if TYPE_CHECKING:
    from cnnclf.inference.bundles import Bundle
    from cnnclf.prediction.cluster.parts import Parts
    from cnnclf.prediction.cluster.worker import Computing
    from cnnclf.prediction.inputs import Found, ImageInputs
    from cnnclf.prediction.job import Job
    from cnnclf.prediction.row_file import Mode
    from cnnclf.prediction.rows import Columns, RowWriter
    from cnnclf.prediction.summary import PredictSummary, SoFar


@dataclass(frozen=True)
class ClusterCall:
    """Which cluster, and where its rows go.

    Args:
        address: As `check_address` returns it.
        path: A file, or a directory of parts.
        suffix: Of the parts; empty for a file.
        mode: What to do with what is there.
    """

    address: str
    path: Path
    suffix: str
    mode: "Mode"


def choose_cluster(
    address: str,
    out_: Path | None,
    parts: str | None,
    mode: "Mode",
    *,
    watch: bool,
    is_sorting: bool,
) -> ClusterCall:
    """Refuse early what cannot be done on a cluster, or cannot be written.

    Args:
        address: Of `--ray`; empty if it was given without one.
        out_: The file or directory.
        parts: Format of the parts; None for parquet where the name of `out_` says no format.
        mode: What to do with what is there.
        watch: Of `--watch`.
        is_sorting: Files are to be sorted into folders.
    """
    from cnnclf.prediction.cluster.connecting import check_address, check_installed
    from cnnclf.prediction.cluster.parts import PART_FORMATS, check_parts
    from cnnclf.prediction.row_file import FILE_FORMATS, check_row_file

    address = check_address(address)
    if watch or is_sorting:
        other = "--watch" if watch else "sorting into folders"
        raise UsageError(
            f"expected --ray without {other}, received both", f"leave --ray or {other} out"
        )
    if out_ is None:
        raise UsageError(
            "expected --out FILE or --out DIR beside --ray, received none",
            "for example: --out rows.csv",
        )
    if parts is not None and parts not in PART_FORMATS:
        raise UsageError(
            f"expected --parts of {', '.join(PART_FORMATS)}, received {parts!r}",
            "for example: --parts parquet",
        )
    check_installed()
    if parts is None and out_.suffix.lower() in FILE_FORMATS:
        check_row_file(out_, mode)
        return ClusterCall(address, out_, "", mode)
    suffix = f".{parts or 'parquet'}"
    check_parts(out_, suffix, mode)
    return ClusterCall(address, out_, suffix, mode)


def predict_with_ray(
    call: ClusterCall,
    bundle: "Bundle",
    found: "Iterable[Found]",
    *,
    inputs: "ImageInputs",
    top_k: int,
    threshold: float | None,
    computing: "Computing",
) -> "PredictSummary":
    """Label images on a cluster.

    Args:
        call: Where, and where the rows go.
        bundle: The model.
        found: The paths.
        inputs: Where they come from.
        top_k: How many labels to name.
        threshold: Probability below which the label is unknown; None for never.
        computing: What with.
    """
    from cnnclf.prediction.cluster.connecting import connect
    from cnnclf.prediction.cluster.driver import predict_on_cluster
    from cnnclf.prediction.job import Job
    from cnnclf.prediction.rows import Columns

    columns = Columns(min(top_k, len(bundle.labels)), nearest=threshold is not None)
    job = Job.describe(
        bundle.content["sha256"],
        inputs.inputs,
        columns=columns,
        threshold=threshold,
        shard=inputs.shard,
    )
    with (
        connect(call.address, verbose=computing.verbose) as cluster,
        _open_target(call, columns, job) as (target, so_far),
    ):
        predict_on_cluster(
            cluster,
            bundle,
            found,
            target=target,
            columns=columns,
            threshold=threshold,
            computing=computing,
            progress=out.progress(),
            inputs=inputs,
            so_far=so_far,
        )
    out.json(summary_fields(so_far.summary))
    return so_far.summary


@contextlib.contextmanager
def _open_target(
    call: ClusterCall, columns: "Columns", job: "Job"
) -> "Iterator[tuple[RowWriter | Parts, SoFar]]":
    """Open what takes the rows; say where they are if the work is broken off."""
    if not call.suffix:
        with open_file_sink(call.path, columns, job=job, mode=call.mode) as sink:
            yield sink.rows, sink.so_far
        return
    from cnnclf.prediction.cluster.parts import open_parts

    with open_parts(call.path, call.suffix, columns, job=job, mode=call.mode) as parts:
        try:
            yield parts, parts.so_far
        except (KeyboardInterrupt, CnnclfError) as error:
            if parts.so_far.summary.files:
                out.warn(f"{parts.so_far.summary.files:,} rows are in {parts.writer.directory}")
                error.add_note("the same command with --resume goes on")
            raise
    out.note(f"rows: {call.path}, in {parts.count:,} {call.suffix} parts")
