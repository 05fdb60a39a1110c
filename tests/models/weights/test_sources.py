"""What --weights accepts, and what is refused before anything is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnnclf.errors import CnnclfError, RunError
from cnnclf.models.backbones import find_backbone
from cnnclf.models.weights.published import find_packaged
from cnnclf.models.weights.sources import estimate_bytes, fetch_weights, find_weights
from cnnclf.models.weights.stored_layers import HDF5_START, ZIP_START
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run

RESNET = find_backbone("resnet50")
LITE0 = find_backbone("efficientnet-lite0")


def test_none_needs_no_file() -> None:
    source = find_weights(RESNET, "none")
    assert (source.kind, source.path, source.is_here) == ("none", None, True)
    assert source.summary == "random"
    assert fetch_weights(source, progress=Silent()) is None


def test_imagenet_is_installed_downloaded_or_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    installed = find_weights(LITE0, "imagenet")
    assert installed.is_here
    assert installed.summary == "ImageNet (installed)"
    assert fetch_weights(installed, progress=Silent()) == find_packaged()
    download = find_weights(RESNET, "imagenet")
    assert not download.is_here
    assert download.summary == "ImageNet (download of about 94 MB)"
    assert not tmp_path.joinpath("models").exists(), "planning downloads nothing"
    assert download.path is not None
    download.path.parent.mkdir()
    download.path.write_bytes(b"half")
    assert download.summary == "ImageNet"
    with pytest.raises(RunError, match="not the published weights of resnet50: contents"):
        fetch_weights(download, progress=Silent())


@pytest.mark.parametrize("start", [HDF5_START, ZIP_START])
def test_a_file_is_recognized_by_its_first_bytes(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any name"
    path.write_bytes(start + b"...")
    source = find_weights(RESNET, str(path))
    assert (source.kind, source.path, source.name) == ("file", path, "any name")
    assert source.summary == "from any name"


def test_a_plan_means_the_same_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.keras").write_bytes(ZIP_START)
    make_run(tmp_path / "run", {"config": {"backbone": {"name": "resnet50"}}})
    monkeypatch.chdir(tmp_path)
    settings = [find_weights(RESNET, text).setting for text in ("w.keras", "run", "none")]
    assert settings == [str(tmp_path / "w.keras"), str(tmp_path / "run"), "none"]
    monkeypatch.chdir("/")
    assert [find_weights(RESNET, text).setting for text in settings] == settings


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(find_packaged().read_bytes()[:100])
    with pytest.raises(
        RunError, match=r"not a \.h5, \.weights\.h5 or \.keras weights file"
    ) as error:
        find_weights(RESNET, str(path))
    assert "save_weights" in error.value.hint
    assert find_weights(LITE0, str(path)).kind == "file", "its checksum is compared when it is read"
    (tmp_path / "empty.h5").write_bytes(b"")
    with pytest.raises(RunError, match=r"not a \.h5, \.weights\.h5 or \.keras weights file"):
        find_weights(RESNET, str(tmp_path / "empty.h5"))
    with pytest.raises(RunError, match=r"no weights file or run: nowhere\.h5"):
        find_weights(RESNET, "nowhere.h5")


def make_run(path: Path, plan: object) -> Path:
    run = create_run(path)
    run.plan.write_text(json.dumps(plan))
    run.best.mkdir(parents=True)
    (run.best / "model.keras").write_bytes(ZIP_START)
    (run.best / "classifier.json").write_text("{}")
    return path


def test_a_run_with_the_same_backbone_is_accepted(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", {"config": {"backbone": {"name": "resnet50"}}})
    source = find_weights(RESNET, str(path))
    assert (source.kind, source.name) == ("run", str(path))
    assert source.path == path / "checkpoints" / "best" / "model.keras"
    assert source.summary == f"from the run {path}"
    checkpoint = find_weights(RESNET, str(path / "checkpoints" / "best"))
    assert checkpoint.path == source.path


@pytest.mark.parametrize(
    ("plan", "words", "hint"),
    [
        ({"config": {"model": {}}}, "run has no backbone", "cnnclf finetune"),
        ({"config": None}, "run has no backbone", "cnnclf finetune"),
        (
            {"config": {"backbone": {"name": "vgg16"}}},
            "run has the backbone vgg16, not resnet50",
            "--backbone vgg16, or --weights imagenet",
        ),
        ({"config": {"backbone": {"name": "future-net"}}}, "future-net", "cnnclf backbones"),
    ],
)
def test_other_runs_are_refused(plan: object, words: str, hint: str, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", plan)
    with pytest.raises(CnnclfError, match=words) as error:
        find_weights(RESNET, str(path))
    assert hint in error.value.hint


def test_directories_that_are_not_runs_and_runs_without_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a run nor a checkpoint"):
        find_weights(RESNET, str(tmp_path))
    run = create_run(tmp_path / "run")
    run.plan.write_text('{"config": {"backbone": {"name": "resnet50"}}}')
    with pytest.raises(RunError, match="has no checkpoints/best yet"):
        find_weights(RESNET, str(run.path))


@pytest.mark.parametrize(
    ("weights", "words"),
    [("", "received an empty value"), (".", "a run nor a checkpoint: ."), ("/", "checkpoint: /")],
)
def test_paths_without_a_name_are_refused_like_others(
    weights: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError) as error:
        find_weights(RESNET, weights)
    assert error.value.message.endswith(words)
    assert "imagenet" in error.value.hint


def test_the_working_directory_may_be_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_run(tmp_path / "run", {"config": {"backbone": {"name": "resnet50"}}})
    monkeypatch.chdir(path / "checkpoints" / "best")
    assert find_weights(RESNET, ".").kind == "run"
    monkeypatch.chdir(path)
    setting = find_weights(RESNET, ".").setting
    assert setting == str(path)
    monkeypatch.chdir("/")
    assert find_weights(RESNET, setting).kind == "run"


def test_sizes_are_estimated_from_the_weights() -> None:
    """The published file of ResNet50 without its top has 94,765,736 bytes."""
    assert estimate_bytes(RESNET) == pytest.approx(94_765_736, rel=0.01)


def test_finding_weights_loads_nothing_heavy() -> None:
    code = (
        "import sys; from cnnclf.models.backbones import find_backbone;"
        "from cnnclf.models.weights.sources import find_weights;"
        "find_weights(find_backbone('vgg16'), 'imagenet');"
        "print([m for m in ('keras', 'tensorflow', 'numpy', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
