from importlib import resources
from pathlib import Path

import pytest

from cnnclf.data import sample_data
from cnnclf.data.sample_data import write_sample_data
from cnnclf.errors import DataError, UsageError
from cnnclf.images.decode import inspect_image


@pytest.fixture(params=["as a wheel", "as a checkout"])
def installed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A tiny set of images where an installation of one kind keeps them."""
    root = tmp_path / "installation"
    wheel = request.param == "as a wheel"
    images = (root / "cnnclf" if wheel else root) / "sample_data" / "x_or_o"
    for label in "xo":
        (images / label).mkdir(parents=True)
        (images / label / f"{label}_0.jpg").write_bytes(label.encode())
    (images / "README.md").write_text("not a class")
    (root / "cnnclf" / "data").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(sample_data, "__file__", str(root / "cnnclf" / "data" / "sample_data.py"))
    monkeypatch.setattr(resources, "files", lambda package: root / package)
    return root


def _list_files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_class_folders_are_copied_and_nothing_else(installed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "deep"
    assert write_sample_data(directory) == directory
    assert _list_files(directory) == {"x/x_0.jpg": b"x", "o/o_0.jpg": b"o"}
    assert sorted(path.name for path in directory.iterdir()) == ["o", "x"]


def test_an_empty_directory_is_filled(installed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "empty"
    directory.mkdir()
    write_sample_data(directory)
    assert len(_list_files(directory)) == 2


def test_a_directory_that_holds_something_is_left_alone(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".hidden").write_text("keep")
    with pytest.raises(UsageError, match="is not empty") as caught:
        write_sample_data(tmp_path / "mine")
    assert "empty one" in caught.value.hint
    assert _list_files(tmp_path / "mine") == {".hidden": b"keep"}


def test_a_file_is_refused(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    with pytest.raises(UsageError, match="is a file, not a directory"):
        write_sample_data(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "keep"


def test_a_copy_that_fails_leaves_nothing_behind(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        write_sample_data(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_installation_without_the_images_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sample_data, "__file__", str(tmp_path / "cnnclf" / "data" / "sample_data.py")
    )
    monkeypatch.setattr(resources, "files", lambda package: tmp_path / package)
    with pytest.raises(DataError, match="sample images are missing in"):
        write_sample_data(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_this_installation_has_300_whole_images(tmp_path: Path) -> None:
    write_sample_data(tmp_path)
    for label in "xo":
        images = sorted((tmp_path / label).iterdir())
        assert len(images) == 150
        infos = [inspect_image(image) for image in images]
        assert {(info.width, info.height, info.mode, info.note) for info in infos} == {
            (64, 64, "RGB", "")
        }
        assert len({info.pixels_sha256 for info in infos}) == 150
