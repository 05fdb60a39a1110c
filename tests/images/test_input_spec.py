import json
from typing import Any

import pytest

from cnnclf.errors import ConfigError
from cnnclf.images.decode import DECODER_VERSION, InputSpec


def test_a_spec_survives_json() -> None:
    spec = InputSpec(
        224,
        160,
        channels=1,
        interpolation="bicubic",
        crop_fraction=0.875,
        background=(1, 2, 3),
    )
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_the_dictionary_holds_every_rule_that_shapes_pixels() -> None:
    assert InputSpec(8, 9).to_dict() == {
        "height": 8,
        "width": 9,
        "channels": 3,
        "fit": "crop",
        "interpolation": "bilinear",
        "crop_fraction": 1.0,
        "background": [255, 255, 255],
        "value_range": None,
        "version": DECODER_VERSION,
    }


def test_the_shape_is_height_width_channels() -> None:
    assert InputSpec(8, 9, channels=1).shape == (8, 9, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "height as a whole number 1..16384, received 0"),
        ({"width": 20_000}, "width as a whole number 1..16384, received 20000"),
        ({"height": True}, "height"),
        ({"width": 8.0}, "width"),
        ({"channels": 4}, "channels to be one of 1, 3, received 4"),
        ({"fit": "stretch"}, "fit to be one of crop, pad, squash, received 'stretch'"),
        ({"interpolation": "cubic"}, "interpolation to be one of bilinear, bicubic"),
        ({"crop_fraction": 0}, "crop_fraction above 0 and at most 1, received 0"),
        ({"crop_fraction": 1.5}, "crop_fraction"),
        ({"crop_fraction": "half"}, "crop_fraction"),
        ({"crop_fraction": 0.5, "fit": "pad"}, "fit pad does not support crop_fraction 0.5"),
        ({"background": [0, 0]}, "background as three numbers 0..255"),
        ({"background": [0, 0, 256]}, "background as a whole number 0..255, received 256"),
        ({"background": "white"}, "background"),
        ({"version": DECODER_VERSION + 1}, f"version {DECODER_VERSION}, received version"),
        ({"version": "1"}, "version"),
        ({"size": 3}, "unknown keys: size"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        InputSpec.from_dict(InputSpec(8, 8).to_dict() | change)
    assert words in caught.value.message


def test_a_missing_key_is_named() -> None:
    values = InputSpec(8, 8).to_dict()
    del values["fit"]
    with pytest.raises(ConfigError, match="missing keys: fit"):
        InputSpec.from_dict(values)


def test_a_spec_of_a_newer_program_says_so_before_its_unknown_keys() -> None:
    values = InputSpec(8, 8).to_dict() | {"version": DECODER_VERSION + 1, "gamma": 2}
    with pytest.raises(ConfigError) as caught:
        InputSpec.from_dict(values)
    assert "update cnnclf" in caught.value.hint
