"""`cnnclf convolve`: what one filter makes of one image."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import ConvolveConfig
from cnnclf.errors import UsageError
from cnnclf.names import join_sides

if TYPE_CHECKING:
    from cnnclf.explainers.convolution import Arithmetic, Maps
    from cnnclf.explainers.convolved_image import ConvolvedImage

_MAX_PRINTED = 4  # channels whose arithmetic is printed


@partial(add_settings, kind=ConvolveConfig)
def convolve_command(
    image: Annotated[Path, argument("IMAGE", "Image file.")],
    out_: Annotated[
        Path | None, option("--out -o FILE.png", "Draw input, kernel and result side by side.")
    ] = None,
    animate: Annotated[
        Path | None,
        option("--animate FILE.gif|png", "Draw the window stepping over a small image."),
    ] = None,
    show_arithmetic: Annotated[
        str | None,
        option("--show-arithmetic ROW,COL", "Print how one value of the result is computed."),
    ] = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Slide a filter over an image, exactly as a layer of Keras does.

    Shows the size of the result with its formula and, on a terminal with colors, input and result.
    All channels are filtered and added up, as in a layer. Values are pixels of 0 to 255.

    Filters by name: blur, gaussian, sharpen, sobel-x, sobel-y, laplacian, emboss, identity. A
    filter that a network has learned is RUN:LAYER:INDEX, such as runs/first:block1_conv1:0; it
    reads what its layer reads for this image.
    """
    check_output(out_, "--out", endings=(".png",), overwrite=overwrite)
    check_output(animate, "--animate", endings=(".gif", ".png"), overwrite=overwrite)
    place = None if show_arithmetic is None else _parse_place(show_arithmetic)
    config = read_settings(ConvolveConfig, settings)
    from cnnclf.explainers.convolved_image import convolve_image

    done = convolve_image(image, config, verbose=verbose, progress=out.progress())
    arithmetic = None if place is None else done.convolved.arithmetic(*place)
    for note in done.notes:
        out.note(note)
    _show(done)
    if arithmetic is not None and place is not None:
        _show_arithmetic(arithmetic, done, place)
    written = _write(done, out_, animate)
    document = done.to_dict() | {"files": written}
    if arithmetic is not None:
        document["arithmetic"] = {
            "window": arithmetic.window,
            "weights": arithmetic.weights,
            "products": arithmetic.products,
            "bias": arithmetic.bias,
            "sum": arithmetic.total,
        }
    out.json(document)
    if not written:
        out.hint("--out convolved.png draws input, kernel and result")


def _parse_place(text: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(
            f"--show-arithmetic {text}: expected a row and a column, both from 0",
            "for example --show-arithmetic 3,5",
        )
    return int(parts[0]), int(parts[1])


def _show(done: "ConvolvedImage") -> None:
    convolved, config = done.convolved, done.config
    after: list[str] = [config.activation] if config.activation != "none" else []
    after += [f"{config.pool} pooling {config.pool_size}"] if config.pool != "none" else []
    pairs: dict[str, object] = {
        "image": f"{done.name}: {join_sides(done.pixels.shape)}",
        "filter": f"{convolved.kernel.name}, {convolved.sliding.describe()}",
    }
    if not done.is_pixels:
        pairs["input"] = f"{join_sides(convolved.image.shape)}, what the layer reads"
    if after:
        pairs["after it"] = ", ".join(after)
    pairs |= done.formulas()
    result = done.result
    pairs["result"] = (
        f"{join_sides(result.shape)}, {result.min():.4g} to {result.max():.4g}, "
        f"mean {result.mean():.4g}"
    )
    out.pairs("", pairs)
    if max(convolved.kernel.weights.shape[:2]) <= 9 and convolved.kernel.weights.ndim == 2:
        out.line()
        _show_matrix(convolved.kernel.weights, indent=2)
    from cnnclf.explainers.convolution_figure import join_images

    out.line()
    out.image(join_images(done))


def _show_arithmetic(
    arithmetic: "Arithmetic", done: "ConvolvedImage", place: tuple[int, int]
) -> None:
    names = done.channel_names
    out.line()
    out.line(f"row {place[0]}, column {place[1]} of the filtered image")
    sums = arithmetic.products.sum(axis=(0, 1))
    for at, name in enumerate(names[:_MAX_PRINTED]):
        for what, values in (
            (f"{name}: window", arithmetic.window),
            ("kernel", arithmetic.weights),
            ("products", arithmetic.products),
        ):
            out.line(f"  {what}")
            _show_matrix(values[..., at], indent=4)
        out.line(f"  sum of the products: {sums[at]:.6g}")
    if len(names) > _MAX_PRINTED:
        out.line(f"  and {len(names) - _MAX_PRINTED} more channels; --json has all")
    terms = [f"{value:.6g}" for value in sums[:_MAX_PRINTED]]
    terms += ["..."] if len(names) > _MAX_PRINTED else []
    terms += [f"bias {arithmetic.bias:.6g}"] if arithmetic.bias else []
    whole = " + ".join(terms).replace("+ -", "- ")
    out.line(f"  {whole} = {arithmetic.total:.6g}")


def _show_matrix(values: "Maps", *, indent: int) -> None:
    cells = [[f"{value:.4g}" for value in row] for row in values.tolist()]
    width = max(len(cell) for row in cells for cell in row)
    for row in cells:
        out.line(" " * indent + "  ".join(cell.rjust(width) for cell in row))


def _write(done: "ConvolvedImage", figure: Path | None, animation: Path | None) -> list[Path]:
    from cnnclf.drawing.canvas import save_canvas
    from cnnclf.explainers.convolution_figure import draw_convolution, save_animation

    written = []
    if animation is not None:
        with out.progress().task("drawing the animation", None, unit="steps") as task:
            steps = save_animation(done, animation, on_step=task.advance)
        out.line(f"wrote {animation}: {steps} steps")
        written.append(animation)
    if figure is not None:
        save_canvas(draw_convolution(done), figure)
        out.line(f"wrote {figure}")
        written.append(figure)
    return written
