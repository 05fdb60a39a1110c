"""`cnnclf describe`: the layers of a network, what they cost and how far they see."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnclf.cli import options
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, blaming_options, given_settings
from cnnclf.config import TrainConfig, load_config, option_name
from cnnclf.errors import UsageError

if TYPE_CHECKING:
    from cnnclf.explainers.network_description import NetworkDescription
    from cnnclf.models.anatomy import Anatomy, LayerRow

_SETTINGS = ("model.", "data.image_size", "data.color", "training.batch_size")
_SIZE, _BATCH = "data.image_size", "training.batch_size"


@partial(add_settings, only=_SETTINGS)
def describe_command(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Run directory, checkpoint or bundle."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME", help="A backbone of 'cnnclf backbones'."),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes",
            min=2,
            max=1_000_000,
            help="Number of classes [10; a backbone: no head].",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=1,
            max=9,
            help="1: stages or blocks; 2: layers; 3: layers of networks inside "
            "[1 for backbones, else 2].",
        ),
    ] = None,
    formulas: Annotated[
        bool, typer.Option("--formulas", help="Show how the parameters are counted.")
    ] = False,
    compare_dense: Annotated[
        bool,
        typer.Option(
            "--compare-dense", help="Compare with a fully connected network of as many units."
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Describe a network: layers, parameters, compute, memory and receptive fields.

    Describes the network of a run, a backbone, or the network that 'cnnclf train' would build with
    the same options, for RGB images of 64x64 if nothing else is given. No weights are loaded.
    """
    given = given_settings(settings)
    _check_together(run, backbone, classes, given)
    network = _describe(run, backbone, classes, given, verbose=verbose)
    default = 1 if network.is_staged else 2
    anatomy = network.anatomy.fold(depth or default)
    height, width, channels = network.input_shape
    out.pairs("", {"network": network.name, "input": f"{height}x{width}x{channels}"})
    out.line()
    _show_layers(anatomy, formulas=formulas)
    out.line()
    _show_costs(anatomy)
    out.pairs("total", _summarize(network))
    _explain_fields(anatomy)
    if compare_dense:
        _show_dense(network)
    out.json(_as_document(network, anatomy, compare_dense=compare_dense))
    if network.is_staged and depth is None:
        out.hint("--depth 2 shows every layer")


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


def _describe(
    run: Path | None,
    backbone: str | None,
    classes: int | None,
    given: dict[str, object],
    *,
    verbose: bool,
) -> "NetworkDescription":
    from cnnclf.explainers import network_description as door

    config, origins = load_config(options=given, kind=TrainConfig)
    size, batch = config.data.image_size, config.training.batch_size
    batch_size = None if batch == "auto" else batch
    if run is not None:
        if door.needs_keras(run):
            _start_keras(verbose=verbose)
        return door.describe_run(run, batch_size=batch_size)
    with blaming_options(origins):
        if backbone is None:
            return door.describe_cnn(config, classes=classes or door.DEFAULT_CLASSES, given=origins)
        door.check_backbone(backbone, image_size=None if size == "auto" else size)
        _start_keras(verbose=verbose)
        return door.describe_backbone(
            backbone,
            image_size=None if size == "auto" else size,
            classes=classes,
            batch_size=batch_size or door.DEFAULT_BATCH,
        )


def _start_keras(*, verbose: bool) -> None:
    from cnnclf.runtime import setup_runtime

    setup_runtime(device="cpu", precision="float32", verbose=verbose, progress=out.progress())


def _show_layers(anatomy: "Anatomy", *, formulas: bool) -> None:
    layers = anatomy.layers
    columns: dict[str, list[object]] = {"layer": [layer.name for layer in layers]}
    if not formulas:  # they need the room
        columns["kind"] = [layer.kind for layer in layers]
    columns["output"] = [_shape(layer.output_shape) for layer in layers]
    if any(layer.kernel for layer in layers):
        columns["kernel"] = [_window(layer) for layer in layers]
    columns["parameters"] = [_count(layer, formulas) for layer in layers]
    out.table("", tuple(columns), rows=list(zip(*columns.values(), strict=True)))


