"""No wait is silent: what takes long says so before it begins."""

import subprocess
import sys
from pathlib import Path

import pytest

from cnnclf import runtime
from cnnclf.errors import DeviceError
from cnnclf.progress import Silent

ROOT = Path(__file__).parents[2]

_FIRST_NOTE = """
import sys
from cnnclf.cli import main, output
def note(_, text):
    heavy = {"numpy", "PIL", "keras", "tensorflow", "matplotlib"} & set(sys.modules)
    print(text, "after", sorted(heavy))
    raise SystemExit
output.Output.note = note
sys.argv[1:] = sys.argv[2:]
main.run()
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("doctor",), "checking this machine"), (("evaluate", "runs/pets"), "evaluating runs/pets")],
)
def test_the_first_line_comes_before_anything_heavy(arguments: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_NOTE, "-", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{words} after []\n", done.stderr


def test_starting_a_backend_is_said_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DeviceError("no such device")

    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(runtime, "open_backend", refuse)
    progress = Silent()
    with pytest.raises(DeviceError):
        runtime.setup_runtime(progress=progress)
    assert progress.notes == ["starting PyTorch"]
