"""The table of backbones, as far as it can be checked without building a network."""

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.errors import ConfigError
from cnnclf.models.backbones import BACKBONES, DEFAULT_BACKBONE, Backbone, check_size, find_backbone
from cnnclf.models.normalize import NORMALIZATIONS
from cnnclf.models.weights.weight_files import WEIGHT_FILES


def test_every_network_of_keras_applications_is_in_the_table() -> None:
    import keras

    offered = {name for name in dir(keras.applications) if name[0].isupper()}
    rows = {row.builder.rpartition(".")[2] for row in BACKBONES if "keras" in row.builder}
    assert rows == offered


def test_rows_are_whole_and_distinct() -> None:
    names = [row.name for row in BACKBONES]
    assert names[0] == DEFAULT_BACKBONE
    assert len({re.sub(r"[^a-z0-9]", "", name) for name in names}) == len(names)
    assert set(names) == set(WEIGHT_FILES)
    assert len({row.imagenet.name for row in BACKBONES}) == len(names)
    for row in BACKBONES:
        assert row.normalization in NORMALIZATIONS
        assert 32 <= row.min_size < row.default_size
        assert 50 < row.top1 < 90
        assert row.imagenet.algorithm in ("", "md5", "sha256")
        assert len(set(row.stage_names)) == len(row.stages) >= 3
        last = row.stages[-1]
        assert (last.end, last.before) == ("", "")
        assert all(bool(stage.end) != bool(stage.before) for stage in row.stages[:-1])


def test_wider_and_deeper_relatives_cost_more() -> None:
    for names in (
        ("mobilenet-0.25", "mobilenet-0.5", "mobilenet-0.75", "mobilenet"),
        ("mobilenetv2-0.35", "mobilenetv2-0.5", "mobilenetv2-0.75", "mobilenetv2"),
        tuple(f"efficientnet-b{number}" for number in range(8)),
        ("resnet50", "resnet101", "resnet152"),
        tuple(f"convnext-{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    ):
        rows = [find_backbone(name) for name in names]
        for key in ("parameters", "gmacs", "top1"):
            values = [getattr(row, key) for row in rows]
            assert values == sorted(values), (names, key)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("ResNet50", "resnet50"),
        ("EfficientNetV2B0", "efficientnetv2-b0"),
        ("efficientnet_lite0", "efficientnet-lite0"),
        ("MobileNetV3 Large", "mobilenetv3-large"),
    ],
)
def test_names_are_found_however_they_are_written(written: str, name: str) -> None:
    assert find_backbone(written).name == name


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'resnet5'") as error:
        find_backbone("resnet5")
    assert "did you mean resnet50" in error.value.hint
    with pytest.raises(ConfigError) as error:
        find_backbone("zzzz")
    assert error.value.hint == "cnnclf backbones lists all"
    with pytest.raises(ConfigError) as error:
        find_backbone("vit-b16")
    assert "transformers are not among the backbones" in error.value.hint


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("resnet18", "resnet50 or resnet101"),
        ("vgg11", "vgg16 or vgg19"),
        ("efficientnet", "efficientnet-b0"),
        ("resnet200v2", "resnet152v2"),
        ("inception", "inception"),
    ],
)
def test_of_the_same_family_the_nearest_in_size_is_suggested_first(name: str, first: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_backbone(name)
    assert error.value.hint.startswith(f"did you mean {first}")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(BACKBONES), st.integers(1, 400), st.integers(1, 400))
def test_sizes_below_the_minimum_are_refused(row: Backbone, height: int, width: int) -> None:
    if min(height, width) >= row.min_size:
        check_size(row, height=height, width=width)
        return
    with pytest.raises(ConfigError, match=f"received {height}x{width}"):
        check_size(row, height=height, width=width)


def test_the_table_needs_nothing_heavy() -> None:
    code = (
        "import sys, cnnclf.models.backbones;"
        "print([m for m in ('keras', 'tensorflow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
