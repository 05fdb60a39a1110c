import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import Cli


@pytest.fixture(autouse=True)
def writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the drawing of the images."""

    def write_sample_data(directory: Path) -> Path:
        directory.mkdir(parents=True)
        return directory

    samples = SimpleNamespace(write_sample_data=write_sample_data)
    monkeypatch.setitem(sys.modules, "cnnclf.data.sample_data", samples)


def test_says_where_and_what_next(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "my data"
    result = cli("sample-data", target)
    assert result.code == 0
    assert target.is_dir()
    assert result.stdout == f"wrote {target}\n"
    assert f"hint: cnnclf train '{target}'" in result.stderr


def test_json(cli: Cli, tmp_path: Path) -> None:
    result = cli("sample-data", tmp_path / "data", "--json")
    assert json.loads(result.stdout)["directory"] == str(tmp_path / "data")
