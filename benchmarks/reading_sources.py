"""What the standard library and NumPy do with hostile sources, and what they cost, beside cnnclf.

Gives the figures of docs/decisions/0010-reading-sources-ourselves.md.
Run from the root of the project: python -m benchmarks.reading_sources
"""

import io
import multiprocessing
import resource
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from cnnclf.config import ImportConfig
from cnnclf.errors import CnnclfError
from cnnclf.images.npy_header import read_npy_header
from cnnclf.importers import IMPORTERS, Source
from cnnclf.importers.importer import ImportJob
from cnnclf.progress import Silent

PNG = b"\x89PNG\r\n\x1a\n"
BOMB_BYTES = 2**28
MEMBERS = 100_000
HEADERS = 20_000


def main() -> None:
    """Print each comparison."""
    with tempfile.TemporaryDirectory() as work:
        compare_extraction(Path(work))
        compare_member_memory(Path(work))
    compare_headers()
    compare_memmaps()


def compare_extraction(work: Path) -> None:
    """Extract archives that no honest program writes."""
    print("\narchive                 tarfile (filter='data')         zipfile                cnnclf")
    for name, members in HOSTILE.items():
        tar, archive = work / "a.tar.gz", work / "a.zip"
        write_tar(tar, members)
        write_zip(archive, members)
        outcomes = [
            extract(work / "tar", partial(extract_tar, tar)),
            extract(work / "zip", partial(extract_zip, archive)),
            extract(work / "own", partial(read_own, tar)),
        ]
        print(f"{name:24}" + "".join(f"{outcome:32}" for outcome in outcomes))


def extract(out: Path, run: Callable[[Path], object]) -> str:
    """Return what came out and what was raised."""
    out = Path(tempfile.mkdtemp(dir=out.parent))
    raised = ""
    try:
        with warnings.catch_warnings(action="ignore"):
            run(out / "images")
    except (CnnclfError, tarfile.TarError, OSError, zipfile.BadZipFile) as error:
        raised = type(error).__name__
    files = [path for path in out.rglob("*") if path.is_file() or path.is_symlink()]
    size = sum(path.lstat().st_size for path in files)
    links = sum(path.is_symlink() for path in files)
    return f"{len(files)} files, {links} links, {size // 1000} kB {raised} "


def extract_tar(source: Path, out: Path) -> None:
    with tarfile.open(source) as archive:
        archive.extractall(out, filter="data")


def extract_zip(source: Path, out: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        archive.extractall(out)


def read_own(source: Path, out: Path) -> None:
    importer = next(row for row in IMPORTERS if row.name == "tar")
    importer.read(Source.of(source), ImportJob(out, ImportConfig(), Silent()))


def plain(name: str, content: bytes = PNG) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


GOOD = [plain("a/1.png"), plain("b/1.png")]
HOSTILE = {
    "name leads out": [*GOOD, plain("../evil.png")],
    "absolute name": [*GOOD, plain("/tmp/evil.png")],
    "link to a member": [*GOOD, link("a/2.png", "../b/1.png")],
    "same name twice": [*GOOD, plain("a/1.png", PNG * 1000)],
    "bomb": [*GOOD, plain("a/2.png", bytes(BOMB_BYTES))],
}


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for info, content in members:
            archive.writestr(info.name, content)


def compare_member_memory(work: Path) -> None:
    """Walk through a tar of many small members."""
    path = work / "many.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(MEMBERS):
            archive.addfile(*((info := plain(f"a/{number}.png"))[0], io.BytesIO(info[1])))
    print(f"\nmemory for the headers of {MEMBERS:,} members")
    for name, forget in (("tarfile", False), ("cnnclf (forgets them)", True)):
        print(f"{name:24}{grown(walk_tar, path, forget) / 1e6:8.0f} MB")


def walk_tar(path: Path, forget: bool) -> None:
    with tarfile.open(path) as archive:
        while archive.next() is not None:
            if forget:
                archive.members.clear()  # type: ignore[attr-defined]


def grown(run: Callable[..., object], *arguments: object) -> float:
    """Return by how many bytes the peak memory of a new process grows."""
    queue: multiprocessing.Queue[float] = multiprocessing.Queue()
    process = multiprocessing.get_context("fork").Process(
        target=_measure, args=(queue, run, arguments)
    )
    process.start()
    process.join()
    return queue.get()


def _measure(
    queue: "multiprocessing.Queue[float]", run: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(*arguments)
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024.0)


def compare_headers() -> None:
    """Read headers of .npy files that were damaged or made to do harm."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 4), np.uint8))
    whole = buffer.getvalue()
    rng = np.random.default_rng(0)
    damaged = []
    for _ in range(HEADERS):
        changed = bytearray(whole)
        changed[rng.integers(8, 70)] = rng.integers(256)
        damaged.append(bytes(changed))
    bomb = b"\x93NUMPY\2\0" + (2**30).to_bytes(4, "little") + bytes(2**30)
    print(f"\n.npy headers            {HEADERS:,} damaged ones raise; MB for one of 1 GiB; us each")
    for name, read in (("numpy.lib.format", read_numpy), ("cnnclf", read_own_header)):
        raised: Counter[str] = Counter()
        with warnings.catch_warnings(action="error"):
            for content in damaged:
                try:
                    read(content)
                except Exception as error:  # noqa: BLE001 - it is what is counted
                    raised[type(error).__name__] += 1
        start = time.process_time()
        for _ in range(5_000):
            read(whole)
        cost = (time.process_time() - start) / 5_000 * 1e6
        print(f"{name:24}{dict(raised)}; {grown(attempt, read, bomb) / 1e6:.0f} MB; {cost:.0f} us")


def read_numpy(content: bytes) -> object:
    stream = io.BytesIO(content)
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    return npy_format.read_array_header_2_0(stream)


def read_own_header(content: bytes) -> object:
    return read_npy_header(io.BytesIO(content).read, "x")


def attempt(read: Callable[[bytes], object], content: bytes) -> None:
    try:
        read(content)
    except (ValueError, CnnclfError):
        return


def compare_memmaps() -> None:
    """Open pixels as a bare file and as .npy, and gather batches of them, in turn."""
    with tempfile.TemporaryDirectory() as work:
        shape = (20_000, 28, 28, 1)
        bare, npy = Path(work, "x.u8"), Path(work, "x.npy")
        bare.write_bytes(bytes(int(np.prod(shape))))
        npy_format.open_memmap(npy, "w+", np.uint8, shape).flush()
        ways: dict[str, Callable[[], np.ndarray]] = {
            "np.memmap (taken)": lambda: np.memmap(bare, np.uint8, "r", shape=shape),
            "open_memmap": lambda: npy_format.open_memmap(npy, "r"),
        }
        rows = np.random.default_rng(0).integers(0, shape[0], 128)
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(50):
            for name, way in ways.items():
                start = time.process_time()
                array = np.asarray(way())
                opened = time.process_time()
                for _ in range(20):
                    np.take(array, rows, axis=0, mode="clip")
                costs[name].append((opened - start, (time.process_time() - opened) / 20))
        print("\npixels                  us to open, us for a batch of 128")
        for name, pairs in costs.items():
            opening, batch = np.median(np.array(pairs), axis=0) * 1e6
            print(f"{name:24}{opening:8.0f}{batch:8.1f}")


if __name__ == "__main__":
    main()
