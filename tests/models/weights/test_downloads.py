"""Downloads: a file has its name only when it is whole and right, whatever server or user do."""

import hashlib
import importlib
import io
import pkgutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cnnclf.errors import DeviceError, RunError
from cnnclf.models.backbones import BACKBONES, find_backbone
from cnnclf.models.weights import downloads, weight_files
from cnnclf.models.weights.downloads import fetch_published
from cnnclf.models.weights.weight_files import WeightsFile
from cnnclf.progress import Silent, Task
from tests.models.weights.weights_server import WeightsServer, serve

BODY = bytes(range(256)) * 4000
HASHED = replace(
    find_backbone("resnet50"),
    imagenet=WeightsFile(
        "hashed.h5", hashlib.md5(BODY).hexdigest(), url_path="folder/on-the-server.h5"
    ),
)
HASHLESS = find_backbone("mobilenet-0.25")

Fetch = Callable[..., Path]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve() as told:
        told.body = BODY
        monkeypatch.setattr(weight_files, "BASE_URL", told.address)
        yield told


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


def test_a_file_is_downloaded_once(server: WeightsServer, models: Path) -> None:
    path = fetch_published(HASHED, progress=Silent())
    assert path == models / "hashed.h5"
    assert path.read_bytes() == BODY
    assert list(models.iterdir()) == [path]
    assert fetch_published(HASHED, progress=Silent()) == path
    assert server.asked == ["/folder/on-the-server.h5"]


def test_without_a_known_length_the_hash_decides(server: WeightsServer, models: Path) -> None:
    server.length = None
    assert fetch_published(HASHED, progress=Silent()).read_bytes() == BODY


