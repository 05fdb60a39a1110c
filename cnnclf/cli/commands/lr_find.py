"""`cnnclf lr-find`: which learning rate a network can take."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.settings import add_settings, blaming_options, given_settings
from cnnclf.cli.training_commands import ConfigFile, open_source

if TYPE_CHECKING:
    from cnnclf.training.rate_range import RateRange

_SETTINGS = ("model.", "data.", "augment.", "optimizer.name", "training.batch_size", "runtime.")
_ROWS = 12  # of the curve on the screen


@partial(add_settings, only=_SETTINGS)
def lr_find_command(
    dataset: options.Dataset,
    *,
    steps: Annotated[int, option("--steps N", "Training steps to make.", min=30, max=10_000)] = 100,
    out_: Annotated[
        Path | None, option("--out -o FILE.html", "Page with the curve to write.")
    ] = None,
    config: ConfigFile = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Find the learning rate: train a few steps while it grows, and see where the loss falls.

    The suggestion is where the smoothed loss falls most steeply, before its minimum. Give the
    options of 'cnnclf train' that change the network or the batches. Nothing but --out is written.
    """
    check_output(out_, "--out", endings=(".html", ".htm"), overwrite=overwrite)
    from cnnclf.config import TrainConfig, load_config, typed_option
    from cnnclf.planning.choices import choose_optimizer
    from cnnclf.planning.train_plan import plan_training
    from cnnclf.runs.run_opening import find_settings
    from cnnclf.training.precision import set_up

    typed = given_settings(settings)
    loaded, origins = load_config(
        config and find_settings(config, command="train"),
        options=typed,
        command="lr-find",
        kind=TrainConfig,
    )
    remark = ""
    if loaded.optimizer.name == "auto":
        loaded |= {"optimizer.name": "adamw"}  # as for a rate that is given
        if (name := choose_optimizer(origins)[0]) != "adamw":
            remark = f", as train with --learning-rate; without it, train uses {name}"
    found = open_source(dataset)
    with blaming_options(origins):
        plan = plan_training(loaded, found, given=origins)
    runtime = set_up(plan, verbose=verbose, progress=out.progress())
    from cnnclf.training.rate_range import try_rates

    result = try_rates(plan, found, runtime=runtime, steps=steps, progress=out.progress())
    optimizer = plan.config.optimizer
    _show(result, optimizer=f"{optimizer.name}{remark}")
    if out_ is not None:
        _write(result, out_, optimizer=optimizer.name)
        out.line(f"wrote {out_}")
    out.json(vars(result) | {"optimizer": optimizer.name, "chosen": optimizer.learning_rate})
    words = ["cnnclf", "train", str(dataset), *(["--config", str(config)] if config else [])]
    for key, value in plan.given_values().items():
        if key in typed:
            words += typed_option(key, value).split()
    out.hint(shlex.join([*words, "--learning-rate", f"{result.suggested:g}"]))


def _show(result: "RateRange", *, optimizer: str) -> None:
    step = max(1, len(result.rates) // _ROWS)
    rows = [
        (f"{rate:.2g}", f"{loss:.4f}")
        for rate, loss in list(zip(result.rates, result.losses, strict=True))[::step]
    ]
    out.table("", ("learning rate", "smoothed loss"), rows=rows)
    end = "from there on it is too high" if result.has_end else "the highest rate that was tried"
    out.pairs(
        "",
        {
            "optimizer": optimizer,
            "suggested": f"{result.suggested:g}, where the loss falls most steeply",
            "lowest loss": f"at {result.lowest:g}; {end}"
            f" (the first {result.skipped} steps do not count)",
        },
    )


def _write(result: "RateRange", path: Path, *, optimizer: str) -> None:
    import math

    import cnnclf.reporting
    from cnnclf.files import write_text_atomic
    from cnnclf.pages.html_page import render_page
    from cnnclf.pages.svg_charts import Line, draw_lines

    points = [(math.log10(r), loss) for r, loss in zip(result.rates, result.losses, strict=True)]
    at = math.log10(result.suggested)
    ends = [min(result.losses), max(result.losses)]
    chart = draw_lines(
        [Line("smoothed loss", points), Line("suggested", [(at, each) for each in ends], None)],
        label=f"Loss over the learning rate; suggested is {result.suggested:g}",
        x="logarithm of the learning rate",
        y="loss",
    )
    template = Path(cnnclf.reporting.__file__).with_name("rate.html")
    title = f"Learning rate {result.suggested:g}"
    content = {"result": result, "chart": chart, "optimizer": optimizer}
    write_text_atomic(path, render_page(template, title=title, **content))
