"""The table of formats: its names, what it refuses, and what it asks to install."""

import importlib
import tomllib
from pathlib import Path

import pytest

from cnnclf.config import ExportConfig, choices_of
from cnnclf.errors import ExitCode, MissingPackageError, UsageError
from cnnclf.exporters import format_table as table_module
from cnnclf.exporters.format_table import EXPORTERS, ExporterRow, check_exporter, find_exporter
from cnnclf.inference.engines.engine_table import FORMATS, load_function

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]

QUANTIZATIONS = choices_of(ExportConfig.model_fields["quantize"])

ROWS = pytest.mark.parametrize("row", EXPORTERS, ids=lambda row: row.name)


def test_names_are_the_ones_promised_and_each_can_be_opened() -> None:
    names = [row.name for row in EXPORTERS]
    assert sorted(names) == ["keras", "litert", "onnx", "openvino", "savedmodel"]
    assert set(names) <= set(FORMATS)


@ROWS
def test_a_row_holds_together(row: ExporterRow) -> None:
    assert find_exporter(row.name) is row
    assert callable(load_function(row.exporter))
    assert set(row.quantizations) <= set(QUANTIZATIONS)
    for needs in (row.needs, *row.quantizations.values()):
        assert not needs.extra or needs.extra in EXTRAS
        assert bool(needs.extra) <= bool(needs.modules)
        for module in needs.modules:
            assert importlib.util.find_spec(module), "the dev extra brings what tests need"


@ROWS
@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_what_it_cannot_do_is_refused_with_what_it_can(row: ExporterRow, quantize: str) -> None:
    if quantize in row.quantizations:
        check_exporter(row, quantize)
        return
    with pytest.raises(UsageError) as caught:
        check_exporter(row, quantize)
    assert row.name in caught.value.message
    assert quantize in caught.value.message
    assert "--format onnx" in caught.value.hint


@ROWS
def test_a_missing_package_is_named_with_its_extra(
    row: ExporterRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "find_missing", lambda needs: needs.modules[:1])
    with pytest.raises(MissingPackageError) as caught:
        check_exporter(row, None)
    assert row.needs.modules[0] in caught.value.message
    assert caught.value.exit_code == ExitCode.MISSING_PACKAGE
    extra = f"[{row.needs.extra}]" if row.needs.extra else ""
    wanted = f"'cnnclf{extra}'" if extra else "cnnclf"
    assert caught.value.hint == f"python -m pip install {wanted}"


def test_int8_of_openvino_has_an_extra_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        table_module, "find_missing", lambda needs: tuple(set(needs.modules) & {"nncf"})
    )
    row = find_exporter("openvino")
    check_exporter(row, "float16")
    with pytest.raises(MissingPackageError, match="not installed: nncf") as caught:
        check_exporter(row, "int8")
    assert "cnnclf[openvino-int8]" in caught.value.hint


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(UsageError) as caught:
        find_exporter("OpenVino2")
    assert caught.value.hint == "did you mean --format openvino?"
