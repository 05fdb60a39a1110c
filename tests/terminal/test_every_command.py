"""Every command, with stdout and stderr on a terminal or in a pipe: the result is the same."""

import os
import shutil
from itertools import product
from pathlib import Path

import pytest

from tests.cli.test_examples import ALL
from tests.terminal.terminal import ROOT, Shown, Stream, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")

PHOTOS = ROOT / "sample_data" / "x_or_o"
PHOTO = PHOTOS / "x" / "x000.jpg"
RUN = ROOT / "sample_data" / "tiny_run"
STREAMS: tuple[Stream, Stream] = ("terminal", "pipe")

# The arguments of each command; OUT is a place of its own. The quick ones are in the default suite.
CALLS: dict[str, tuple[object, ...]] = {
    "import": (PHOTOS, "-o", "OUT"),
    "check": (PHOTOS,),
    "train": (PHOTOS, "--dry-run"),
    "lr-find": (PHOTOS, "--preset", "tiny", "--steps", "30"),
    "check-order": (PHOTOS, "--epochs", "1", "--image-size", "16"),
    "finetune": (PHOTOS, "--dry-run"),
    "tune": (PHOTOS, "--dry-run"),
    "backbones": (),
    "weights list": (),
    "weights pull": ("no-backbone",),
    "weights import": ("OUT/none.h5",),
    "weights path": (),
    "evaluate": (RUN, PHOTOS, "-o", "OUT", "--engine", "keras"),
    "calibrate": ("OUT/run", PHOTOS, "--engine", "keras"),
    "predict": (RUN, PHOTO, "--engine", "keras"),
    "explain": (RUN, PHOTO, "-o", "OUT"),
    "export": (RUN, "--format", "keras", "-o", "OUT", "--data", PHOTOS),
    "adopt": ("OUT/none.keras", "--labels", "OUT/none.txt", "--scale", "0:1", "-o", "OUT/bundle"),
    "describe": ("--image-size", "32"),
    "convolve": (PHOTO, "--filter", "blur", "--show-arithmetic", "3,5"),
    "report": (RUN, "-o", "OUT.html"),
    "runs list": (ROOT / "sample_data",),
    "runs show": (RUN,),
    "runs compare": (RUN, "OUT/run"),
    "runs export": ("OUT/none", "--to", "tensorboard:OUT/board"),
    "runs remove": ("OUT/run", "--yes"),
    "augment-preview": (PHOTOS, "--augment", "light", "-o", "OUT.png"),
    "glossary": ("stride", "--run", RUN),
    "sample-data": ("OUT",),
    "doctor": (),
    "cache list": (),
    "cache clear": ("--yes",),
    "help": ("train",),
    "version": (),
}
QUICK = ("import", "glossary", "runs list", "runs remove", "sample-data", "version")
COPYING = ("runs remove", "runs compare", "calibrate")  # a run of their own
FAILING = {"weights pull", "weights import", "adopt", "runs export"}  # their files are elsewhere


def test_no_command_is_missing() -> None:
    assert list(CALLS) == list(ALL)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CALLS]
)
def test_the_result_does_not_depend_on_where_it_leads(name: str, tmp_path: Path) -> None:
    shown = {
        streams: call(name, tmp_path / "-".join(streams), *streams)
        for streams in product(STREAMS, repeat=2)
    }
    codes = {each.code for each in shown.values()}
    assert len(codes) == 1
    assert (codes == {0}) is (name not in FAILING)
    piped = [each.stdout for (stdout, _), each in shown.items() if stdout == "pipe"]
    if name not in ("doctor", "export", "tune"):  # they measure this machine
        assert without_place(piped[0], tmp_path) == without_place(piped[1], tmp_path)
    for (stdout, stderr), each in shown.items():
        for stream, text in ((stdout, each.stdout), (stderr, each.stderr)):
            assert "Traceback" not in text
            if stream == "pipe":
                assert "\x1b" not in text
                assert "\r" not in text
    # Progress and notes never get among the results.
    assert not any("hint: " in text or ": started" in text for text in piped)


def call(name: str, place: Path, stdout: Stream, stderr: Stream) -> Shown:
    place.mkdir()
    if name in COPYING:
        shutil.copytree(RUN, place / "out" / "run")
        (place / "out" / "run" / "reference_logits.json").unlink()
    words = [str(each).replace("OUT", str(place / "out")) for each in CALLS[name]]
    # One cache for the four calls of a command: an estimate is made once and then read.
    return run(
        *name.split(),
        *words,
        stdout=stdout,
        stderr=stderr,
        CNNCLF_CACHE_DIR=str(place.parent / "cache"),
        KERAS_HOME=str(place / "keras"),
    )


def without_place(text: str, tmp_path: Path) -> str:
    for streams in product(STREAMS, repeat=2):
        text = text.replace(str(tmp_path / "-".join(streams)), "PLACE")
    return text
