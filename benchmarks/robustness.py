"""How the command line survives kill -9, full disks, odd files and damaged files; it counts.

Every figure is a count of what happened in this run, with this seed; nothing is said about what was
not tried. The table belongs into docs/reliability.md. Run from the root of the project:

    python -m benchmarks.robustness [--kills 10] [--damaged 100] [--seed 0] [--only kills,disk,...]
"""

import argparse
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_data" / "x_or_o"
ODD = ROOT / "sample_data" / "odd_images"
TINY = ROOT / "sample_data" / "tiny_run"
_TIMEOUT_S = 600
_FEW_BYTES = 2000  # the limit of file sizes that stands for a full disk
_NO_CHECKPOINT = 100_000  # enough for a manifest and a plan
_ON_KERAS = ("--engine", "keras")
_IN_RAM = ("--cache", "ram")
_TO_OUT = ("--out", "out", "--no-verify")


class Done(NamedTuple):
    """How a process ended."""

    code: int
    stderr: str
    seconds: float

    @property
    def is_fault(self) -> bool:
        """Whether it ended with a bug or a traceback, or through a signal that nobody sent."""
        return self.code in (1, -signal.SIGSEGV, -signal.SIGABRT) or "Traceback" in self.stderr


class Row(NamedTuple):
    """A line of the table."""

    what: str
    tried: int
    outcome: str
    faults: int


