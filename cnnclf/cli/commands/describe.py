"""`cnnclf describe`: the layers of a network, what they cost and how far they see."""

from functools import partial
from itertools import starmap
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.completion import complete_backbone
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.network_tables import (
    as_document,
    explain_fields,
    show_costs,
    show_dense,
    show_layers,
    summarize,
)
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.settings import add_settings, blaming_options, given_settings
from cnnclf.config import MODEL_PRESETS, TrainConfig, load_config, option_name, typed_option
from cnnclf.errors import UsageError

if TYPE_CHECKING:
    from cnnclf.explainers.network_description import NetworkDescription
    from cnnclf.models.anatomy import Anatomy

_SETTINGS = ("model.", "data.image_size", "data.color", "training.batch_size")
_ENDINGS = (".svg", ".png", ".mermaid", ".mmd")
_SIZE, _BATCH = "data.image_size", "training.batch_size"


@partial(add_settings, only=_SETTINGS)
def describe_command(
    run: Annotated[Path | None, argument("RUN", "Run directory, checkpoint or bundle.")] = None,
    backbone: Annotated[
        str | None,
        option("--backbone NAME", "A backbone of 'cnnclf backbones'.", complete=complete_backbone),
    ] = None,
    classes: Annotated[
        int | None,
        option("--classes", "Number of classes. [10; a backbone: no head]", min=2, max=1_000_000),
    ] = None,
    depth: Annotated[
        int | None,
        option(
            "--depth",
            "1: stages or blocks; 2: layers; 3: layers of networks inside. "
            "[1 for backbones, else 2]",
            min=1,
            max=9,
        ),
    ] = None,
    formulas: Annotated[bool, option("--formulas", "Show how the parameters are counted.")] = False,
    compare_dense: Annotated[
        bool, option("--compare-dense", "Compare with a fully connected network of as many units.")
    ] = False,
    diagram: Annotated[
        Path | None,
        option(
            "--diagram FILE",
            "Draw the layers as blocks to scale: FILE.svg, FILE.png or FILE.mermaid.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Describe a network: layers, parameters, compute, memory and receptive fields.

    Describes the network of a run, a backbone, or the network that 'cnnclf train' would build with
    the same options, for RGB images of 64x64 if nothing else is given. No weights are loaded.
    """
    check_output(diagram, "--diagram", endings=_ENDINGS, overwrite=overwrite)
    given = given_settings(settings)
    if run is not None and backbone is None:
        own: dict[str, object] = {"classes": classes, "depth": depth, "formulas": formulas}
        own |= {"compare_dense": compare_dense, "diagram": diagram and quote(str(diagram))}
        _refuse_names(run, given | {key: value for key, value in own.items() if value})
    _check_together(run, backbone, classes, given)
    network = _describe(run, backbone, classes, given, verbose=verbose)
    default = 1 if network.is_staged else 2
    anatomy = network.anatomy.fold(depth or default)
    height, width, channels = network.input_shape
    out.pairs("", {"network": network.name, "input": f"{height}x{width}x{channels}"})
    out.line()
    show_layers(anatomy, formulas=formulas)
    out.line()
    show_costs(anatomy)
    out.pairs("total", summarize(network))
    explain_fields(anatomy)
    if compare_dense:
        show_dense(network)
    if diagram is not None:
        _draw(network, network.anatomy.fold(depth or 2), diagram)
    out.json(as_document(network, anatomy, compare_dense=compare_dense, diagram=diagram))
    if network.is_staged and depth is None:
        out.hint("--depth 2 shows every layer")


def _draw(network: "NetworkDescription", anatomy: "Anatomy", path: Path) -> None:
    from cnnclf.drawing.block_diagram import save_diagram
    from cnnclf.models.network_diagram import CAPTION, MAX_BLOCKS, count_folded, draw_blocks

    blocks = draw_blocks(anatomy, network.input_shape)
    save_diagram(
        blocks,
        path,
        title=f"{network.name}: {network.anatomy.parameters:,} parameters",
        caption=CAPTION,
    )
    out.line()
    out.line(f"wrote {path}")
    folded = count_folded(blocks) - sum(row.kind.endswith(" layers") for row in anatomy.layers)
    if folded:
        out.note(f"a page has room for {MAX_BLOCKS} blocks: {folded} stages are one block each")


def _check_together(
    run: Path | None, backbone: str | None, classes: int | None, given: dict[str, object]
) -> None:
    if run is not None and backbone is not None:
        raise UsageError("RUN and --backbone are two networks", "describe one of them")
    if run is not None:
        allowed, what = {_BATCH}, "a run has its own settings"
        wrong = ["--classes"] if classes else []
    elif backbone is not None:
        allowed, what, wrong = {_BATCH, _SIZE}, "a backbone is built as it was published", []
    else:
        return
    wrong += [option_name(key) for key in given if key not in allowed]
    if wrong:
        raise UsageError(
            f"{what}: {', '.join(wrong)} cannot be given",
            "without RUN and --backbone, the options describe a network of cnnclf train",
        )


def _refuse_names(run: Path, others: dict[str, object]) -> None:
    """Recognize the name of a preset or backbone where a run is expected."""
    from cnnclf.models.backbones import BACKBONES

    name = str(run)
    if run.exists():
        return
    kind = "preset" if name in MODEL_PRESETS else "backbone"
    if kind == "preset" or any(name == row.name for row in BACKBONES):
        words = [f"cnnclf describe --{kind} {name}", *starmap(typed_option, others.items())]
        raise UsageError(f"{name} is a {kind}, not a run", " ".join(words))


def _describe(
    run: Path | None,
    backbone: str | None,
    classes: int | None,
    given: dict[str, object],
    *,
    verbose: bool,
) -> "NetworkDescription":
    from cnnclf.explainers import network_sources as door

    config, origins = load_config(options=given, kind=TrainConfig, command="describe")
    size, batch = config.data.image_size, config.training.batch_size
    batch_size = None if batch == "auto" else batch
    prepare = partial(_start_keras, verbose=verbose)
    if run is not None:
        return door.describe_run(run, batch_size=batch_size, prepare=prepare)
    with blaming_options(origins):
        if backbone is None:
            return door.describe_cnn(config, classes=classes or door.DEFAULT_CLASSES, given=origins)
        return door.describe_backbone(
            backbone,
            image_size=None if size == "auto" else size,
            classes=classes,
            batch_size=batch_size or door.DEFAULT_BATCH,
            prepare=prepare,
        )


def _start_keras(*, verbose: bool) -> None:
    from cnnclf.runtime import setup_runtime

    setup_runtime(device="cpu", precision="float32", verbose=verbose, progress=out.progress())
