"""What auto becomes on which machine, and what cannot be had."""

import platform

import pytest

from cnnclf.errors import MissingPackageError, RunError, UsageError
from cnnclf.inference.engines import choosing
from cnnclf.inference.engines.choosing import choose_engines
from cnnclf.inference.engines.engine_table import ENGINES, FORMATS


class Machine:
    """A processor, a GPU and packages of our choice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu = False
        self.bfloat16 = False
        self.hidden: set[str] = set()
        monkeypatch.setattr(choosing, "is_gpu_usable", lambda _: self.gpu)
        self.kind = "x86_64"
        monkeypatch.setattr(choosing, "has_bfloat16", lambda: self.bfloat16)
        monkeypatch.setattr(platform, "machine", lambda: self.kind)
        monkeypatch.setattr(
            choosing,
            "find_missing",
            lambda row, **_: ("x",) if row.name in self.hidden else (),
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def names(*args: str, **settings: str | None) -> list[str]:
    return [
        f"{choice.row.name} {choice.precision}"
        for choice in choose_engines(*args, **settings)  # type: ignore[arg-type]
    ]


def test_a_usable_gpu_takes_keras(machine: Machine) -> None:
    machine.gpu = True
    assert names(device="auto") == ["keras None"]
    assert names(device="gpu:1") == ["keras None"]
    assert names(device="auto", precision="bfloat16") == ["keras bfloat16"]
    assert names(device="cpu")[0] == "openvino float32"


def test_a_processor_takes_openvino_in_what_it_is_fast_in(machine: Machine) -> None:
    assert names(device="auto")[0] == "openvino float32"
    machine.bfloat16 = True
    first, *rest = choose_engines(device="auto")
    assert (first.row.name, first.precision) == ("openvino", "bfloat16")
    assert first.note == "exact: float32"
    assert [choice.note for choice in rest] == [""] * len(rest)
    assert names(device="auto", precision="float32")[0] == "openvino float32"
    machine.kind = "aarch64"
    assert names(device="auto")[0] == "openvino float32"


def test_the_same_engine_exactly_then_others_then_keras_take_over(machine: Machine) -> None:
    machine.bfloat16 = True
    machine.hidden = {"litert"}
    assert names(device="auto") == [
        "openvino bfloat16",
        "openvino float32",
        "onnxruntime float32",
        "keras float32",
    ]


def test_without_openvino_keras_computes_and_the_extra_is_named(machine: Machine) -> None:
    machine.hidden = {"openvino"}
    [choice] = choose_engines(device="auto")
    assert (choice.row.name, choice.precision) == ("keras", "float32")
    assert "cnnclf[openvino]" in choice.note


def test_an_engine_as_asked(machine: Machine) -> None:
    machine.bfloat16 = True
    assert names(engine="onnxruntime")[0] == "onnxruntime float32"
    assert names(engine="onnxruntime")[-1] == "keras float32"
    assert names(engine="keras") == ["keras None"]
    assert names(engine="keras", precision="float32") == ["keras float32"]
    assert names(engine="openvino")[:2] == ["openvino bfloat16", "openvino float32"]
    assert names(engine="openvino", precision="bfloat16")[0] == "openvino bfloat16"


def test_bfloat16_that_is_computed_in_float32_is_said(machine: Machine) -> None:
    for settings in ({"engine": "openvino"}, {"device": "auto"}):
        asked = choose_engines(precision="bfloat16", **settings)[0]
        assert asked.note == "computed in float32: the processor has no bfloat16"
    machine.bfloat16 = True
    assert choose_engines(precision="bfloat16", engine="openvino")[0].note == ""


def test_what_cannot_be_had_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="CPU only, not on gpu"):
        choose_engines(engine="openvino", device="gpu")
    with pytest.raises(UsageError, match="not in int8"):
        choose_engines(engine="openvino", precision="int8")
    with pytest.raises(UsageError, match="not in int8"):
        choose_engines(precision="int8", device="cpu")

    def refuse(row: object) -> None:
        raise MissingPackageError("missing")

    monkeypatch.setattr(choosing, "check_installed", refuse)
    with pytest.raises(MissingPackageError):
        choose_engines(engine="litert")


def test_an_exported_file_takes_the_engine_that_opens_it(machine: Machine) -> None:
    assert names("onnx") == ["onnxruntime None"]
    assert names("litert", engine="openvino") == ["openvino None"]
    machine.hidden = {"onnxruntime"}
    assert names("onnx") == ["openvino None"]
    with pytest.raises(UsageError, match="cannot open litert"):
        choose_engines("litert", engine="onnxruntime")
    assert names("openvino", own_precision="int8", precision="int8") == ["openvino None"]
    with pytest.raises(UsageError, match="cannot be computed in float32"):
        choose_engines("openvino", own_precision="int8", precision="float32")
    assert names("openvino", precision="bfloat16") == ["openvino bfloat16"]
    with pytest.raises(RunError, match="the format 'coreml'"):
        choose_engines("coreml")


@pytest.mark.parametrize("form", [form for form in FORMATS if "keras" not in FORMATS[form]])
def test_an_exported_file_that_computes_on_processors_only_refuses_a_gpu(
    machine: Machine, form: str
) -> None:
    machine.gpu = True
    with pytest.raises(UsageError, match="CPU only, not on gpu:1") as caught:
        choose_engines(form, device="gpu:1")
    assert caught.value.hint == "use the run it was exported from, or remove --device gpu:1"
    assert names(form, device="auto") == [f"{FORMATS[form][0]} None"]
    assert names("savedmodel", device="gpu") == ["keras None"]


@pytest.mark.parametrize("engine", ["auto", *(row.name for row in ENGINES)])
def test_8_bits_have_to_be_made_first(machine: Machine, engine: str) -> None:
    for device in ("cpu", "auto"):
        with pytest.raises(UsageError, match="not in int8") as caught:
            choose_engines(engine=engine, precision="int8", device=device)
        assert "cnnclf export RUN --format openvino --quantize int8" in caught.value.hint
