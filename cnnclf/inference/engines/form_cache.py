"""The engine cache: what engines made of a bundle's model, kept so that it is made once.

A form is a directory beside the bundle or, where that cannot be written, in the user's cache::

    engine-cache/openvino-2026.4.1-0123456789abcdef/      engine, its version, checksum of the model
        form.json  model.xml  model.bin  reference.npz
    engine-cache/openvino-2026.4.1-0123456789abcdef.bfloat16-01234567.json
                                                 how it compares on one kind of processor
    engine-cache/litert-2.3.0-0123456789abcdef.tensorflow.json
                                                 why there is no form

All are written whole or not at all; a form whose files have changed is made again.
"""

import atexit
import contextlib
import hashlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnclf.data.cache import cache_dir
from cnnclf.errors import DeviceError, RunError
from cnnclf.files import (
    DiskFullError,
    read_json,
    reporting_full_disk,
    write_error,
    write_json_atomic,
)
from cnnclf.hardware import read_cpu_features, read_cpu_name
from cnnclf.progress import Progress
from cnnclf.runs import ENGINE_CACHE

_FORM_FILE = "form.json"
_FORM_VERSION = 2
_NEW = ".new-"
_ABANDONED_S = 24 * 3600


@dataclass(frozen=True)
class FormKey:
    """What a form depends on.

    Args:
        engine: Name of the engine's row.
        version: Version of its package.
        checksum: Of the model.
    """

    engine: str
    version: str
    checksum: str

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.engine}-{self.version}-{self.checksum[:16]}"


@dataclass(frozen=True)
class Form:
    """A form on the disk.

    Args:
        key: What it was made of.
        directory: Where it lies.
        model: The file for the engine to open.
    """

    key: FormKey
    directory: Path
    model: Path


class EngineCache:
    """The forms of one bundle and what is known of them, beside it or in the user's cache.

    Args:
        bundle: Where the bundle lies.
        progress: Told what is damaged.
    """

    def __init__(self, bundle: Path, progress: Progress) -> None:
        self._places = (bundle / ENGINE_CACHE, cache_dir() / ENGINE_CACHE)
        self._progress = progress

    def find(self, key: FormKey) -> Form | None:
        """Find a form that is whole; a damaged one is told and passed over."""
        for place in self._places:
            directory = place / key.name
            if not (directory / _FORM_FILE).is_file():
                continue
            problem = _find_damage(key, directory)
            if problem is None:
                name = read_json(directory / _FORM_FILE)["model"]
                return Form(key, directory, directory / name)
            self._progress.warn(
                f"the engine cache {directory} is damaged ({problem}) and is made again"
            )
        return None

    def make(self, key: FormKey, write: Callable[[Path], Path]) -> Form:
        """Make a form in the first place that has room for it; else for this process only.

        Args:
            key: What it depends on.
            write: Writes the files into an empty directory and returns the one to open.

        Raises:
            DeviceError: All disks are full.
        """
        for place in self._places:
            # Not tempfile.mkdtemp: others who may read the run may read this.
            temporary = place / f"{_NEW}{secrets.token_hex(4)}"
            try:
                temporary.mkdir(parents=True)
            except OSError:
                continue
            try:
                # Before what was written is removed, which may leave room again.
                with reporting_full_disk(place / key.name, temporary):
                    form = _describe(key, temporary, write)
                return _publish(form, place / key.name)
            except DiskFullError:
                continue
            except OSError as error:
                raise write_error(place / key.name, error) from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                _remove_abandoned(place)
        places = " and ".join(map(str, self._places))
        try:
            directory = Path(tempfile.mkdtemp(prefix="cnnclf-"))
            atexit.register(shutil.rmtree, directory, ignore_errors=True)
            with reporting_full_disk(directory, directory):
                form = _describe(key, directory, write)
        except (DiskFullError, OSError) as error:
            raise DeviceError(
                f"expected room for what {key.engine} makes of the model in {places} or where "
                "temporary files are, found none",
                "free some space, or use --engine keras, which needs none",
            ) from error
        self._progress.warn(
            f"{places} cannot be written or are full, so that the next start takes as long"
        )
        return form

    def read_verdict(self, name: str) -> dict[str, Any] | None:
        """Read what is known under a name; None if nothing is."""
        for place in self._places:
            with contextlib.suppress(RunError):  # it is found out again
                return read_json(place / f"{name}.json")
        return None

    def write_verdict(self, name: str, content: dict[str, Any]) -> None:
        """Keep what was found out, where that is possible."""
        for place in self._places:
            try:
                write_json_atomic(place / f"{name}.json", content)
            except (RunError, DeviceError, OSError):
                continue
            return


def name_comparison(key: FormKey, precision: str) -> str:
    """Name the verdict on a form in one precision on this kind of processor."""
    processor = "\n".join([read_cpu_name(), *read_cpu_features()])
    digest = hashlib.sha256(processor.encode()).hexdigest()
    return f"{key.name}.{precision}-{digest[:8]}"


def _describe(key: FormKey, directory: Path, write: Callable[[Path], Path]) -> Form:
    model = write(directory)
    files = {path.name: _hash_file(path) for path in sorted(directory.iterdir())}
    content = {"schema_version": _FORM_VERSION, **vars(key), "model": model.name, "files": files}
    write_json_atomic(directory / _FORM_FILE, content)
    return Form(key, directory, model)


def _find_damage(key: FormKey, directory: Path) -> str | None:
    try:
        content = read_json(directory / _FORM_FILE)
        if content["schema_version"] != _FORM_VERSION:
            return f"its format version is {content['schema_version']}"
        if any(content[name] != value for name, value in vars(key).items()):
            return "it belongs to another model"
        for name, checksum in content["files"].items():
            if _hash_file(directory / name) != checksum:
                return f"{name} has changed"
        if content["model"] not in content["files"]:
            return "its model is not named"
    except RunError as error:
        return error.message
    except (OSError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _publish(form: Form, target: Path) -> Form:
    """Move a finished form to its place; what another process put there meanwhile stays."""
    for _ in range(2):
        try:
            form.directory.rename(target)
        except OSError:
            if target.exists() and _find_damage(form.key, target) is not None:
                away = target.with_name(f"{_NEW}{secrets.token_hex(4)}")
                target.rename(away)
                shutil.rmtree(away, ignore_errors=True)
                continue
            if not target.exists():
                raise
        break
    return Form(form.key, target, target / form.model.name)


def _remove_abandoned(place: Path) -> None:
    """Remove what a killed process left."""
    for path in place.glob(f"{_NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
