"""An anatomy needs no settings: any network can have one."""

import json

from cnnclf.models.anatomy import Anatomy, LayerRow

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
