"""The programs of docs/how-to/deploy.md say what `cnnclf predict` says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnclf.exporters.format_table import EXPORTERS
from tests.conftest import Cli
from tests.exporters.material import Place, make_place

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"<!-- program: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
[LAST_LINES] = re.findall(r"<!-- last lines: \w+ -->\n```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("deploy"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A transparent image on its side: red fades into green, blue is in a corner."""
    rows, columns = np.mgrid[0:90, 0:130]
    pixels = np.stack(
        [255 - rows * 2, rows * 2, (columns > 100) * 200, 255 - columns], axis=-1
    ).astype(np.uint8)
    path = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels, "RGBA").save(path, exif=exif)
    return path


def test_every_format_has_a_short_program() -> None:
    assert list(PROGRAMS) == [row.name for row in EXPORTERS]
    for name, program in PROGRAMS.items():
        assert len(program.splitlines()) <= 25, name


# Those with TensorFlow take many seconds to load it.
CASES = [
    pytest.param(name, marks=pytest.mark.slow if name in {"savedmodel", "keras"} else ())
    for name in PROGRAMS
]


@pytest.mark.parametrize("name", CASES)
def test_a_program_says_what_predict_says(
    cli: Cli, place: Place, image: Path, tmp_path: Path, name: str
) -> None:
    said, predicted = _ask_both(cli, place, image, tmp_path, name, PROGRAMS[name])
    assert said == predicted


@pytest.mark.parametrize("name", CASES)
def test_with_probabilities_only_the_last_lines_are_others(
    cli: Cli, place: Place, image: Path, tmp_path: Path, name: str
) -> None:
    lines = PROGRAMS[name].splitlines(keepends=True)
    program = "".join([*lines[:-2], LAST_LINES])
    said, predicted = _ask_both(cli, place, image, tmp_path, name, program, "--probabilities")
    assert said == predicted


def _ask_both(
    cli: Cli, place: Place, image: Path, tmp_path: Path, name: str, program: str, *options: str
) -> tuple[tuple[str, object], tuple[str, object]]:
    """Return label and probability of a program and of predict, as near as they should be."""
    artifact = tmp_path / "artifact"
    result = cli("export", place.run, "--format", name, "--out", artifact, "-q", *options)
    assert result.code == 0, result.stderr
    result = cli("predict", artifact, image, "--json", "--precision", "float32")
    [row] = json.loads(result.stdout)["rows"]
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", artifact, image],
        cwd=tmp_path,
        env=dict(os.environ) | {"CI": "true"},  # OpenVINO then reports nothing
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.split()
    return (label, float(probability)), (row["label"], pytest.approx(row["probability"], abs=0.005))


@pytest.mark.parametrize(
    "change",
    [
        {"fit": "pad", "crop_fraction": 1.0, "background": [10, 200, 30]},
        {"fit": "squash", "crop_fraction": 1.0},
        {"fit": "crop", "crop_fraction": 1.0, "interpolation": "lanczos"},
        {"fit": "crop", "crop_fraction": 0.9, "height": 31, "width": 57},
        {"channels": 1, "interpolation": "bilinear"},
    ],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_images_are_decoded_as_the_input_spec_says(
    image: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    found, expected = _decode_in_both_ways(image, tmp_path, change)
    assert np.abs(found - expected).max() <= 2


def test_of_a_large_jpeg_pixels_are_within_the_bound_of_the_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    small.resize((1024, 768), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=92)
    found, expected = _decode_in_both_ways(tmp_path / "photo.jpg", tmp_path, {})
    assert 0 < np.abs(found - expected).mean() < 0.5
    assert np.abs(found - expected).max() <= 4  # of noise; photographs have less


def _decode_in_both_ways(
    image: Path, tmp_path: Path, change: dict[str, object]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decode with that part of the programs, and with the decoder itself."""
    from cnnclf.images.decode import decode_image
    from cnnclf.images.input_spec import InputSpec
    from tests.exporters.material import SPEC

    spec = InputSpec.from_dict(SPEC.to_dict() | change)
    (tmp_path / "classifier.json").write_text(json.dumps({"input_spec": spec.to_dict()}))
    program = PROGRAMS["onnx"].replace("import onnxruntime\n", "")
    decoding = program[: program.index("session = ")] + "np.save(sys.argv[3], pixels)\n"
    (tmp_path / "decode.py").write_text(decoding, encoding="utf-8")
    subprocess.run(
        [sys.executable, tmp_path / "decode.py", tmp_path, image, tmp_path / "pixels.npy"],
        check=True,
        timeout=120,
    )
    found = np.load(tmp_path / "pixels.npy")[0].astype(np.int64)
    expected = decode_image(image, spec).astype(np.int64)
    assert found.shape == expected.shape
    return found, expected
