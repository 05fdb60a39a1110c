"""docs/how-to/audio.md: its program is the file, and the commands work from file to prediction."""

import csv
import json
import random
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import ExitCode
from tests.conftest import Cli

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/how-to/audio.md"
PROGRAM = ROOT / "docs/how-to/letters.py"


def make_sounds(folder: Path) -> None:
    """Make tones and noise, three takes by each of six speakers."""
    random_ = np.random.default_rng(0)
    for label, loud, noisy in (("tone", 0.4, 0.005), ("noise", 0.0, 0.3)):
        for speaker in "abcdef":
            for take in range(3):
                path = folder / label / f"{speaker}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                time = np.arange(int(8000 * random_.uniform(0.2, 0.3))) / 8000
                tone = loud * np.sin(2 * np.pi * random_.uniform(300, 2500) * time)
                samples = np.clip(tone + noisy * random_.normal(size=len(time)), -1, 1)
                with wave.open(str(path), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes((samples * 32_000).astype("<i2").tobytes())


def test_the_program_of_the_page_is_the_file() -> None:
    assert f"```python\n{PROGRAM.read_text()}```" in PAGE.read_text()


@pytest.mark.slow
def test_from_sounds_to_predictions(tmp_path: Path, cli: Cli) -> None:
    make_sounds(tmp_path / "sounds")
    data, run, artifact = tmp_path / "data", tmp_path / "run", tmp_path / "onnx"
    imported = cli("import", tmp_path / "sounds", "--group-regex", "^([a-z]+)_", "--out", data)
    assert imported.code == ExitCode.OK
    trained = cli("train", data, "--out", run, "--preset", "tiny", "--epochs", "12", "--json")
    assert trained.code == ExitCode.OK
    spec = json.loads((run / "plan.json").read_text())["input_spec"]
    assert (spec["kind"], spec["sound"]["seconds"]) == ("sound", 0.3)
    assert cli("export", run, "--format", "onnx", "--out", artifact).code == ExitCode.OK
    (tmp_path / "sounds" / "notes.txt").write_text("no sound")
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    found = {}
    for model in (run, artifact):
        done = cli("predict", model, tmp_path / "sounds", "--engine", "auto")
        assert done.code == ExitCode.SOME_FAILED
        rows = list(csv.DictReader(done.stdout.splitlines()))
        assert len(rows) == 37
        assert [row["path"][-10:] for row in rows if row["error"]] == ["broken.wav"]
        found[model] = {row["path"]: row["label"] for row in rows}
    assert found[run] == found[artifact]
    right = sum(f"/{label}/" in path for path, label in found[run].items() if label)
    assert right >= 30
    explained = cli(
        "explain", run, tmp_path / "sounds" / "tone" / "a_0.wav", "--out", tmp_path / "x"
    )
    assert explained.code == ExitCode.OK
    assert cli("check", data).code == ExitCode.OK
    page = tmp_path / "report.html"
    assert cli("report", run, "--out", page).code == ExitCode.OK
    assert "no image" not in page.read_text()


@pytest.mark.slow
def test_texts_become_images(tmp_path: Path, cli: Cli) -> None:
    words = random.Random(1)
    for label, letters in (("vowels", "aeiouy"), ("others", "bcdfgklm")):
        lines = ["".join(words.choices(letters, k=40)) for _ in range(30)]
        text = tmp_path / f"{label}.txt"
        text.write_text("\n".join(lines))
        subprocess.run([sys.executable, PROGRAM, label, text, tmp_path / "texts"], check=True)
    run = tmp_path / "run"
    trained = cli("train", tmp_path / "texts", "--out", run, "--preset", "tiny", "--epochs", "6")
    assert trained.code == ExitCode.OK
    done = cli("predict", run, tmp_path / "texts" / "vowels")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert (done.code, len(rows)) == (ExitCode.OK, 30)
    assert sum(row["label"] == "vowels" for row in rows) >= 27
