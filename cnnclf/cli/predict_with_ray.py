"""`cnnclf predict --ray`: the same command on a Ray cluster."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import out
from cnnclf.cli.predict_request import ClusterCall, ImageSearch, choose_options
from cnnclf.cli.row_sinks import RowTarget, choose_columns, open_file_sink, summary_fields
from cnnclf.config import PredictConfig
from cnnclf.errors import CnnclfError
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.prediction.cluster.parts import Parts
    from cnnclf.prediction.job import PredictionJob
    from cnnclf.prediction.rows import RowColumns, RowWriter
    from cnnclf.prediction.summary import PredictSummary, SoFar


def predict_with_ray(
    call: ClusterCall,
    directory: Path,
    *,
    search: ImageSearch,
    config: PredictConfig,
    csv_safe: bool,
    verbose: bool,
) -> "PredictSummary":
    """Label images on a cluster."""
    from cnnclf.inference.bundles import read_bundle
    from cnnclf.prediction.cluster.connecting import connect
    from cnnclf.prediction.cluster.driver import predict_on_cluster
    from cnnclf.prediction.job import PredictionJob

    bundle = read_bundle(directory)
    options = choose_options(bundle, config)
    target = RowTarget(None, call.mode, None, config, csv_safe=csv_safe)
    columns = choose_columns(target, bundle.labels, options=options)
    job = PredictionJob.describe(
        bundle.content["sha256"],
        search.inputs.inputs,
        columns=columns,
        threshold=options.threshold,
        shard=search.inputs.shard,
    )
    with (
        connect(call.address, verbose=verbose) as cluster,
        _open_target(call, columns, job) as (rows, so_far),
    ):
        predict_on_cluster(
            cluster,
            bundle,
            found=search.found,
            target=rows,
            options=options,
            config=config,
            progress=out.progress(),
            inputs=search.inputs,
            so_far=so_far,
            verbose=verbose,
        )
    out.json(summary_fields(so_far.summary))
    return so_far.summary


@contextlib.contextmanager
def _open_target(
    call: ClusterCall, columns: "RowColumns", job: "PredictionJob"
) -> "Iterator[tuple[RowWriter | Parts, SoFar]]":
    """Open a file or a directory of parts; on an interruption, report where the rows are."""
    if not call.suffix:
        with open_file_sink(call.path, columns, job=job, mode=call.mode) as sink:
            yield sink.rows, sink.so_far
        return
    from cnnclf.prediction.cluster.parts import open_parts

    with open_parts(call.path, call.suffix, columns=columns, job=job, mode=call.mode) as parts:
        try:
            yield parts, parts.so_far
        except (KeyboardInterrupt, CnnclfError) as error:
            if parts.so_far.summary.files:
                kept = count_of(parts.so_far.summary.files, "row")
                out.warn(f"{kept} kept in {parts.writer.directory}")
                error.add_note("the same command with --resume continues")
            raise
    out.note(f"rows: {call.path}, in {parts.count:,} {call.suffix} parts")
