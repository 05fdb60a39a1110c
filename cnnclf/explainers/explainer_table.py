"""The table of explainers; it imports neither Keras nor NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from cnnclf.errors import UsageError

_HERE = "cnnclf.explainers"
DEFAULT_VIEW = "evidence"


@dataclass(frozen=True)
class ExplainerRow:
    """One row of `EXPLAINERS`.

    Args:
        name: The value of `--show`.
        summary: What it shows, in a few words.
        function: "module:function". Of a map: a `MapMethod`; of other views: from an
            `ExplainContext` and a `Subject` to an `Explanation`; of views of the network alone:
            from an `ExplainContext`.
        is_map: Whether it returns maps, which are drawn and checked alike.
        needs_image: Whether it explains an image, and not the network alone.
        needs_graph: Whether it needs the layers, which exports do not have.
        needs_gradient: Whether it needs gradients, for which Keras has to run on TensorFlow.
        needs_dataset: Whether it needs training images.
    """

    name: str
    summary: str
    function: str
    is_map: bool = False
    needs_image: bool = True
    needs_graph: bool = True
    needs_gradient: bool = False
    needs_dataset: bool = False

    def load(self) -> Any:
        """Import the function."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)


EXPLAINERS: tuple[ExplainerRow, ...] = (
    ExplainerRow(
        "evidence",
        "what each place adds to the logit of a class, exact where the head allows it",
        f"{_HERE}.evidence:map_evidence",
        is_map=True,
    ),
    ExplainerRow(
        "grad-cam",
        "Grad-CAM at --layer",
        f"{_HERE}.class_activation:map_grad_cam",
        is_map=True,
        needs_gradient=True,
    ),
    ExplainerRow(
        "layer-cam",
        "LayerCAM at --layer",
        f"{_HERE}.class_activation:map_layer_cam",
        is_map=True,
        needs_gradient=True,
    ),
)


def find_explainers(names: Sequence[str]) -> list[ExplainerRow]:
    """Return explainers by name, each once; `all` stands for the whole table.

    Raises:
        UsageError: A name is unknown.
    """
    rows = {row.name: row for row in EXPLAINERS}
    names = list(rows) if "all" in names else list(dict.fromkeys(names)) or [DEFAULT_VIEW]
    for name in names:
        if name not in rows:
            near = get_close_matches(name.casefold(), rows, n=1, cutoff=0.4)
            raise UsageError(
                f"--show {name}: expected one of {', '.join(rows)}, all"
                + (f"; did you mean {near[0]}?" if near else ""),
                "cnnclf explain --help describes them",
            )
    return [rows[name] for name in names]
