"""What the help pages say, word for word; `pytest --update` renews them."""

from collections.abc import Callable
from typing import Any

import pytest

from cnnclf.cli.app import COMMANDS, load_command
from cnnclf.cli.commands.cache import CACHE_COMMANDS
from cnnclf.cli.commands.runs import RUNS_COMMANDS
from cnnclf.cli.commands.weights import WEIGHTS_COMMANDS
from cnnclf.cli.help import _give_values

PAGES = [
    (),
    *((row[0],) for row in COMMANDS),
    *(("runs", row[0]) for row in RUNS_COMMANDS),
    *(("weights", row[0]) for row in WEIGHTS_COMMANDS),
    *(("cache", row[0]) for row in CACHE_COMMANDS),
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: "-".join(("cnnclf", *path)))
def test_help_page(
    cli: Callable[..., Any],
    golden: Callable[[str, str], None],
    path: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = cli(*path, "--help")
    assert result.code == 0
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    golden("-".join(("help", *path)) + ".txt", result.stdout)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["--ray"], ["--ray="]),
        (["--ray", "--out", "f"], ["--ray=", "--out", "f"]),
        (["a", "--ray", "auto", "b"], ["a", "--ray", "auto", "b"]),
        (["--ray=auto", "-"], ["--ray=auto", "-"]),
        (["--ray", "-"], ["--ray=", "-"]),
        (["--ray", "--", "--ray"], ["--ray=", "--", "--ray"]),
        (["--out", "f", "-q"], ["--out", "f", "-q"]),
    ],
)
def test_an_option_with_its_metavar_in_brackets_may_be_given_without_a_value(
    given: list[str], parsed: list[str]
) -> None:
    command = load_command(next(row for row in COMMANDS if row[0] == "predict"))
    assert _give_values(command.params, given) == parsed
