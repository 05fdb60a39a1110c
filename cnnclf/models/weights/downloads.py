"""Downloads published weights into Keras's directory; a file is there whole and right, or not.

Keras's own downloader writes under the final name from the first byte on and checks afterwards, so
a process that is killed leaves a half file which Keras takes for the whole where no hash is
published. Here a file gets its name only when it is complete and has its hash.
"""

import ast
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from cnnclf import __version__
from cnnclf.errors import RunError
from cnnclf.files import atomic_path
from cnnclf.models.backbones import Backbone
from cnnclf.models.weights.published import (
    check_published,
    find_fault,
    find_keras_directory,
    make_keras_directory,
)
from cnnclf.progress import Progress

TIMEOUT_S = 30.0  # without a single byte

_CHUNK_BYTES = 1 << 18


def fetch_published(backbone: Backbone, *, force: bool = False, progress: Progress) -> Path:
    """Give the published weights of a backbone, downloaded if they are not here.

    Args:
        backbone: A row whose weights are a download.
        force: Download again, and replace the file that is here once the new one is whole.
        progress: Told kilobytes.

    Returns:
        The file, checked.

    Raises:
        RunError: The file here is not the published one, the download failed (the message says
            which file belongs where, the hint how to bring it), or the directory cannot be written.
        DeviceError: The disk is full.
    """
    path = find_keras_directory() / backbone.imagenet.name
    if path.is_file() and not force:
        check_published(path, backbone)
        return path
    address = find_address(backbone)
    if not address:
        raise _failure(backbone, path, address, "this version of Keras names no address")
    make_keras_directory()
    with atomic_path(path) as temporary:
        try:
            with temporary.open("xb") as file:
                _download(address, file, name=f"{backbone.name} weights", progress=progress)
        except _DownloadError as error:
            raise _failure(backbone, path, address, str(error)) from error
        fault = find_fault(temporary, backbone.imagenet)
        if fault:
            raise _failure(backbone, path, address, f"received {fault}")
    return path


def find_address(backbone: Backbone) -> str:
    """Find where Keras downloads the weights of a backbone from, in Keras's own source.

    Read, not imported: importing Keras loads its backend, which takes seconds and must not happen
    before the runtime is set up.

    Args:
        backbone: A row whose weights are a download.

    Returns:
        The address; empty if this Keras does not name it.
    """
    module, _, function = backbone.builder.rpartition(".")
    if module != "keras.applications":
        return ""
    families = _read_families()
    home = next((each for each in families.values() if f"def {function}(" in each.source), None)
    if home is None:
        return ""
    # ResNetV2 is built by a function of the module of ResNet
    related = [home, *(families[name] for name in home.imports if name in families)]
    addresses = [text for each in related for text in each.texts if text.startswith("https://")]
    wanted = _plain(backbone.imagenet.name)
    for address in addresses:
        if _plain(address.rpartition("/")[2]) == wanted:
            return address
    bases = [address for address in addresses if address.endswith("/")]
    return bases[0] + backbone.imagenet.name if bases else ""


class _DownloadError(Exception):
    """Why nothing or not all of it came, in words."""


def _download(address: str, file: IO[bytes], *, name: str, progress: Progress) -> None:
    if not address.startswith(("http://", "https://")):  # never a path of this machine
        raise ValueError(f"expected an address of the web, received {address}")
    request = urllib.request.Request(  # noqa: S310 - checked above
        address, headers={"User-Agent": f"cnnclf/{__version__}"}
    )
    with _network():
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    with answer:
        size = answer.headers.get("Content-Length", "")
        total = int(size) if size.isdigit() else None
        received = told = 0
        with progress.task(name, None if total is None else total // 1000, unit="kB") as task:
            while True:
                with _network():
                    chunk = answer.read(_CHUNK_BYTES)
                if not chunk:
                    break
                file.write(chunk)
                received += len(chunk)
                task.advance(received // 1000 - told)
                told = received // 1000
            if total is not None and received != total:
                raise _DownloadError(f"the connection ended after {received:,} of {total:,} bytes")


@contextmanager
def _network() -> Iterator[None]:
    """Put what sockets and servers raise into words; what the disk raises stays outside."""
    try:
        yield
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        reason = _explain(error)
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise _DownloadError(reason) from error


def _failure(backbone: Backbone, path: Path, address: str, reason: str) -> RunError:
    published = backbone.imagenet
    known = f"{published.algorithm} {published.digest}" if published.digest else "no hash published"
    source = f"get {address}" if address else f"get {path.name}"
    return RunError(
        f"cannot download the ImageNet weights of {backbone.name}: {reason}; the file"
        f" {path.name} ({known}) belongs into {path.parent}",
        f"{source} on another machine, then here: cnnclf weights import FILE",
    )


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"the server sent nothing for {TIMEOUT_S:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return f"no connection ({reason.strerror})"
    return str(reason) or type(reason).__name__


@dataclass(frozen=True)
class _Family:
    """A module of keras.applications: its source, the texts it names, what it imports."""

    source: str
    texts: tuple[str, ...]
    imports: tuple[str, ...]


@cache
def _read_families() -> dict[str, _Family]:
    keras = find_spec("keras")
    if keras is None or not keras.submodule_search_locations:
        return {}
    folder = Path(keras.submodule_search_locations[0], "src", "applications")
    return {path.stem: _read_family(path) for path in sorted(folder.glob("*.py"))}


def _read_family(path: Path) -> _Family:
    source = path.read_text(encoding="utf-8")
    texts: dict[str, str] = {}
    imports: list[str] = []
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                text = _evaluate(value, texts)
                if text is not None:
                    texts[name] = text
            case ast.ImportFrom(names=names):
                imports += [each.name for each in names]
    return _Family(source, tuple(texts.values()), tuple(imports))


def _evaluate(node: ast.expr, texts: dict[str, str]) -> str | None:
    """Evaluate a text that is written out or put together from texts named above it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) | ast.FormattedValue(value=ast.Name(id=name)):
            return texts.get(name)
        case ast.JoinedStr(values=values):
            pieces = [_evaluate(value, texts) for value in values]
            return None if None in pieces else "".join(filter(None, pieces))
    return None


def _plain(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())
