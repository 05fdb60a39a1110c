"""How many filters the preset `fast` gets where minutes are given."""

from collections.abc import Callable
from typing import Any

import pytest

from cnnclf.hardware import Memory
from cnnclf.models.anatomy import Anatomy
from cnnclf.planning.pace import Pace
from tests.planning.test_plan import dataset, plan

MAC_PER_S = 50e9  # such that a small network trains 48,000 images of 32 pixels in about a minute


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the speed of the processor and its memory; return a function that changes them."""

    def find_pace(anatomy: Anatomy, *, batch_size: int, optimizer: str) -> Pace:
        return Pace({"float32": MAC_PER_S / anatomy.macs}, is_measured=True)

    for module in ("width", "train_plan"):
        monkeypatch.setattr(f"cnnclf.planning.{module}.find_pace", find_pace)

    def set_up(what: str) -> None:
        available = 10**9 if what == "little memory" else 64 * 10**9
        memory = Memory(total_bytes=available, available_bytes=available)
        monkeypatch.setattr("cnnclf.planning.width.read_memory", lambda: memory)
        is_cpu = what != "GPU"
        monkeypatch.setattr("cnnclf.planning.width.is_estimable", lambda: is_cpu)

    set_up("CPU")
    return set_up


def plan_filters(minutes: float, **options: Any) -> tuple[object, str]:
    many = dataset(train=48_000, size=(32, 32))
    made = plan(many, training__minutes=minutes, **options)
    assert made.anatomy.layers[-3].output_shape[-1] == made.config.model.filters[-1]
    return made.config.model.filters, made.reasons.get("model.filters", "")


@pytest.mark.usefixtures("processor")
def test_more_minutes_are_used_for_more_filters() -> None:
    found = [plan_filters(minutes) for minutes in (1, 5.5, 17, 60)]
    assert [filters for filters, _ in found] == [
        [32, 64, 64],
        [64, 128, 128],
        [64, 256, 256],
        [128, 384, 384],
    ]
    assert found[0][1] == "1 min, with 5 epochs, or the memory allow no more"
    assert found[2][1] == "the most that 17 min, with 5 epochs, and the memory allow"


@pytest.mark.usefixtures("processor")
def test_filters_that_are_given_and_other_networks_stay() -> None:
    assert plan_filters(60, model__preset="fast", model__filters="8,16,16") == ([8, 16, 16], "")
    usual = plan(dataset(train=48_000, size=(32, 32)), model__preset="default").config.model.filters
    assert plan_filters(60, model__preset="default")[0] == usual


@pytest.mark.usefixtures("processor")
def test_few_images_get_the_network_of_the_preset() -> None:
    made = plan(dataset(train=9999, size=(32, 32)), training__minutes=60, model__preset="fast")
    assert made.config.model.filters == [64, 128, 128]


def test_nothing_changes_on_a_gpu(processor: Callable[[str], None]) -> None:
    processor("GPU")
    assert plan_filters(60) == ([64, 128, 128], "")


def test_a_network_has_to_fit_into_memory(processor: Callable[[str], None]) -> None:
    processor("little memory")
    assert plan_filters(60)[0] == [32, 64, 64]
