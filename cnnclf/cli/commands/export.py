"""`cnnclf export`: write a trained model in another format and compare it with Keras."""

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.cli.words import format_ms, format_rate
from cnnclf.config import ExportConfig
from cnnclf.errors import RunError
from cnnclf.exporters.format_table import EXPORTERS
from cnnclf.files import format_bytes
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.exporters.parity import Parity, Side
    from cnnclf.exporters.parity_report import ExportReport

FORMATS = tuple(row.name for row in EXPORTERS)


@partial(add_settings, kind=ExportConfig, rows={"format": FORMATS})
def export_command(
    run: options.Run,
    *,
    out_: Annotated[
        Path | None,
        option("--out -o DIR", "Directory of the export. [RUN/exports/FORMAT, replaced]"),
    ] = None,
    overwrite: options.Overwrite = False,
    data: Annotated[
        str | None,
        option(
            "--data DATASET",
            "Dataset for the comparison and for int8 calibration. [the dataset of RUN]",
        ),
    ] = None,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Export a trained model to another format and compare it with Keras on real images.

    The exported model takes uint8 images of its input size and outputs logits; classifier.json
    contains the labels and the decoding. The comparison is in parity.json. An export that loses
    too much accuracy gets a name that ends in .rejected, and the exit code is 4.
    """
    from cnnclf.exporters.exporting import export_model
    from cnnclf.exporters.parity_report import REJECTED

    options.check_new(out_, overwrite=overwrite)
    report = export_model(
        run,
        config=read_settings(ExportConfig, settings),
        source=data,
        out=out_,
        progress=out.progress(),
        verbose=verbose,
    )
    _show(report)
    out.json({"directory": report.directory, **report.to_dict()})
    if report.verdict == REJECTED:
        raise _rejection(report)
    out.hint(f"label images with it: cnnclf predict {shlex.quote(str(report.directory))} photos/")


def _show(report: "ExportReport") -> None:
    parity = report.parity
    if parity is None:
        out.warn(
            f"{report.directory} is not verified: it was not compared with Keras; "
            "--data DATASET compares them"
        )
    else:
        _show_parity(report, parity)
    out.line(f"artifact: {report.directory}")


def _show_parity(report: "ExportReport", parity: "Parity") -> None:
    sides = (parity.before, parity.after)

    def each(describe: Callable[["Side"], str]) -> tuple[str, str]:
        return describe(sides[0]), describe(sides[1])

    out.table(
        f"{count_of(parity.images, 'image')} of the {parity.split} split",
        ("", "Keras", report.title),
        rows=[
            ("accuracy", *each(lambda side: f"{side.accuracy:.4f} ({side.correct:,})")),
            ("95 % interval", *each(lambda side: f"{side.low:.4f} to {side.high:.4f}")),
            ("size", *each(lambda side: format_bytes(side.size_bytes))),
            ("images per second", *each(lambda side: format_rate(side.images_per_s))),
            ("one image alone", *each(lambda side: f"{format_ms(side.image_ms)} ms")),
        ],
    )
    out.line()
    out.pairs(
        "",
        {
            "same label": f"{100 * parity.agreement:.2f} % of the images"
            + (f", {parity.ties:,} more are ties" if parity.ties else ""),
            "max. difference": f"{parity.difference:.2g} "
            f"(the {parity.output} of Keras span {parity.spread:.3g})",
            "verdict": f"{report.verdict}: {_describe_drop(parity)}",
        },
    )
    if parity.failed:
        out.warn(f"excluded {count_of(parity.failed, 'more image')} that cannot be decoded")
    if report.dataset and report.dataset["trained_on"] is False:
        out.warn("the data changed since training: the split may contain training images")


def _describe_drop(parity: "Parity") -> str:
    if parity.drop == 0:
        return "no loss of accuracy"
    return f"accuracy {abs(parity.drop):.2f} points {'lower' if parity.drop > 0 else 'higher'}"


def _rejection(report: "ExportReport") -> RunError:
    problems = "; ".join(report.parity.problems) if report.parity else ""
    if report.settings.quantize == "int8":
        way_out = "--quantize float16 loses less accuracy, and --max-drop sets the limit"
    else:
        way_out = "try another --format"
    return RunError(
        f"{report.title} was rejected: {problems}",
        f"it was kept as {report.directory}; {way_out}",
    )