def run(
    *words: object, place: Path, kill_after_s: float | None = None, max_bytes: int | None = None
) -> Done:
    """Run a command line in a process of its own.

    Args:
        *words: After `cnnclf`.
        place: The working directory, with the cache and temporary files of the process.
        kill_after_s: When to kill it with SIGKILL; None: never.
        max_bytes: The largest file that it may write.
    """

    def limit() -> None:
        if max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    (place / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "CNNCLF_CACHE_DIR": str(place / "cache"),
        "TMPDIR": str(place / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    began_s = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cnnclf", *map(str, words)],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=limit,  # noqa: PLW1509 - this process has one thread
        )
        try:
            process.wait(_TIMEOUT_S if kill_after_s is None else kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.seek(0)
        return Done(process.returncode, log.read(), time.perf_counter() - began_s)


class Job(NamedTuple):
    """Something that is killed and continued until it is done.

    Args:
        name: For the table.
        start: The words that start it.
        resume: The words that continue it, once it has begun.
        begun: The path that shows that it has begun.
        read: Reads its result, which must be that of a run that nobody killed.
    """

    name: str
    start: tuple[object, ...]
    resume: tuple[object, ...]
    begun: str
    read: Callable[[Path], object]


JOBS = (
    Job(
        "import",
        ("import", SAMPLES, "--copy", "--out", "out"),
        ("import", SAMPLES, "--copy", "--out", "out", "--overwrite"),
        "out",
        lambda place: (place / "out" / "manifest.csv").read_bytes(),
    ),
    Job(
        "predict",
        # the same command from the beginning, as docs/how-to/predict.md has it
        ("predict", TINY, SAMPLES, "--out", "rows.csv", "--engine", "keras", "--resume"),
        ("predict", TINY, SAMPLES, "--out", "rows.csv", "--engine", "keras", "--resume"),
        "rows.csv",
        lambda place: (place / "rows.csv").read_bytes(),
    ),
    Job(
        "train",
        ("train", SAMPLES, "--preset", "tiny", "--epochs", 8, "--out", "run"),
        ("train", "--resume", "run"),
        "run/plan.json",
        lambda place: _read_run(place / "run"),
    ),
    Job(
        "finetune",
        ("finetune", SAMPLES, "--head-epochs", 2, "--unfreeze", "none", "--out", "run"),
        ("finetune", "--resume", "run"),
        "run/plan.json",
        lambda place: _read_run(place / "run"),
    ),
)


def _read_run(path: Path) -> object:
    """Read what must not depend on interruptions: all epochs but their times, and all labels."""
    with (path / "history.csv").open(newline="") as file:
        history = [
            {key: cell for key, cell in row.items() if not key.endswith(("_s", "seconds", "share"))}
            for row in csv.DictReader(file)
        ]
    with (path / "evaluation" / "test" / "predictions.csv").open(newline="") as file:
        return history, list(csv.DictReader(file))


def kill_job(job: Job, kills: int, rng: random.Random) -> Row:
    """Kill a job at random moments, continue it each time, and compare the result."""
    faults: Counter[str] = Counter()
    done_kills = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        whole.mkdir()
        first = run(*job.start, place=whole)
        expected = job.read(whole)
        rounds = 0
        while done_kills < kills:
            rounds += 1
            place = Path(folder, f"killed-{rounds}")
            place.mkdir()
            if (whole / "cache").exists():
                shutil.copytree(whole / "cache", place / "cache")
            while True:
                is_last = done_kills >= kills
                after_s = None if is_last else rng.uniform(0, first.seconds)
                words = job.resume if (place / job.begun).exists() else job.start
                ended = run(*words, place=place, kill_after_s=after_s)
                if ended.code == -signal.SIGKILL:
                    done_kills += 1
                    continue
                faults["faults"] += ended.is_fault
                break
            if ended.code != 0:
                faults[f"exit code {ended.code}"] += 1
            elif job.read(place) != expected:
                faults["other result"] += 1
            left = [path.name for path in place.rglob(".*.importing")]
            left += [path.name for path in (place / "tmp").iterdir()]
            faults["leftovers"] += len(left)
    named = ", ".join(f"{count} {name}" for name, count in faults.items() if count)
    outcome = (
        f"{rounds} results, {named or 'all equal to that of an undisturbed run, none left over'}"
    )
    return Row(f"{job.name}: kill -9 at random moments", done_kills, outcome, faults.total())


def try_full_disk() -> Iterator[Row]:
    """Let each command write files of a few bytes only, or larger ones but no checkpoint."""
    short = ("--epochs", 1, "--image-size", 16, "--filters", "32,64,128", "--device", "cpu")
    head = ("--backbone", "mobilenet", "--weights", "none", "--image-size", 32, "--head-epochs", 1)
    commands: Sequence[tuple[str, tuple[object, ...], int]] = (
        ("import", ("import", SAMPLES, "--out", "out"), _FEW_BYTES),
        ("predict", ("predict", TINY, SAMPLES, "-o", "rows.csv", *_ON_KERAS), _FEW_BYTES),
        ("augment-preview", ("augment-preview", SAMPLES, "--augment", "light"), _FEW_BYTES),
        ("evaluate", ("evaluate", TINY, SAMPLES, "--out", "report", *_ON_KERAS), _FEW_BYTES),
        ("train, images", ("train", SAMPLES, "-o", "run", *short), _NO_CHECKPOINT),
        ("train, checkpoint", ("train", SAMPLES, "-o", "run", *short, *_IN_RAM), _NO_CHECKPOINT),
        ("finetune, features", ("finetune", SAMPLES, "-o", "run", *head, *_IN_RAM), _NO_CHECKPOINT),
        (
            "finetune, checkpoint",
            ("finetune", SAMPLES, "-o", "run", *head, *_IN_RAM, "--no-feature-cache"),
            _NO_CHECKPOINT,
        ),
        *(
            (f"export to {kind}", ("export", TINY, "--format", kind, *_TO_OUT), _FEW_BYTES)
            for kind in ("keras", "onnx", "openvino", "savedmodel")
        ),
    )
    for name, words, max_bytes in commands:
        with tempfile.TemporaryDirectory() as folder:
            done = run(*words, place=Path(folder), max_bytes=max_bytes)
            left = [path.name for path in Path(folder).iterdir() if path.name.startswith(".")]
        outcome = f"exit code {done.code}" + (f", left {left}" if left else "")
        yield Row(f"{name}: no room for its files", 1, outcome, int(done.code != 6 or bool(left)))


def try_odd_images() -> Row:
    """Label every odd image: each must have exactly one row."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = sorted(path for path in ODD.iterdir() if path.name != "README.md")
        done = run("predict", TINY, *files, "-o", "rows.csv", "--engine", "keras", place=place)
        with (place / "rows.csv").open(newline="", encoding="utf-8", errors="replace") as file:
            rows = Counter(row["path"] for row in csv.DictReader(file))
    missing = sum(str(path) not in rows for path in files)
    doubled = sum(count > 1 for count in rows.values())
    outcome = f"{missing} without a row, {doubled} with two, exit code {done.code}"
    return Row("predict: odd images", len(files), outcome, missing + doubled + done.is_fault)


def damage_files(count: int, rng: random.Random) -> Row:
    """Change bytes of the files that the program wrote itself, and read them again."""
    codes: Counter[int] = Counter()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run("import", SAMPLES, "--out", "dataset", place=place)
        targets = [
            ("dataset/dataset.json", ("train", "dataset", "--dry-run")),
            ("dataset/manifest.csv", ("train", "dataset", "--dry-run")),
            ("run/plan.json", ("runs", "show", "run")),
            ("run/run.json", ("runs", "list", ".")),
            ("run/checkpoints/best/classifier.json", ("describe", "run")),
        ]
        shutil.copytree(TINY, place / "run")
        for _ in range(count):
            name, words = rng.choice(targets)
            original = (place / name).read_bytes()
            (place / name).write_bytes(_damage(original, rng))
            done = run(*words, place=place)
            codes[done.code] += 1
            faults += done.is_fault
            (place / name).write_bytes(original)
    outcome = ", ".join(f"{times} exit code {code}" for code, times in sorted(codes.items()))
    return Row("own files with changed bytes", count, outcome, faults)


def _damage(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed))
        changed[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    return bytes(changed[: rng.randint(1, len(changed))] if rng.random() < 0.2 else changed)


def main() -> None:
    """Try everything that was asked for and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each job (default 10)")
    parser.add_argument("--damaged", type=int, default=100, help="damaged files (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    names = ["kills", "disk", "odd", "damaged"]
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    jobs = ",".join(job.name for job in JOBS)
    parser.add_argument("--jobs", default=jobs, help=f"jobs to kill, some of {jobs}")
    options = parser.parse_args()
    rng = random.Random(options.seed)

    def rows() -> Iterator[Row]:
        chosen = options.only.split(",")
        if "odd" in chosen:
            yield try_odd_images()
        if "damaged" in chosen:
            yield damage_files(options.damaged, rng)
        if "disk" in chosen:
            yield from try_full_disk()
        if "kills" in chosen:
            wanted = options.jobs.split(",")
            yield from (kill_job(job, options.kills, rng) for job in JOBS if job.name in wanted)

    print("| what was tried | times | outcome | faults |\n|---|---|---|---|", flush=True)
    faults = 0
    for row in rows():
        faults += row.faults
        print(f"| {row.what} | {row.tried} | {row.outcome} | {row.faults} |", flush=True)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
