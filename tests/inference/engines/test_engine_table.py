"""The table of engines: complete, cheap to read, and its errors say what to do."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cnnclf.errors import MissingPackageError, UsageError
from cnnclf.inference.engines.engine_table import (
    ENGINES,
    FORMATS,
    PRECISIONS,
    EngineRow,
    check_installed,
    check_precision,
    find_engine,
    find_missing,
    load_function,
    read_engine_version,
)

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("row", ENGINES, ids=lambda row: str(row.name))
def test_a_row_is_complete(row: EngineRow) -> None:
    assert find_engine(row.name) is row
    assert callable(load_function(row.opener))
    assert callable(load_function(row.converter)) if row.converter else "keras" in row.opens
    assert set(row.precisions) <= set(PRECISIONS)
    assert row.tolerances.keys() == set(row.precisions)
    assert row.precisions[0] == "float32"
    assert read_engine_version(row)[0].isdigit()
    for form in row.opens:
        assert row.name in FORMATS[form]
    assert FORMATS[row.opens[0]][0] == row.name


def test_extras_are_declared_and_installed_for_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for row in ENGINES:
        if row.extra:
            assert any(line.startswith(f"{row.distribution}>") for line in extras[row.extra])
            assert set(extras[row.extra]) <= set(extras["dev"])
            assert f"\n{row.distribution}~=" in constraints


def test_reading_the_table_imports_no_engine_and_not_even_numpy() -> None:
    code = (
        "import sys, cnnclf.inference.engines.engine_table as t; "
        "[t.find_missing(row, converting=True) for row in t.ENGINES]; "
        "print([n for n in ('numpy', 'keras', 'openvino', 'onnxruntime') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "near"), [("openvio", "openvino"), ("onnx", "onnxruntime"), ("Keras", "keras")]
)
def test_an_unknown_engine_is_refused_with_the_nearest(typed: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"received '{typed}'") as caught:
        find_engine(typed)
    assert near in caught.value.hint


def test_a_missing_engine_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    row = find_engine("onnxruntime")
    hidden = {"onnxruntime"}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in hidden else find_spec(name)
    )
    assert find_missing(row) == ("onnxruntime",)
    with pytest.raises(MissingPackageError, match="onnxruntime, which is not installed") as caught:
        check_installed(row)
    assert caught.value.hint == "python -m pip install 'cnnclf[onnx]'"
    hidden = {"tf2onnx", "onnx"}
    check_installed(row)
    with pytest.raises(
        MissingPackageError, match="tf2onnx, onnx to convert the model, which are not installed"
    ):
        check_installed(row, converting=True)


def test_a_precision_that_an_engine_cannot_do_is_refused() -> None:
    check_precision(find_engine("openvino"), "bfloat16")
    with pytest.raises(UsageError, match="litert computes this model in") as caught:
        check_precision(find_engine("litert"), "bfloat16")
    assert "--engine" in caught.value.hint
    with pytest.raises(UsageError, match="received 'float64'"):
        check_precision(find_engine("litert"), "float64")
    with pytest.raises(UsageError, match="not in int8"):
        check_precision(find_engine("openvino"), "int8")
