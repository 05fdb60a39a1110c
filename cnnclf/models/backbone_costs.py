"""What the stages of each backbone cost, from a table: a plan needs neither Keras nor weights.

`backbone_costs.csv` counts each stage at the size that the backbone was trained on; a slow test
compares it with the graphs that Keras builds.
"""

import csv
from functools import cache
from pathlib import Path

from cnnclf.models.anatomy import Anatomy, LayerRow
from cnnclf.models.backbones import Backbone

_TABLE = Path(__file__).with_suffix(".csv")


def plan_stages(backbone: Backbone, *, height: int, width: int) -> Anatomy:
    """Return the stages of a backbone, one row each; only the last has a shape: its features.

    Args:
        backbone: The row.
        height: Rows of pixels; compute and memory grow with the number of pixels.
        width: Columns of pixels.
    """
    scale = height * width / backbone.default_size**2
    return Anatomy(
        tuple(
            LayerRow(
                row["stage"],
                "stage",
                (int(row["features"]),) if row["features"] else (),
                int(row["parameters"]),
                round(int(row["macs"]) * scale),
                values=round(int(row["values"]) * scale),
            )
            for row in _read_table()[backbone.name]
        )
    )


@cache
def _read_table() -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["backbone"], []).append(row)
    return rows
