"""`cnnclf finetune --weights` end to end: each kind of weights, on a few small images."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.errors import ExitCode
from cnnclf.inference.classifier import Classifier
from cnnclf.models.backbones import find_backbone
from cnnclf.models.trunk import build_backbone
from cnnclf.models.weights import weight_files
from cnnclf.runs.run_opening import open_run
from tests.conftest import Cli, CliResult
from tests.models.weights.weights_server import WeightsServer, serve

PUBLISHED = Path(
    os.environ.get("CNNCLF_TEST_WEIGHTS", Path(__file__).parents[4] / "shared" / "weights")
)
SMALL = find_backbone("mobilenetv2-0.35")
REAL = PUBLISHED / SMALL.imagenet.name
WITH_TOP = PUBLISHED / "mobilenet_2_5_224_tf.h5"

TINY = (
    *("--backbone", "mobilenet-0.25", "--image-size", "32", "--device", "cpu"),
    *("--head-epochs", "1", "--no-head-search", "--unfreeze", "none", "--quiet"),
)

Finetune = Callable[..., CliResult]


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"published weights not here: {path}")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of bright and dark images."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label, low in (("bright", 150), ("dark", 0)):
        (folder / label).mkdir()
        for index in range(12):
            pixels = rng.integers(low, low + 100, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


@pytest.fixture
def finetune(cli: Cli, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finetune:
    """Fine-tune into tmp_path/run: `finetune("--weights", "none")`."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def call(*options: object, out: str = "run") -> CliResult:
        return cli("finetune", images, *TINY, *options, "--out", tmp_path / out)

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    monkeypatch.delenv("http_proxy", raising=False)
    with serve() as told:
        monkeypatch.setattr(weight_files, "BASE_URL", told.address)
        yield told


