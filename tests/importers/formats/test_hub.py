"""Datasets of the Hugging Face Hub, from a server on 127.0.0.1."""

import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.errors import DataError, MissingPackageError
from cnnclf.importers import import_source, open_dataset
from cnnclf.progress import Silent

COMMIT = "a" * 40
NAME = "me/shapes"


def make_files(folder: Path) -> None:
    for number in range(8):
        path = folder / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    (folder / "README.md").write_text("---")


def make_handler(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

        def reply(self, body: bytes, *, code: int = 200, **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            api = f"/api/datasets/{NAME}"
            files: list[dict[str, object]]
            if self.path.startswith(f"{api}/revision/"):
                files = [{"rfilename": name} for name in names]
                info = {"id": NAME, "sha": COMMIT, "siblings": files, "private": False}
                self.reply(json.dumps(info).encode(), Content_Type="application/json")
            elif self.path.startswith(f"{api}/tree/"):
                files = [
                    {"type": "file", "path": name, "size": (folder / name).stat().st_size}
                    | {"oid": f"{number:040}"}
                    for number, name in enumerate(names)
                ]
                self.reply(json.dumps(files).encode(), Content_Type="application/json")
            elif self.path.startswith(f"/datasets/{NAME}/resolve/{COMMIT}/"):
                name = self.path.split(f"{COMMIT}/")[1]
                etag = f'"{names.index(name):040}"'
                self.reply((folder / name).read_bytes(), ETag=etag, X_Repo_Commit=COMMIT)
            else:
                self.reply(b"{}", code=404, X_Error_Code="RepoNotFound")

    return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve one dataset, and keep what is fetched below the directory of the test."""
    constants = pytest.importorskip("huggingface_hub.constants")
    make_files(tmp_path / "server")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make_handler(tmp_path / "server"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.fspath(tmp_path / "hub"))
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("hub")
def test_a_dataset_is_fetched_and_read_as_what_it_is(tmp_path: Path) -> None:
    report = import_source(f"hf://{NAME}@main", tmp_path / "data", progress=Silent())
    assert (report.format, report.labels, report.images) == ("hf", ("a", "b"), 8)
    assert any("was read as class-folders" in note for note in report.notes)


@pytest.mark.usefixtures("hub")
def test_it_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_dataset(f"hf://{NAME}", progress=Silent())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert open_dataset(f"hf://{NAME}", progress=Silent()).fingerprint == first.fingerprint


@pytest.mark.usefixtures("hub")
def test_a_dataset_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot fetch hf://me/none: ") as caught:
        import_source("hf://me/none", tmp_path / "data", progress=Silent())
    assert "\n" not in caught.value.message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("address", ["hf://", "hf://a/b/c", "hf://a b", "hf://../x/y"])
def test_wrong_addresses_are_refused_before_anything_is_fetched(
    tmp_path: Path, address: str
) -> None:
    with pytest.raises(DataError, match="is not an address"):
        import_source(address, tmp_path / "data", progress=Silent())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="huggingface_hub"):
        import_source(f"hf://{NAME}", tmp_path / "data", progress=Silent())
