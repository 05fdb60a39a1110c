"""`cnnclf backbones`: the networks that can be fine-tuned."""

from cnnclf.cli.output import out


def backbones_command() -> None:
    """List the backbones: input size, parameters, compute, published accuracy, stages.

    Top-1 is the published accuracy of the network with its original head on the ImageNet (2012)
    validation set.
    """
    from cnnclf.models.backbones import BACKBONES, DEFAULT_BACKBONE
    from cnnclf.models.weights.published import find_state

    out.json(
        {
            "default": DEFAULT_BACKBONE,
            "backbones": [
                {
                    "name": row.name,
                    "default_size": row.default_size,
                    "min_size": row.min_size,
                    "normalization": row.normalization,
                    "parameters": row.parameters,
                    "gmacs": row.gmacs,
                    "top1": row.top1,
                    "top1_source": row.top1_source,
                    "stages": row.stage_names,
                    "weights": row.weight_sources,
                }
                for row in BACKBONES
            ],
        }
    )
    out.table(
        "",
        # what fits into 80 columns; --json has the rest
        ("name", "size", "params (M)", "GMACs", "top-1 (%)", "weights", "stages"),
        rows=[
            (
                row.name,
                row.default_size,
                f"{row.parameters / 1e6:.1f}",
                f"{row.gmacs:.2f}",
                f"{row.top1:.1f}",
                _name_state(find_state(row)),
                f"{row.stage_names[0]}..{row.stage_names[-1]}",
            )
            for row in BACKBONES
        ],
    )
    out.hint(f"cnnclf finetune DATASET --backbone {DEFAULT_BACKBONE}")


def _name_state(state: str) -> str:
    """Show weights that are not here as tables show missing values."""
    return "-" if state.startswith("not ") else state
