"""Wherever stdout and stderr lead: the result is whole, and nothing that was asked for is lost."""

import json
import os
from pathlib import Path

import pytest

from tests.terminal.terminal import ROOT, Stream, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")

PHOTOS = ROOT / "sample_data" / "x_or_o"
RUN = ROOT / "sample_data" / "tiny_run"
NUMBERS = "tests.cli.commands.predict_process"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, and 20 files for the engine that reads their names."""
    work = tmp_path_factory.mktemp("terminal")
    (work / "numbers").mkdir()
    for number in range(20):
        (work / "numbers" / f"{number}.jpg").write_bytes(b"")
    return work


def call(
    name: str, place: Path, *, stdout: Stream, stderr: Stream, more: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    arguments = {
        "predict": ("predict", RUN, place / "numbers"),
        "train": ("train", PHOTOS, "--dry-run"),
        "runs list": ("runs", "list", ROOT / "sample_data"),
        "runs show": ("runs", "show", RUN),
        "backbones": ("backbones",),
        "weights": ("weights", "list"),
        "cache": ("cache", "list"),
        "doctor": ("doctor",),
        "help": ("predict", "--help"),
    }[name]
    shown = run(
        *arguments,
        *more,
        stdout=stdout,
        stderr=stderr,
        module=NUMBERS if name == "predict" else "cnnclf",
        CNNCLF_CACHE_DIR=str(place / "cache"),
        KERAS_HOME=str(place / "keras"),
        CNNCLF_TEST_SLOW_S="0",
    )
    return shown.code, shown.stdout, shown.stderr


# Every command costs half a second a call; the quick ones stand for their kind.
QUICK = ("predict", "runs list")
WITH_JSON = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in ("predict", "train", "runs list", "runs show", "backbones", "weights", "cache")
]


@pytest.mark.parametrize("name", WITH_JSON)
def test_what_goes_to_a_pipe_does_not_depend_on_where_stderr_leads(name: str, place: Path) -> None:
    call(name, place, stdout="pipe", stderr="pipe")  # imports what later calls find imported
    code, with_pipe, told = call(name, place, stdout="pipe", stderr="pipe")
    assert code == 0, told
    assert with_pipe
    code, with_terminal, _ = call(name, place, stdout="pipe", stderr="terminal")
    assert code == 0
    assert with_terminal == with_pipe
    assert "\x1b" not in with_pipe


@pytest.mark.parametrize("name", WITH_JSON)
def test_json_is_one_document_wherever_stderr_leads(name: str, place: Path) -> None:
    for stderr in ("terminal", "pipe"):
        code, text, told = call(name, place, stdout="pipe", stderr=stderr, more=("--json",))
        assert code == 0, told
        assert json.loads(text)["schema_version"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "predict",
        "runs list",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("train", "doctor")),
    ],
)
@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_the_result_comes_even_if_stderr_takes_nothing(
    name: str, place: Path, stderr: Stream
) -> None:
    _, expected, _ = call(name, place, stdout="pipe", stderr="pipe")
    code, text, _ = call(name, place, stdout="pipe", stderr=stderr)
    assert code == 0
    if name != "doctor":  # it measures the free memory
        assert text == expected


@pytest.mark.parametrize("name", ["predict", "runs list", "help"])
def test_a_closed_stdout_is_reported_in_one_line(name: str, place: Path) -> None:
    code, _, told = call(name, place, stdout="closed", stderr="pipe")
    assert code == 6
    last = told.splitlines()[-1]
    assert last == "error: stdout is closed: redirect it, > FILE or > /dev/null"
    assert told.count("stdout") == 1
    assert "Traceback" not in told


@pytest.mark.parametrize("name", ["predict", "runs list", "help"])
def test_a_full_disk_under_stdout_is_reported(name: str, place: Path) -> None:
    code, _, told = call(name, place, stdout="full", stderr="pipe")
    assert code == 6
    assert "error: disk full: stdout\n" in told
