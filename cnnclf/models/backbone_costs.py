"""What the stages of each backbone cost, from a table: a plan needs neither Keras nor weights.

`backbone_costs.csv` counts each stage at the size that the backbone was trained on. `border` is the
pixels of the image's height and width that convolutions without padding use up before the stage
and in it, fitted at four sizes. Slow tests compare the table with the graphs that Keras builds.
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
        height: Rows of pixels; compute and memory grow with the number of pixels inside the border.
        width: Columns of pixels.
    """
    side = backbone.default_size

    def scale(row: dict[str, str]) -> float:
        border = int(row["border"])
        return (height - border) * (width - border) / (side - border) ** 2

    return Anatomy(
        tuple(
            LayerRow(
                row["stage"],
                "stage",
                (int(row["features"]),) if row["features"] else (),
                int(row["parameters"]),
                round(int(row["macs"]) * scale(row)),
                values=round(int(row["values"]) * scale(row)),
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
