"""--engine and --precision on the command line, and how little a cached engine loads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnclf import files
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.bundles import hash_files
from cnnclf.inference.classifier import Classifier
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
TINY_RUN = ROOT / "sample_data" / "tiny_run"
IMAGE = ROOT / "sample_data" / "x_or_o" / "x" / "x000.jpg"

HEAVY = {"tensorflow", "keras", "h5py", "sklearn", "scipy", "matplotlib", "pandas", "tf2onnx"}


def copy_run(target: Path) -> Path:
    """Copy the tiny run as it was trained, without what other tests made of it."""
    ignored = shutil.ignore_patterns("engine-cache")
    return Path(shutil.copytree(TINY_RUN, target, ignore=ignored))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best checkpoint every engine was used on before."""
    copy = copy_run(tmp_path_factory.mktemp("run") / "tiny_run")
    for engine in ("openvino", "onnxruntime", "litert"):
        Classifier.load(copy, engine=engine)
    return copy


@pytest.fixture
def artifact(run: Path, tmp_path: Path) -> Path:
    """The run as an ONNX artifact."""
    bundle = find_bundle(run)
    [form] = [path for path in (bundle / "engine-cache").glob("onnxruntime-*") if path.is_dir()]
    target = tmp_path / "onnx"
    target.mkdir()
    shutil.copy(form / "model.onnx", target)
    files.write_json_atomic(
        target / "classifier.json",
        files.read_json(bundle / "classifier.json")
        | {
            "format": "onnx",
            "model": "model.onnx",
            "sha256": hash_files(target, ["model.onnx"]),
        },
    )
    return target


