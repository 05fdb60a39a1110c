"""A network for people and machines: its layers and costs as tables and as JSON."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import out
from cnnclf.names import join_sides

if TYPE_CHECKING:
    from cnnclf.explainers.network_description import NetworkDescription
    from cnnclf.models.anatomy import Anatomy, LayerRow


def show_layers(anatomy: "Anatomy", *, formulas: bool) -> None:
    """Show what each layer is; with `formulas`, how its parameters are counted."""
    layers = anatomy.layers
    columns: dict[str, list[object]] = {"layer": [layer.name for layer in layers]}
    if not formulas:  # they need the room
        columns["kind"] = [layer.kind for layer in layers]
    columns["output"] = [join_sides(layer.output_shape) for layer in layers]
    if any(layer.kernel for layer in layers):
        columns["kernel"] = [_window(layer) for layer in layers]
    columns["parameters"] = [_count(layer, formulas) for layer in layers]
    out.table("", tuple(columns), rows=list(zip(*columns.values(), strict=True)))


def show_costs(anatomy: "Anatomy") -> None:
    """Show what each layer costs and how far it sees."""
    from cnnclf.files import format_bytes

    out.table(
        "",
        ("layer", "MACs", "memory", "field", "step", "first center"),
        rows=[
            (
                layer.name,
                GroupedCount(layer.macs),
                format_bytes(layer.activation_bytes),
                layer.receptive_field or "whole image",
                layer.field_stride if layer.receptive_field else "-",
                _offset(layer),
            )
            for layer in anatomy.layers
        ],
    )


def summarize(network: "NetworkDescription") -> dict[str, object]:
    """Return the totals in words."""
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


def explain_fields(anatomy: "Anatomy") -> None:
    """Note where receptive fields follow a convention."""
    fields = [layer.receptive_field for layer in anatomy.layers]
    if any(not before and after for before, after in pairwise(fields)):
        out.note(
            "gates that see the whole image (squeeze-and-excitation) do not count in the "
            "receptive fields of the maps they scale"
        )


def show_dense(network: "NetworkDescription") -> None:
    """Show the comparison with a fully connected network."""
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
        rows=[
            (row.side, *(group_digits(each) for each in (row.shared, row.network, row.dense)))
            for row in comparison.growth
        ],
    )


def as_document(
    network: "NetworkDescription", anatomy: "Anatomy", *, compare_dense: bool, diagram: Path | None
) -> dict[str, object]:
    """Return everything as JSON; the layers as they are shown, the totals of the whole network."""
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
    if compare_dense:
        document["dense"] = network.compare_dense()
    if diagram is not None:
        document["diagram"] = diagram
    return document


def _window(layer: "LayerRow") -> str:
    """Write a window as 3x3/2 same: sides, stride, dilation if any, padding."""
    if not layer.kernel:
        return "-"
    stride = f"/{layer.stride}" if layer.stride > 1 else ""
    dilation = f" dilated {layer.dilation}" if layer.dilation > 1 else ""
    return f"{join_sides(layer.kernel)}{stride}{dilation} {layer.padding}"


def _count(layer: "LayerRow", formulas: bool) -> object:
    if not formulas:
        return GroupedCount(layer.parameters)
    is_shown = layer.formula and layer.formula != f"{layer.parameters:,}"
    return f"{layer.formula} = {layer.parameters:,}" if is_shown else f"{layer.parameters:,}"


def group_digits(count: object) -> object:
    """Return a count as it is shown in tables; None for anything else."""
    return GroupedCount(count) if isinstance(count, int) else None


class GroupedCount(int):
    """A number that is written in groups of three digits and aligned to the right."""

    def __str__(self) -> str:
        return f"{int(self):,}"


def _offset(layer: "LayerRow") -> str:
    if not layer.receptive_field:
        return "-"
    offsets = layer.field_offset
    return ", ".join(
        f"{offset:g}" for offset in (offsets if len(set(offsets)) > 1 else offsets[:1])
    )