def read_weights(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = open_run(run).read_record()["weights"]
    return found


def first_kernel(run: Path) -> Any:
    """The numbers of the first convolution in the network that was saved."""
    model = Classifier.load(run).model
    return np.asarray(next(layer.kernel for layer in model.layers if hasattr(layer, "kernel")))


@needs(REAL)
def test_imagenet_weights_are_downloaded_and_on_record(
    finetune: Finetune, server: WeightsServer, tmp_path: Path
) -> None:
    import h5py  # type: ignore[import-untyped]

    server.body = REAL.read_bytes()
    result = finetune("--backbone", SMALL.name)
    assert result.code == ExitCode.OK, result.stderr
    assert server.asked == [f"/{SMALL.imagenet.url_path}"]
    assert read_weights(tmp_path / "run") == {
        "source": "imagenet",
        "name": REAL.name,
        "sha256": hashlib.sha256(server.body).hexdigest(),
    }
    with h5py.File(REAL) as file:
        group = file["Conv1"]
        expected = np.asarray(group[group.attrs["weight_names"][0]])
    np.testing.assert_array_equal(first_kernel(tmp_path / "run"), expected)


def test_offline_no_run_is_begun(finetune: Finetune, server: WeightsServer, tmp_path: Path) -> None:
    server.status = 502
    result = finetune()
    assert result.code == ExitCode.CONFIG
    assert "cannot download the ImageNet weights of mobilenet-0.25" in result.stderr
    assert f"belongs in {tmp_path / 'keras' / 'models'}" in result.stderr
    assert "cnnclf weights import FILE" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_plan_says_what_will_be_downloaded(
    cli: Cli, images: Path, server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    result = cli("finetune", images, "--backbone", "resnet50", "--dry-run")
    assert result.code == ExitCode.OK, result.stderr
    assert "resnet50, weights ImageNet (download of about 94 MB)" in result.stdout
    assert server.asked == []


@pytest.mark.slow
def test_random_weights_and_then_that_run(finetune: Finetune, tmp_path: Path) -> None:
    """A run serves the same backbone, its head does not; other backbones refuse it."""
    assert finetune("--weights", "none").code == ExitCode.OK
    assert read_weights(tmp_path / "run") == {"source": "none", "name": "", "sha256": ""}
    result = finetune("--weights", tmp_path / "run", "--seed", "7", out="next")
    assert result.code == ExitCode.OK, result.stderr
    weights = read_weights(tmp_path / "next")
    assert (weights["source"], weights["name"]) == ("run", str(tmp_path / "run"))
    assert weights["sha256"] == Classifier.load(tmp_path / "run").bundle["sha256"]
    np.testing.assert_array_equal(first_kernel(tmp_path / "next"), first_kernel(tmp_path / "run"))
    refused = finetune("--weights", tmp_path / "run", "--backbone", "vgg16", out="other")
    assert refused.code == ExitCode.CONFIG
    assert "run has the backbone mobilenet-0.25, not vgg16" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_a_file_of_ones_own(ending: str, finetune: Finetune, tmp_path: Path) -> None:
    import keras

    backbone = build_backbone(find_backbone("mobilenet-0.25"), height=32, width=32)
    pixels = keras.Input((48, 48, 3))
    around = keras.Model(
        pixels, keras.layers.Dense(9)(backbone(keras.layers.Resizing(32, 32)(pixels)))
    )
    path = tmp_path / f"mine{ending}"
    if ending == ".keras":
        around.save(path)
    else:
        around.save_weights(path)
    result = finetune("--weights", path)
    assert result.code == ExitCode.OK, result.stderr
    assert read_weights(tmp_path / "run") == {
        "source": "file",
        "name": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    np.testing.assert_array_equal(
        first_kernel(tmp_path / "run"), backbone.get_layer("conv1").kernel
    )


@pytest.mark.slow
@needs(WITH_TOP)
def test_a_published_file_with_its_top(finetune: Finetune, tmp_path: Path) -> None:
    result = finetune("--weights", WITH_TOP)
    assert result.code == ExitCode.OK, result.stderr
    assert "layers of mobilenet_2_5_224_tf.h5 that were skipped: conv_preds" in open_run(
        tmp_path / "run"
    ).log.read_text(encoding="utf-8")
    assert read_weights(tmp_path / "run")["name"] == WITH_TOP.name


@pytest.mark.slow
@needs(WITH_TOP)
def test_a_run_continues_with_the_weights_it_began_with(
    finetune: Finetune, cli: Cli, tmp_path: Path
) -> None:
    own = tmp_path / "own.h5"
    own.write_bytes(WITH_TOP.read_bytes())
    assert finetune("--weights", own).code == ExitCode.OK
    run = open_run(tmp_path / "run")
    run.update_run(status="interrupted")
    own.write_bytes(WITH_TOP.read_bytes() + b"changed")
    result = cli("finetune", "--resume", run.path)
    assert result.code == ExitCode.CONFIG
    assert "have changed since the run started: expected sha256 e16aacc5" in " ".join(
        result.stderr.split()
    )


@needs(WITH_TOP)
def test_a_file_of_another_backbone_is_refused(finetune: Finetune, tmp_path: Path) -> None:
    for more in ((), ("--dry-run",)):
        result = finetune("--weights", WITH_TOP, "--backbone", "mobilenet-0.5", *more)
        assert result.code == ExitCode.CONFIG
        assert "the file has 475,544 weights, the backbone 829,536" in result.stderr
        assert "hint: the file is for --backbone mobilenet-0.25" in result.stderr
        assert not (tmp_path / "run").exists()


def test_a_damaged_packaged_file_is_refused_at_once(finetune: Finetune, tmp_path: Path) -> None:
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"PK\3\4" + bytes(100))
    result = finetune("--weights", damaged, "--backbone", "efficientnet-lite0", "--dry-run")
    assert result.code == ExitCode.CONFIG
    assert "contents do not match the checksum" in result.stderr


def test_a_run_without_a_backbone_is_refused(finetune: Finetune, tmp_path: Path) -> None:
    from cnnclf.runs.run_opening import create_run

    run = create_run(tmp_path / "trained")
    run.plan.write_text(json.dumps({"command": "train", "config": {"model": {}}}))
    result = finetune("--weights", run.path)
    assert result.code == ExitCode.CONFIG
    assert "run has no backbone" in result.stderr
    assert not (tmp_path / "run").exists()
