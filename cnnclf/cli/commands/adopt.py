"""`cnnclf adopt`: make a bundle of a model that another program trained."""

from pathlib import Path
from typing import Annotated, Literal

from cnnclf.cli import options
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out


def adopt_command(
    model: Annotated[
        Path,
        argument(
            "MODEL",
            "A .keras or .h5 file of Keras, an ONNX file, or the directory of a SavedModel.",
        ),
    ],
    *,
    labels: Annotated[
        Path, option("--labels FILE", "One label per line, in the order of the outputs.")
    ],
    scale: Annotated[
        str,
        option(
            "--scale LOW:HIGH",
            "What pixels of 0 and 255 become before the model: 0:1, -1:1, 0:255, or imagenet "
            "for mean and standard deviation as in torchvision.",
        ),
    ],
    out_: Annotated[Path, option("--out -o BUNDLE", "Directory to create.")],
    size: Annotated[
        str | None, option("--size SIZE", "Height x width of the input. [that of the model]")
    ] = None,
    fit: Annotated[
        Literal["crop", "pad", "squash"],
        option("--fit", "How images are fitted to the input size."),
    ] = "crop",
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a bundle of a model that another program trained.

    Such a model does not record its labels, nor how pixels are scaled. With them, evaluate,
    predict, explain and export work on it. Shapes and the number of outputs are checked.
    """
    from cnnclf.inference.adopting import adopt_model, find_model
    from cnnclf.inference.foreign_model import parse_scaling, parse_size

    scaling, sides = parse_scaling(scale), parse_size(size)
    options.check_new(out_, overwrite=overwrite)
    found = find_model(model, labels=labels, scaling=scaling, size=sides, fit=fit)
    if found.kind != "onnx":
        from cnnclf.runtime import setup_runtime

        setup_runtime(device="cpu", verbose=verbose, progress=out.progress())
    adopt_model(found, out_, overwrite=overwrite)
    out.pairs("", {"model": found.path, "labels": len(found.labels), "bundle": out_})
    out.json({"bundle": out_, "model": found.path, "labels": found.labels})
    out.hint(f"cnnclf predict {out_} IMAGES...; check a few labels: the scaling must be right")
