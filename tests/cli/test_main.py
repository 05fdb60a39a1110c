import re

import cnnclf
from tests.conftest import Cli


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.stdout.strip()) == (0, f"cnnclf {cnnclf.__version__}")


def test_unknown_command_names_the_nearest(cli: Cli) -> None:
    result = cli("trian")
    assert result.code == 2
    assert re.search(r"^error: .*'trian'", result.stderr, re.MULTILINE)
    assert "hint: did you mean 'cnnclf train'?" in result.stderr
