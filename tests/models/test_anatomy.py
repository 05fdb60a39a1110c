"""An anatomy needs no settings: any network can have one."""

import json

from cnnclf.models.anatomy import Anatomy, LayerRow, count_weights

# A residual block over one-dimensional sequences, which the CNN of `train` does not have.
ROWS = (
    LayerRow("tokens", "input", (100, 8), receptive_field=1),
    LayerRow("mix", "separable_conv", (100, 8), parameters=96, macs=8800, window=3, units=8),
    LayerRow("sum", "add", (100, 8), receptive_field=3),
    LayerRow("mean", "global_average", (8,), receptive_field=0),
    LayerRow("logits", "dense", (5,), parameters=45, macs=40, receptive_field=0, units=5),
)


def test_any_network_has_an_anatomy() -> None:
    anatomy = Anatomy(ROWS)
    assert [layer.kind for layer in anatomy.layers][2] == "add"
    assert (anatomy.parameters, anatomy.macs) == (141, 8840)


def test_an_anatomy_comes_back_from_json() -> None:
    content = json.loads(json.dumps(Anatomy(ROWS).to_dicts()))
    assert Anatomy.from_dicts(content) == Anatomy(ROWS)


def test_rows_of_earlier_versions_come_back() -> None:
    """As plan.json of 0.1.0 has them, before kernels, strides of fields and formulas."""
    row = {
        "name": "block1_conv1", "kind": "conv", "output_shape": [64, 64, 8], "parameters": 216,
        "macs": 884736, "receptive_field": 3, "units": 8, "stride": 1, "window": 3,
    }  # fmt: skip
    (layer,) = Anatomy.from_dicts([row]).layers
    assert (layer.units, layer.kernel, layer.formula) == (8, (), "")
    assert layer.activation_bytes == 64 * 64 * 8 * 4


def test_weights_are_counted_with_a_formula() -> None:
    assert count_weights((3, 3, 64, 128), (128,)) == (73_856, "3x3x64x128 + 128")
    assert count_weights((6272, 10)) == (62_720, "6,272x10")
    assert count_weights() == (0, "")
