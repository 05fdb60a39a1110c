"""Fixtures for all tests: the command line in this process, and a separate cache directory."""

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cnnclf.cli.main import main
from cnnclf.hardware import count_usable_cpus, read_memory

# TensorFlow and the networks of the tests, in one process
MEMORY_OF_A_WORKER = 3 * 2**30
MAX_WORKERS = 8

# Tests do not fail because the machine is busy; CI tries the same examples each time.
settings.register_profile(
    "cnnclf",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("cnnclf")


@dataclass(frozen=True)
class CliResult:
    """What one call of the command line returned and printed."""

    code: int
    stdout: str
    stderr: str


Cli = Callable[..., CliResult]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test out of the user's cache directory."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CNNCLF_CACHE_DIR", str(directory))
    return directory


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line: `cli("train", path, "--json")` gives code, stdout and stderr."""

    def call(*arguments: object) -> CliResult:
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return CliResult(code, captured.out, captured.err)

    return call


def pytest_xdist_auto_num_workers() -> int:
    """One process per core, as far as memory allows; with one core, none beside this one."""
    memory = read_memory().available_bytes or MEMORY_OF_A_WORKER
    workers = min(count_usable_cpus(), memory // MEMORY_OF_A_WORKER, MAX_WORKERS)
    return workers if workers > 1 else 0


Close = Callable[[Path], None]


@pytest.fixture
def close_folder() -> Iterator[Close]:
    """Take all rights to a folder away: `close_folder(path)`; root loses its privilege."""
    if os.name != "posix":
        pytest.skip("modes of folders are of POSIX")
    allowed = _set_capabilities(None) if os.geteuid() == 0 else 0
    if allowed is None:
        pytest.skip("the privilege of root cannot be given up here")
    modes: list[tuple[Path, int]] = []

    def close(folder: Path) -> None:
        modes.append((folder, folder.stat().st_mode))
        folder.chmod(0)

    yield close
    for folder, mode in reversed(modes):
        folder.chmod(mode)
    if allowed:
        _set_capabilities(allowed)


def _set_capabilities(effective: int | None) -> int | None:
    """Set the effective capabilities of this thread and of those it starts (Linux).

    Args:
        effective: The lower 32 of them; None: without those that override modes of files.

    Returns:
        Those before; None if they cannot be changed.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "capset"):
        return None
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(header, data) != 0:
        return None
    before = data[0]
    data[0] = before & ~0b110 if effective is None else effective
    return before if libc.capset(header, data) == 0 else None


Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update, which rewrites golden files instead of comparing with them."""
    parser.addoption("--update", action="store_true", help="rewrite golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with the file of a name in tests/golden: `golden("help.txt", text)`."""

    def compare(name: str, text: str) -> None:
        file = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"no golden file {name}: run pytest --update and check it"
        assert text == file.read_text(encoding="utf-8"), f"{name}: pytest --update rewrites it"

    return compare
