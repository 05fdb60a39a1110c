"""`cnnclf check-order`: what the order of pixels is worth to a CNN."""

from functools import partial
from pathlib import Path
from typing import Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.settings import add_settings, blaming_options, given_settings
from cnnclf.cli.training_commands import open_source

_SETTINGS = ("training.epochs", "training.batch_size", "data.", "runtime.")
_FIXED = {"model.preset": "tiny", "augment.preset": "none"}
_STEPS, _EPOCHS = 400, (5, 60)  # of training, if --epochs is not given
_SIDE = 32  # at most, if --image-size is not given


@partial(add_settings, only=_SETTINGS)
def check_order_command(
    dataset: options.Dataset,
    *,
    out_: Annotated[
        Path | None, option("--out -o FILE.png", "Figure of images and permuted images to write.")
    ] = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Measure what the order of pixels is worth: if columns can be swapped, a CNN is of no help.

    Trains the preset tiny for a few epochs on the images, at most 32 pixels a side, and on the same
    images with their pixels moved to other places, the same places in all of them; then compares
    the two on the images of test and val. Nothing but --out is written.
    """
    check_output(out_, "--out", endings=(".png",), overwrite=overwrite)
    from cnnclf.config import TrainConfig, load_config
    from cnnclf.data.checks import check_trainable
    from cnnclf.planning.train_plan import plan_training
    from cnnclf.training.precision import set_up

    typed = given_settings(settings)
    config, origins = load_config(options=_FIXED | typed, command="check-order", kind=TrainConfig)
    found = open_source(dataset)
    check_trainable(found, uneven="")
    with blaming_options(origins):
        plan = plan_training(config, found, given=origins)
        spec = plan.input_spec
        steps = -(-plan.counts["train"] // int(plan.config.training.batch_size))
        light: dict[str, object] = {
            "data.image_size": (min(spec.height, _SIDE), min(spec.width, _SIDE)),
            "training.epochs": min(max(-(-_STEPS // steps), _EPOCHS[0]), _EPOCHS[1]),
        }
        if spec.sound:  # a spectrogram has the size of its sound
            del light["data.image_size"]
        config, origins = load_config(options=_FIXED | light | typed, kind=TrainConfig)
        plan = plan_training(config, found, given=origins)
    runtime = set_up(plan, verbose=verbose, progress=out.progress())
    from cnnclf.training.pixel_order import measure_order

    value, shown = measure_order(plan, found, runtime=runtime, progress=out.progress())
    if out_ is not None:
        from cnnclf.drawing.canvas import Tile, draw_canvas, save_canvas
        from cnnclf.explainers.map_figure import to_rgb

        rows = [
            [Tile(to_rgb(each[at]), f"{label}{order}") for label, each in shown]
            for at, order in enumerate(("", ", permuted"))
        ]
        title = "Pixels in order, and at other places"
        difference, _, both = value.figures.partition(": ")
        lines = [f"{difference}:", f"{both}.", f"Preset tiny, {value.epochs} epochs each."]
        save_canvas(draw_canvas(rows, title=title, lines=lines), out_)
    out.line(value.sentence)
    if out_ is not None:
        out.line(f"wrote {out_}")
    out.json(value.to_dict())
