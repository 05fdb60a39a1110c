"""Runs a job again and again, killed each time at another point, until it is finished.

Run as: python -m tests.prediction.killed_jobs FOLDER OUT SEED; prints how often it was killed.
Each try is a forked process, so that a hundred cost no more than one interpreter's start.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from cnnclf.prediction import row_file
from cnnclf.prediction.inputs import ImageInputs
from cnnclf.prediction.job import PredictionJob
from cnnclf.prediction.label_pipeline import PredictOptions
from cnnclf.prediction.predict import predict_images
from cnnclf.prediction.row_file import open_rows
from cnnclf.prediction.rows import Prediction, RowColumns
from cnnclf.progress import Silent
from tests.prediction.numbers_engine import Numbers

COLUMNS = RowColumns(2)
BATCH = 7


def main() -> None:
    folder, path, rng = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3]))
    plan = [*BEGINNING, *(rng.choice(MIDDLE) for _ in range(20)), *END, no_trap]
    kills, whole = 0, b""
    for trap in plan:
        child = os.fork()
        if child == 0:
            attempt(folder, path, trap, rng.random())
        if trap is at_any_time:
            time.sleep(rng.random() * 0.015)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        rng.random()
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, (trap, status)
            assert trap is no_trap, trap
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        whole = check_rows(path, whole)
        meddle(folder, rng)
    sys.stdout.write(str(kills))


def check_rows(path: Path, whole: bytes) -> bytes:
    """Check that no row that was whole is lost; return all that are whole now."""
    partial = path.with_name(path.name + ".partial")
    assert not path.exists()
    content = partial.read_bytes() if partial.exists() else b""
    assert content.startswith(whole)
    return content[: content.rfind(b"\n") + 1]


def attempt(folder: Path, path: Path, trap: Callable[[float], None], chance: float) -> NoReturn:
    """Run the job in this process, which may be killed, and end the process."""
    code = 1
    try:
        trap(chance)
        run(folder, path)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def run(folder: Path, path: Path) -> None:
    """Run the job, or what is left of it."""
    engine = Numbers()
    engine.broken = {"13.jpg", "77.jpg"}
    inputs = ImageInputs([str(folder)])
    job = PredictionJob.describe(
        "0" * 64, inputs.inputs, columns=COLUMNS, threshold=None, shard=None
    )
    with open_rows(path, COLUMNS, job=job, mode="resume") as rows:
        predict_images(
            engine,
            inputs.first(),
            rows=rows,
            options=PredictOptions(top_k=2, batch_size=BATCH, threads=2),
            progress=Silent(),
            inputs=inputs,
            so_far=rows.so_far,
        )


# --- where to be killed: each takes a number 0..1 and sets its trap


def die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def at_a_row(chance: float) -> None:
    """Before one of the next rows is written."""
    left = int(chance * 20)
    write = row_file.RowFile.write

    def count(self: row_file.RowFile, prediction: Prediction) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            die()
        write(self, prediction)

    row_file.RowFile.write = count  # type: ignore[method-assign]


def in_a_write(chance: float) -> None:
    """When a part of a batch of rows is in the file."""
    left = int(chance * 3)
    write = os.write

    def tear(descriptor: int, data: Any) -> int:
        nonlocal left
        left -= 1
        if left >= 0 or not data:
            return write(descriptor, data)
        write(descriptor, data[: int(chance * 1e6) % len(data)])
        die()

    os.write = tear


def around(name: str, *, is_after: bool) -> Callable[[float], None]:
    """Before or after a step that happens once."""

    def trap(_chance: float) -> None:
        step = getattr(row_file, name)

        def stop(*arguments: Any, **how: Any) -> NoReturn:
            if is_after:
                step(*arguments, **how)
            die()

        setattr(row_file, name, stop)

    return trap


def before_the_rename(_chance: float) -> None:
    """When everything is written, and the rows do not have their name."""
    replace = os.replace

    def stop(source: Any, target: Any) -> None:
        if not str(target).endswith(".json"):
            die()
        replace(source, target)

    os.replace = stop  # type: ignore[assignment]


def at_any_time(_chance: float) -> None:
    """From outside."""


def no_trap(_chance: float) -> None:
    """Not at all."""


BEGINNING = (around("write_job", is_after=False), around("write_job", is_after=True))
MIDDLE = (at_any_time, at_a_row, in_a_write)
END = (around("_finish", is_after=False), before_the_rename)


def meddle(folder: Path, rng: random.Random) -> None:
    """Let files come and go between the tries, if the folder is one for that."""
    if not (folder.parent / "meddle").exists():
        return
    for _ in range(2):
        gone = rng.choice(sorted(folder.glob("*.jpg")))
        gone.unlink()
        (folder / f"{rng.randrange(10_000, 99_999)}.jpg").write_bytes(b"")


if __name__ == "__main__":
    main()
