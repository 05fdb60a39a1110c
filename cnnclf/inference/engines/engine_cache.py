"""The engine cache: models converted for engines, so that each is converted only once.

A converted model is a directory in the bundle or, if that is not writable, in the user's cache,
where those of frozen layers, which belong to no bundle, are as well::

    engine-cache/openvino-2026.4.1-0123456789abcdef/      engine, its version, checksum of the model
        form.json  model.xml  model.bin  reference.npz
    engine-cache/openvino-2026.4.1-0123456789abcdef.bfloat16-01234567.json
                                                 its comparison with Keras on a type of processor
    engine-cache/litert-2.3.0-0123456789abcdef.tensorflow.json
                                                 why the model could not be converted

All are written atomically; a converted model whose files have changed is converted again.
"""

import atexit
import contextlib
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnclf.data.cache import cache_dir
from cnnclf.errors import DeviceError, RunError
from cnnclf.files import hash_file, read_json, remove_abandoned, write_json_atomic
from cnnclf.full_disks import DiskFullError, reporting_full_disk, write_error
from cnnclf.hardware import read_cpu_features, read_cpu_name
from cnnclf.progress import Progress
from cnnclf.runs.run_names import ENGINE_CACHE

_FORM_FILE = "form.json"
_FORM_VERSION = 2
_NEW = ".new-"


@dataclass(frozen=True)
class ConversionKey:
    """Identifies a converted model."""

    engine: str
    version: str
    checksum: str

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.engine}-{self.version}-{self.checksum[:16]}"


@dataclass(frozen=True)
class ConvertedModel:
    """A converted model on disk."""

    key: ConversionKey
    directory: Path
    model: Path


class EngineCache:
    """The converted models of one bundle and the verdicts on them.

    Args:
        bundle: Its directory; None for models that belong to none.
        progress: Receives warnings.
        source: What is converted, for people; the directory of the bundle if there is one.
    """

    def __init__(self, bundle: Path | None, progress: Progress, *, source: str = "") -> None:
        self._has_bundle = bundle is not None  # else no option chooses the engine
        own = () if bundle is None else (bundle / ENGINE_CACHE,)
        self._parents = (*own, cache_dir() / ENGINE_CACHE)
        self._progress = progress
        self._source = source if bundle is None else str(bundle.absolute())

    def find(self, key: ConversionKey) -> ConvertedModel | None:
        """Find an intact converted model; warn of a damaged one and skip it."""
        for parent in self._parents:
            directory = parent / key.name
            if not (directory / _FORM_FILE).is_file():
                continue
            problem = _find_damage(key, directory)
            if problem is None:
                name = read_json(directory / _FORM_FILE)["model"]
                return ConvertedModel(key, directory, directory / name)
            self._progress.warn(
                f"the engine cache {directory} is damaged ({problem}); converting again"
            )
        return None

    def make(self, key: ConversionKey, write: Callable[[Path], Path]) -> ConvertedModel:
        """Convert a model into the first cache with enough space; else for this process only.

        Args:
            key: The key.
            write: Writes the files into an empty directory and returns the one to open.

        Raises:
            DeviceError: All disks are full.
        """
        for parent in self._parents:
            # Not tempfile.mkdtemp: users who may read the run may read the cache.
            temporary = parent / f"{_NEW}{secrets.token_hex(4)}"
            try:
                temporary.mkdir(parents=True)
            except OSError:
                continue
            try:
                # Checks the disk before the files are removed, which may free space.
                with reporting_full_disk(parent / key.name, temporary):
                    converted = self._write(key, temporary, write)
                return _publish(converted, parent / key.name)
            except DiskFullError:
                continue
            except OSError as error:
                raise write_error(parent / key.name, error) from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                remove_abandoned(parent, f"{_NEW}*", hours=24)
        parents = " and ".join(map(str, self._parents))
        try:
            directory = Path(tempfile.mkdtemp(prefix="cnnclf-"))
            atexit.register(shutil.rmtree, directory, ignore_errors=True)
            with reporting_full_disk(directory, directory):
                converted = self._write(key, directory, write)
        except (DiskFullError, OSError) as error:
            raise DeviceError(
                f"not enough disk space to convert the model for {key.engine}: {parents} and the "
                "directory for temporary files are full",
                "free some space" + ", or use --engine keras, which needs none" * self._has_bundle,
            ) from error
        self._progress.warn(
            f"{parents} are full or not writable; the model is converted again at each start"
        )
        return converted

    def read_verdict(self, name: str) -> dict[str, Any] | None:
        """Read a verdict; None if there is none that can be read."""
        for parent in self._parents:
            with contextlib.suppress(RunError):  # the comparison is repeated
                return read_json(parent / f"{name}.json")
        return None

    def write_verdict(self, name: str, content: dict[str, Any]) -> None:
        """Store a verdict in the first directory that is writable, if any."""
        for parent in self._parents:
            try:
                write_json_atomic(parent / f"{name}.json", content)
            except (RunError, DeviceError, OSError):
                continue
            return

    def _write(
        self, key: ConversionKey, directory: Path, write: Callable[[Path], Path]
    ) -> ConvertedModel:
        model = write(directory)
        files = {path.name: hash_file(path) for path in sorted(directory.iterdir())}
        content = {"schema_version": _FORM_VERSION, **vars(key), "model": model.name}
        content |= {"files": files, "source": self._source}
        write_json_atomic(directory / _FORM_FILE, content)
        return ConvertedModel(key, directory, model)


def name_comparison(key: ConversionKey, precision: str) -> str:
    """Return the name of the comparison of a converted model on this type of processor."""
    processor = "\n".join([read_cpu_name(), *read_cpu_features()])
    digest = hashlib.sha256(processor.encode()).hexdigest()
    return f"{key.name}.{precision}-{digest[:8]}"


def _find_damage(key: ConversionKey, directory: Path) -> str | None:
    try:
        content = read_json(directory / _FORM_FILE)
        if content["schema_version"] != _FORM_VERSION:
            return f"its format version is {content['schema_version']}"
        if any(content[name] != value for name, value in vars(key).items()):
            return "it belongs to another model"
        for name, checksum in content["files"].items():
            if hash_file(directory / name) != checksum:
                return f"{name} has changed"
        if content["model"] not in content["files"]:
            return "its model is not named"
    except RunError as error:
        return error.message
    except (OSError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _publish(converted: ConvertedModel, target: Path) -> ConvertedModel:
    """Move a converted model to its final path, unless another process was faster."""
    for _ in range(2):
        try:
            converted.directory.rename(target)
        except OSError:
            if target.exists() and _find_damage(converted.key, target) is not None:
                damaged = target.with_name(f"{_NEW}{secrets.token_hex(4)}")
                target.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
                continue
            if not target.exists():
                raise
        break
    return ConvertedModel(converted.key, target, target / converted.model.name)
