"""Downloads published weights into Keras's directory; a file there is complete and correct.

Keras's own downloader writes under the final name from the first byte and checks afterwards, so a
process that is killed leaves a partial file, which Keras takes for the whole one where no checksum
is published. Here a file gets its name only when it is complete and matches its checksum.
"""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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


def fetch_published(backbone: Backbone, *, overwrite: bool = False, progress: Progress) -> Path:
    """Return the published weights of a backbone; download them if they are not here.

    Args:
        backbone: A row whose weights are a download.
        overwrite: Download again, and replace the file that is here once the new one is complete.
        progress: Receives the kilobytes downloaded.

    Returns:
        The file, checked.

    Raises:
        RunError: The file here is not the published one, the download failed (the message says
            which file belongs where, the hint how to copy it there), or the directory is not
            writable.
        DeviceError: The disk is full.
    """
    published = backbone.imagenet
    path = find_keras_directory() / published.name
    if path.is_file() and not overwrite:
        check_published(path, backbone)
        return path
    make_keras_directory()
    with atomic_path(path) as temporary:
        try:
            with temporary.open("xb") as file:
                _download(published.url, file, name=f"{backbone.name} weights", progress=progress)
        except _DownloadError as error:
            raise _failure(backbone, path, str(error)) from error
        fault = find_fault(temporary, published)
        if fault:
            raise _failure(backbone, path, fault)
    return path


class _DownloadError(Exception):
    """Why nothing or only a part was received, in words."""


def _download(url: str, file: IO[bytes], *, name: str, progress: Progress) -> None:
    if not url.startswith(("http://", "https://")):  # never a path on this machine
        raise ValueError(f"expected an http or https URL, received {url}")
    request = urllib.request.Request(  # noqa: S310 - checked above
        url, headers={"User-Agent": f"cnnclf/{__version__}"}
    )
    with _network():
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    with answer:
        size = answer.headers.get("Content-Length", "")
        total = int(size) if size.isdigit() else None
        received = reported = 0
        with progress.task(name, None if total is None else total // 1000, unit="kB") as task:
            while True:
                with _network():
                    chunk = answer.read(_CHUNK_BYTES)
                if not chunk:
                    break
                file.write(chunk)
                received += len(chunk)
                task.advance(received // 1000 - reported)
                reported = received // 1000
            if total is not None and received != total:
                raise _DownloadError(f"connection closed after {received:,} of {total:,} bytes")


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


def _failure(backbone: Backbone, path: Path, reason: str) -> RunError:
    published = backbone.imagenet
    known = f"{published.algorithm} {published.digest}" if published.digest else "no checksum known"
    return RunError(
        f"cannot download the ImageNet weights of {backbone.name}: {reason}; the file"
        f" {path.name} ({known}) belongs in {path.parent}",
        f"download {published.url} on another machine, then run here: cnnclf weights import FILE",
    )


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server responded with HTTP {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no data received for {TIMEOUT_S:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return f"connection failed ({reason.strerror})"
    return str(reason) or type(reason).__name__
