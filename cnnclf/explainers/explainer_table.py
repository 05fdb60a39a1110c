"""The table of explainers; it imports neither Keras nor NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnclf.errors import UsageError
from cnnclf.inference.engines.engine_table import load_function
from cnnclf.names import suggest

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
        needs_head: Whether it needs the last feature maps, which OpenVINO shows of exports, too.
        needs_convolution: Whether the network has to have convolutions.
        needs_gradient: Whether it needs gradients, for which Keras has to run on TensorFlow.
        random_networks: How many randomized networks a map is compared with.
        random_settings: Settings that make this comparison cheaper.
        needs_dataset: Whether it needs training images.
        needs_checkpoints: Whether it needs the checkpoints of `train --trace`.
        is_of_layer: Whether it looks at one layer, which --layer names.
    """

    name: str
    summary: str
    function: str
    is_map: bool = False
    needs_image: bool = True
    needs_graph: bool = True
    needs_head: bool = False
    needs_convolution: bool = False
    needs_gradient: bool = False
    needs_dataset: bool = False
    needs_checkpoints: bool = False
    is_of_layer: bool = False
    random_networks: int = 3
    random_settings: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the function."""
        return load_function(self.function)


EXPLAINERS: tuple[ExplainerRow, ...] = (
    ExplainerRow(
        "evidence",
        "what each place adds to the logit of a class, exact where the head allows it",
        f"{_HERE}.evidence:map_evidence",
        is_map=True,
        needs_graph=False,
        needs_head=True,
    ),
    ExplainerRow(
        "grad-cam",
        "Grad-CAM at --layer",
        f"{_HERE}.class_activation:map_grad_cam",
        is_of_layer=True,
        is_map=True,
        needs_gradient=True,
    ),
    ExplainerRow(
        "layer-cam",
        "LayerCAM at --layer",
        f"{_HERE}.class_activation:map_layer_cam",
        is_of_layer=True,
        is_map=True,
        needs_gradient=True,
    ),
    ExplainerRow(
        "occlusion",
        "how much the logit falls when a window is replaced",
        f"{_HERE}.occlusion:map_occlusion",
        is_map=True,
        needs_graph=False,
        random_networks=1,
    ),
    ExplainerRow(
        "rise",
        "how the probability depends on which places are visible",
        f"{_HERE}.rise:map_rise",
        is_map=True,
        needs_graph=False,
        random_networks=1,
        random_settings={"masks": 200},
    ),
    ExplainerRow(
        "integrated-gradients",
        "gradients from a filled image to the image",
        f"{_HERE}.integrated_gradients:map_integrated_gradients",
        is_map=True,
        needs_gradient=True,
        random_networks=1,
    ),
    ExplainerRow(
        "layers",
        "the image on its way through the network, to logits and probabilities",
        f"{_HERE}.layer_strip:explain_layers",
        needs_convolution=True,
    ),
    ExplainerRow(
        "feature-maps",
        "the feature maps of --layer, with the filters of the first one",
        f"{_HERE}.feature_maps:explain_feature_maps",
        is_of_layer=True,
        needs_convolution=True,
    ),
    ExplainerRow(
        "filters",
        "kernels, and the patches of training images that activate the filters of --layer most",
        f"{_HERE}.filter_patches:explain_filters",
        is_of_layer=True,
        needs_convolution=True,
        needs_image=False,
    ),
    ExplainerRow(
        "descent",
        "the loss along the way of gradient descent, of runs of train --trace",
        f"{_HERE}.descent:explain_descent",
        needs_image=False,
        needs_dataset=True,
        needs_checkpoints=True,
    ),
    ExplainerRow(
        "receptive-field",
        "the theoretical and the effective receptive field of the center of a layer",
        f"{_HERE}.receptive_fields:explain_receptive_field",
        is_of_layer=True,
        needs_convolution=True,
        needs_gradient=True,
    ),
    ExplainerRow(
        "nearest",
        "the training images that the network takes for most similar",
        f"{_HERE}.nearest_images:explain_nearest",
        needs_graph=False,
        needs_head=True,
        needs_dataset=True,
    ),
    ExplainerRow(
        "counterfactual",
        "the smallest shift, rotation, zoom, blur or brightness that changes the label",
        f"{_HERE}.counterfactual:explain_counterfactual",
        needs_graph=False,
    ),
)


EVERY_VIEW = "all"  # that the model can give


def find_explainers(names: Sequence[str]) -> list[ExplainerRow]:
    """Return explainers by name, each once; `all` stands for the whole table.

    Raises:
        UsageError: A name is unknown.
    """
    rows = {row.name: row for row in EXPLAINERS}
    names = list(rows) if EVERY_VIEW in names else list(dict.fromkeys(names)) or [DEFAULT_VIEW]
    for name in names:
        if "," in name:
            repeated = " ".join(f"--show {each.strip()}" for each in name.split(","))
            raise UsageError(f"--show {name}: expected one view", f"repeat the option: {repeated}")
        if name not in rows:
            expected = f"--show {name}: expected one of {', '.join(rows)}, {EVERY_VIEW}"
            raise UsageError(
                "; ".join(filter(None, [expected, suggest(name.casefold(), rows, cutoff=0.4)])),
                "cnnclf explain --help describes them",
            )
    return [rows[name] for name in names]