def loaded_by(*arguments: str) -> tuple[set[str], "subprocess.CompletedProcess[str]"]:
    """Run the command in an interpreter of its own and tell the packages that were imported."""
    code = (
        "import sys; from cnnclf.cli.main import main; code = main(sys.argv[1:]); "
        "print('\\nloaded:', *{name.partition('.')[0] for name in list(sys.modules)},"
        " file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    [line] = [line for line in done.stderr.splitlines() if line.startswith("loaded:")]
    return set(line.split()[1:]), done


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime", "litert"])
def test_predicting_with_a_cached_engine_loads_neither_tensorflow_nor_keras(
    run: Path, engine: str
) -> None:
    packages, done = loaded_by(
        "predict", str(run), str(IMAGE), "--engine", engine, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[1].split(",")[1] == "x"
    assert packages & HEAVY == set()
    assert "numpy" in packages


def test_predicting_with_keras_does_load_it(run: Path) -> None:
    packages, done = loaded_by("predict", str(run), str(IMAGE), "--engine", "keras")
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"keras", "tensorflow"} <= packages


def test_all_engines_say_the_same(run: Path, cli: Cli) -> None:
    answers = {}
    for engine in ("keras", "openvino", "onnxruntime", "litert"):
        result = cli("predict", run, IMAGE, "--engine", engine, "--precision", "float32", "--json")
        assert result.code == 0
        [row] = json.loads(result.stdout)["rows"]
        answers[engine] = row["label"], row["probability"]
    labels = {label for label, _ in answers.values()}
    assert labels == {"x"}
    np.testing.assert_allclose([p for _, p in answers.values()], answers["keras"][1], atol=1e-5)


def test_it_says_what_computes(run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnclf.inference.engines import choosing

    monkeypatch.setattr(choosing, "find_fast_precision", lambda: "bfloat16")
    result = cli("predict", run, IMAGE, "--device", "cpu")
    assert "OpenVINO in bfloat16 (exact: float32)" in result.stderr
    result = cli("predict", run, IMAGE, "--device", "cpu", "--precision", "float32")
    assert "OpenVINO in float32" in result.stderr
    assert "exact" not in result.stderr


def test_preparing_an_engine_is_shown_once(tmp_path: Path, cli: Cli) -> None:
    copy = copy_run(tmp_path / "run")
    arguments = ("predict", copy, IMAGE, "--engine", "openvino")
    assert "converting for OpenVINO" in cli(*arguments).stderr
    assert "converting" not in cli(*arguments).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--engine", "openvio"), 2, "openvino"),
        (("--engine", "litert", "--precision", "bfloat16"), 2, "in float32, not in bfloat16"),
        (("--engine", "openvino", "--precision", "int8"), 2, "in float32 or bfloat16, not in int8"),
        (("--precision", "int8", "--device", "cpu"), 2, "--format openvino --quantize int8"),
        (("--precision", "float8"), 2, "expected one of"),
        (("--engine", "openvino", "--device", "gpu"), 2, "--engine keras"),
    ],
)
def test_what_cannot_be_had_is_refused(
    run: Path, cli: Cli, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = cli("predict", run, IMAGE, *arguments)
    assert result.code == code
    assert words in result.stderr


@pytest.mark.parametrize(
    ("own", "arguments", "code", "words"),
    [
        ("float32", ("--device", "gpu"), 2, "remove --device gpu"),
        ("float32", ("--engine", "openvino", "--device", "gpu:0"), 2, "not on gpu:0"),
        ("float32", ("--precision", "int8"), 2, "--format openvino --quantize int8"),
        ("float32", ("--engine", "openvino", "--precision", "bfloat16"), 0, "in bfloat16"),
        ("int8", ("--precision", "int8"), 0, "ONNX Runtime in int8"),
        ("int8", (), 0, "ONNX Runtime in int8"),
        (
            "int8",
            ("--precision", "float32"),
            2,
            "exported in int8 and cannot be computed in float32",
        ),
    ],
)
def test_an_artifact_computes_as_it_was_made_or_says_why_not(
    artifact: Path, cli: Cli, own: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    path = artifact / "classifier.json"
    files.write_json_atomic(path, files.read_json(path) | {"precision": own})
    result = cli("predict", artifact, IMAGE, *arguments)
    assert result.code == code, result.stderr
    assert words in result.stderr


VERIFIED = {"verdict": "verified", "engine": {"name": "onnxruntime", "precision": "float32"}}
REJECTED = {"verdict": "rejected", "parity": {"problems": ["3.20 points of accuracy are lost"]}}


@pytest.mark.parametrize(
    ("parity", "arguments", "words"),
    [
        (VERIFIED, (), ""),
        (None, (), ""),
        (REJECTED, (), "was rejected when it was exported: 3.20 points of accuracy are lost"),
        ({"verdict": "not verified", "parity": None}, (), "was not verified when it was exported"),
        ([], (), "expected a JSON object"),
        ({}, (), "parity.json is damaged: its verdict is missing"),
        (
            VERIFIED,
            ("--engine", "openvino", "--precision", "float32"),
            "verified with onnxruntime in float32, not with openvino in float32",
        ),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_is_known_against_an_artifact_is_reported_in_one_line(
    artifact: Path,
    cli: Cli,
    tmp_path: Path,
    command: str,
    parity: object,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    if parity is not None:
        files.write_json_atomic(artifact / "parity.json", parity)
    what = (
        (IMAGE,)
        if command == "predict"
        else (ROOT / "sample_data" / "x_or_o", "--split", "all", "--out", tmp_path / "report")
    )
    result = cli(command, artifact, *what, *arguments)
    assert result.code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if "exported" in line or "object" in line]
    others = ("verified with", "is missing")
    lines += [line for line in result.stderr.splitlines() if any(each in line for each in others)]
    assert len(lines) == bool(words)
    assert words in "".join(lines)
    warned = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    of_split = [line for line in warned if "includes training images" in line]
    assert len(of_split) == (command == "evaluate")
    assert bool(set(warned) - set(of_split)) == (bool(words) and parity != VERIFIED)


def test_an_engine_that_is_not_installed_is_exit_5(
    run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )
    result = cli("predict", run, IMAGE, "--engine", "openvino")
    assert result.code == 5
    assert "python -m pip install 'cnnclf[openvino]'" in result.stderr
    result = cli("predict", run, IMAGE, "--device", "cpu")
    assert result.code == 0
    assert "cnnclf[openvino]" in result.stderr


def test_evaluating_takes_keras_unless_another_engine_is_asked_for(
    run: Path, cli: Cli, tmp_path: Path
) -> None:
    found = {}
    for engine in ("", "onnxruntime"):
        out = tmp_path / f"out{engine}"
        arguments = ("--engine", engine) if engine else ()
        result = cli(
            "evaluate",
            run,
            ROOT / "sample_data" / "x_or_o",
            "--out",
            out,
            "--split",
            "test",
            *arguments,
        )
        assert result.code == 0, result.stderr
        found[engine] = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert found[""]["model"]["engine"] == "keras"
    assert found["onnxruntime"]["model"]["engine"] == "onnxruntime"
    assert found[""]["metrics"]["accuracy"] == found["onnxruntime"]["metrics"]["accuracy"]
