"""The pace of training: what is estimated, what is kept, and when reduced precision is chosen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning import pace as paces
from cnnclf.planning.network_settings import resolve_model
from cnnclf.planning.pace import Pace, expect_time, find_pace, format_time, keep_pace

COUNTS = {"train": 1000, "val": 300, "test": 600}
STEP: dict[str, Any] = {"batch_size": 64, "optimizer": "sgd"}


def lay_out(preset: str) -> Anatomy:
    config, given = load_config(options={"model.preset": preset}, kind=TrainConfig)
    model, _ = resolve_model(config.model, (32, 32), given=given)
    return plan_cnn(model, (32, 32, 3), num_classes=10)


def test_an_estimate_is_one_and_slower_for_more_arithmetic() -> None:
    tiny, deep = (find_pace(lay_out(preset), **STEP) for preset in ("tiny", "deep"))
    assert not tiny.is_measured
    assert tiny.rates["float32"] > 2 * deep.rates["float32"] > 0
    assert tiny.error == paces.ESTIMATED_ERROR
    assert "estimated" in tiny.words


def test_a_measured_pace_is_found_for_the_same_network_and_step_only() -> None:
    anatomy, rates = lay_out("tiny"), {"float32": 100.0, "bfloat16": 150.0}
    keep_pace(rates, anatomy, **STEP)
    assert find_pace(anatomy, **STEP) == Pace(rates, is_measured=True)
    assert not find_pace(anatomy, **STEP | {"batch_size": 32}).is_measured
    assert not find_pace(anatomy, **STEP | {"optimizer": "adamw"}).is_measured
    assert not find_pace(lay_out("deep"), **STEP).is_measured


@pytest.mark.parametrize("text", ["", "{}", '{"rates": 3}', '{"rates": {"float32": "fast"}}'])
def test_a_damaged_file_counts_as_not_measured(own_cache: Path, text: str) -> None:
    anatomy = lay_out("tiny")
    keep_pace({"float32": 100.0}, anatomy, **STEP)
    (file,) = (own_cache / "paces").iterdir()
    file.write_text(text)
    assert not find_pace(anatomy, **STEP).is_measured


@pytest.mark.parametrize(
    ("rates", "chosen", "rate"),
    [
        ({"float32": 100.0, "bfloat16": 140.0}, "bfloat16", 140.0),
        ({"float32": 100.0, "bfloat16": 103.0}, "float32", 100.0),
        ({"float32": 100.0, "bfloat16": 60.0}, "float32", 100.0),
        ({"float32": 100.0}, "float32", 100.0),
    ],
)
def test_another_precision_is_chosen_only_where_it_is_clearly_faster(
    rates: Mapping[str, float], chosen: str, rate: float
) -> None:
    pace = Pace(rates, is_measured=True)
    assert pace.choose() == chosen
    assert pace.rate("auto") == rate
    assert pace.rate("float32") == 100.0


def test_the_time_includes_validation_start_and_the_final_measuring() -> None:
    pace = Pace({"float32": 10.0}, is_measured=True)
    expected = expect_time(pace, counts=COUNTS, epochs=3, precision="auto")
    training = 3 * ((1000 + 300 / 3) / 10 + 0.05)
    assert expected.seconds == pytest.approx(training + (300 + 600 + 300 + 1000) / 3 / 10 + 12)
    assert expected.words == "about 7 min (6 min to 9 min)"


def test_a_short_time_is_not_none() -> None:
    times = [format_time(seconds) for seconds in (0, 0.3, 0.96, 1.2, 99, 130)]
    assert times == ["0 s", "under 1 s", "under 1 s", "1 s", "99 s", "2 min"]


def test_the_speed_of_products_is_measured_once_per_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paces.measure_products.cache_clear()
    first = paces.measure_products()
    paces.measure_products.cache_clear()
    monkeypatch.setattr(paces, "_time_products", lambda: first + 1)
    assert paces.measure_products() == first


@pytest.mark.parametrize("has_it", [True, False])
def test_an_estimate_knows_the_arithmetic_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    monkeypatch.setattr(paces, "has_bfloat16", lambda: has_it)
    rates = find_pace(lay_out("deep"), **STEP).rates
    assert ("bfloat16" in rates) is has_it
    assert rates["float32"] < max(rates.values()) <= 2 * rates["float32"] or not has_it