def _show_costs(anatomy: "Anatomy") -> None:
    from cnnclf.files import format_bytes

    out.table(
        "",
        ("layer", "MACs", "memory", "field", "step", "first center"),
        rows=[
            (
                layer.name,
                layer.macs,
                format_bytes(layer.activation_bytes),
                layer.receptive_field or "whole image",
                layer.field_stride if layer.receptive_field else "-",
                _offset(layer),
            )
            for layer in anatomy.layers
        ],
    )


def _summarize(network: "NetworkDescription") -> dict[str, object]:
    from cnnclf.files import format_bytes

    anatomy = network.anatomy
    rows: dict[str, object] = {
        "parameters": f"{anatomy.parameters:,} ({format_bytes(network.weight_bytes)})",
        "compute": f"{anatomy.macs:,} MACs per image = {anatomy.flops:,} FLOPs",
        "memory, one image": f"{format_bytes(network.image_bytes)} for the largest output and its "
        f"neighbor, {format_bytes(anatomy.activation_bytes)} for the outputs of all layers",
        "memory, training": f"{format_bytes(network.training_bytes)} for {network.batch_size} "
        f"images, with weights, gradients and {network.optimizer}",
    }
    last = anatomy.last_local
    if last is not None:
        rows["receptive field"] = (
            f"{last.receptive_field} pixels after {last.name}, one every {last.field_stride}, "
            f"the first centered at pixel {_offset(last)}"
        )
    return rows


def _explain_fields(anatomy: "Anatomy") -> None:
    fields = [layer.receptive_field for layer in anatomy.layers]
    if any(not before and after for before, after in pairwise(fields)):
        out.note(
            "gates that see the whole image (squeeze-and-excitation) do not count in the "
            "receptive fields of the maps they scale"
        )


def _show_dense(network: "NetworkDescription") -> None:
    comparison = network.compare_dense()
    widths = [f"{width:,}" for width in comparison.widths]
    shown = widths if len(widths) <= 8 else [*widths[:4], "...", *widths[-2:]]
    out.pairs(
        "a fully connected network with a unit for each filter",
        {
            "layers": " -> ".join(shown),
            "parameters": f"{comparison.parameters:,}, "
            f"{comparison.parameters / max(comparison.network, 1):,.1f} times this network",
        },
    )
    out.table(
        "parameters by the side of the image",
        ("side", "filters", "this network", "fully connected"),
        rows=[(row.side, row.shared, row.network, row.dense) for row in comparison.growth],
    )


def _as_document(
    network: "NetworkDescription", anatomy: "Anatomy", *, compare_dense: bool
) -> dict[str, object]:
    whole = network.anatomy
    document: dict[str, object] = {
        "network": network.name,
        "input_shape": network.input_shape,
        "batch_size": network.batch_size,
        "parameters": whole.parameters,
        "macs": whole.macs,
        "flops": whole.flops,
        "weight_bytes": network.weight_bytes,
        "image_bytes": network.image_bytes,
        "activation_bytes": whole.activation_bytes,
        "training_bytes": network.training_bytes,
        "layers": [
            row | {"activation_bytes": layer.activation_bytes}
            for row, layer in zip(anatomy.to_dicts(), anatomy.layers, strict=True)
        ],
    }
    return document | ({"dense": network.compare_dense()} if compare_dense else {})


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _window(layer: "LayerRow") -> str:
    """Write a window as 3x3/2 same: sides, stride, dilation if any, padding."""
    if not layer.kernel:
        return "-"
    stride = f"/{layer.stride}" if layer.stride > 1 else ""
    dilation = f" dilated {layer.dilation}" if layer.dilation > 1 else ""
    return f"{_shape(layer.kernel)}{stride}{dilation} {layer.padding}"


def _count(layer: "LayerRow", formulas: bool) -> object:
    if not formulas:
        return layer.parameters
    is_shown = layer.formula and layer.formula != f"{layer.parameters:,}"
    return f"{layer.formula} = {layer.parameters:,}" if is_shown else f"{layer.parameters:,}"


def _offset(layer: "LayerRow") -> str:
    if not layer.receptive_field:
        return "-"
    offsets = layer.field_offset
    return ", ".join(
        f"{offset:g}" for offset in (offsets if len(set(offsets)) > 1 else offsets[:1])
    )
