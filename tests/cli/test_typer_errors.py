"""Typer's internals are used in one module, which works with the versions it names."""

import re
from importlib import metadata
from pathlib import Path

import pytest
import typer

from cnnclf.cli import typer_errors
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
TESTED = ("0.29",)


def test_one_module_uses_typers_internals() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "cnnclf").rglob("*.py"))
        if re.search(r"(typer|click)\._", path.read_text(encoding="utf-8"))
    ]
    assert users == ["cnnclf/cli/typer_errors.py"]


def test_it_names_the_versions_it_works_with() -> None:
    assert f"Tested with Typer {', '.join(TESTED)}" in (typer_errors.__doc__ or "")
    assert f'"typer>={TESTED[0]},<1"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    installed = metadata.version("typer")
    assert installed.rpartition(".")[0] in TESTED, "try the help pages and errors with it, add it"


@pytest.mark.parametrize("name", typer_errors.__all__)
def test_errors_are_related_as_main_needs_it(name: str) -> None:
    error = getattr(typer_errors, name)
    assert issubclass(error, typer_errors.ClickException)
    assert issubclass(typer.BadParameter, typer_errors.UsageError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("describe --classes 1", "--classes 1: expected a whole number from 2 to 1,000,000"),
        ("describe --classes two", "--classes two: expected a whole number from 2 to 1,000,000"),
        ("runs remove a --keep-best -1", "--keep-best -1: expected a whole number of at least 0"),
        ("cache clear --older-than -1", "--older-than -1: expected a number of at least 0"),
    ],
)
def test_a_wrong_number_is_named_with_what_is_expected(
    cli: Cli, arguments: str, message: str
) -> None:
    result = cli(*arguments.split())
    assert result.code == 2
    assert result.stderr.splitlines()[0] == f"error: {message}"