class Counting(Silent):
    """Listens to one task."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[tuple[str, int | None, str]] = []
        self.done = 0

    @contextmanager
    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> Iterator[Task]:
        self.tasks.append((name, total, unit))
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def describe(self, text: str) -> None:
        pass

    def expect(self, total: int) -> None:
        pass


def test_kilobytes_are_counted(server: WeightsServer, models: Path) -> None:
    progress = Counting()
    fetch_published(HASHED, progress=progress)
    assert progress.tasks == [("resnet50 weights", len(BODY) // 1000, "kB")]
    assert progress.done == len(BODY) // 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": len(BODY) + 5}, r"closed after 1,024,000 of 1,024,005 bytes"),
        ({"body": BODY[:-1] + b"?"}, r"do not match the checksum \(md5 [0-9a-f]{32} instead of "),
        ({"body": b""}, "do not match the checksum"),
        ({"status": 404}, "responded with HTTP 404 Not Found"),
        ({"status": 503}, "responded with HTTP 503"),
        ({"stalls": True}, r"no data received for 0\.3 s"),
    ],
    ids=["cut off", "another file", "nothing", "404", "503", "stalls"],
)
def test_nothing_is_left_of_a_bad_answer(
    server: WeightsServer,
    models: Path,
    change: dict[str, object],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    vars(server).update(change)
    with pytest.raises(RunError, match=words) as error:
        fetch_published(HASHED, progress=Silent())
    assert f"hashed.h5 (md5 {HASHED.imagenet.digest}) belongs in {models}" in error.value.message
    assert error.value.hint == (
        f"download {server.address}/folder/on-the-server.h5 on another machine, then run here: "
        "cnnclf weights import FILE"
    )
    assert list(models.iterdir()) == []


def test_a_server_that_stalls_and_closes_is_noticed(server: WeightsServer, models: Path) -> None:
    server.stalls = True
    server.go_on.set()
    with pytest.raises(RunError, match="closed after 512,000 of 1,024,000 bytes"):
        fetch_published(HASHED, progress=Silent())
    assert list(models.iterdir()) == []


def test_a_refused_connection_is_said(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers here
        monkeypatch.setattr(weight_files, "BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(RunError, match=r"connection failed \(Connection refused\)"):
            fetch_published(HASHED, progress=Silent())
    assert list(models.iterdir()) == []


def test_only_the_web_is_asked(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    monkeypatch.setattr(weight_files, "BASE_URL", tmp_path.as_uri())
    with pytest.raises(ValueError, match="an http or https URL, received file:"):
        fetch_published(HASHED, progress=Silent())
    assert list(models.iterdir()) == []


def test_a_wrong_file_that_is_here_is_neither_used_nor_touched(
    server: WeightsServer, models: Path
) -> None:
    models.mkdir(parents=True)
    path = models / "hashed.h5"
    path.write_bytes(BODY[:1000])
    with pytest.raises(RunError, match="instead of") as error:
        fetch_published(HASHED, progress=Silent())
    assert error.value.hint == "cnnclf weights pull resnet50 --overwrite replaces the file"
    server.status = 500
    with pytest.raises(RunError, match="HTTP 500"):
        fetch_published(HASHED, overwrite=True, progress=Silent())
    assert path.read_bytes() == BODY[:1000], "the old file stays until a right one has come"
    server.status = 200
    assert fetch_published(HASHED, overwrite=True, progress=Silent()).read_bytes() == BODY


def test_without_a_published_hash_a_file_must_be_whole_hdf5(
    server: WeightsServer, models: Path
) -> None:
    """So a half file that Keras left behind, or a page that a proxy sent, is noticed."""
    whole = make_hdf5()
    server.body = b"<html>sign in to the guest network</html>"
    with pytest.raises(
        RunError, match=r"not a complete HDF5 file; .* \(no checksum known\) belongs"
    ):
        fetch_published(HASHLESS, progress=Silent())
    assert list(models.iterdir()) == []
    (models / HASHLESS.imagenet.name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="not a complete HDF5 file"):
        fetch_published(HASHLESS, progress=Silent())
    server.body = whole
    assert fetch_published(HASHLESS, overwrite=True, progress=Silent()).read_bytes() == whole


def test_a_full_disk_is_no_trouble_of_the_network(
    server: WeightsServer, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(DeviceError, match="the disk is full"):
        fetch_published(HASHED, progress=Silent())


def test_a_directory_that_cannot_be_made_is_said(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match="cannot write to the weights directory") as error:
        fetch_published(HASHED, progress=Silent())
    assert "KERAS_HOME" in error.value.hint
    assert server.asked == []


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_stopped_download_leaves_nothing_that_is_used(
    server: WeightsServer, models: Path, kill: signal.Signals
) -> None:
    server.stalls = True
    server.body = BODY * 3
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from cnnclf.models.weights import weight_files; from cnnclf.cli.main import main;"
        f"weight_files.BASE_URL = {server.address!r};"
        "sys.exit(main(['weights', 'pull', 'mobilenet-0.25']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while not (models.exists() and any(each.stat().st_size for each in models.iterdir())):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert not (models / HASHLESS.imagenet.name).exists()
    process.send_signal(kill)
    process.communicate(timeout=60)
    assert process.returncode == (130 if kill == signal.SIGINT else -9)
    assert not (models / HASHLESS.imagenet.name).exists()
    if kill == signal.SIGINT:
        assert list(models.iterdir()) == []
    server.stalls, server.body = False, make_hdf5()
    assert fetch_published(HASHLESS, progress=Silent()).read_bytes() == server.body


def test_every_url_is_one_that_the_installed_keras_names() -> None:
    """What Keras really asks for is compared in test_trunk, which builds the networks."""
    import keras.src.applications as package

    named = set()
    modules = [each.name for each in pkgutil.iter_modules(package.__path__)]
    for name in (each for each in modules if not each.endswith("_test")):
        constants = vars(importlib.import_module(f"{package.__name__}.{name}"))
        named |= {value for value in constants.values() if isinstance(value, str)}
    for row in [row for row in BACKBONES if row.imagenet.url]:
        folder = row.imagenet.url.rpartition("/")[0]
        # some families name each file, others the folder
        assert named & {row.imagenet.url, f"{folder}/"}, row.name


def test_what_a_package_ships_has_no_url() -> None:
    shipped = [row.name for row in BACKBONES if row.imagenet.package]
    assert shipped == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
    assert [row.name for row in BACKBONES if not row.imagenet.url] == shipped


def make_hdf5() -> bytes:
    import h5py  # type: ignore[import-untyped]

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["numbers"] = list(range(1000))
    return stream.getvalue()
