"""Watching folders: what comes is taken once, and not before it is whole."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import ImageError, UsageError
from cnnclf.prediction import new_files
from cnnclf.prediction.inputs import PAUSE, ImageInputs
from cnnclf.prediction.label_pipeline import PredictOptions
from cnnclf.prediction.new_files import FolderWatch, check_watchable
from cnnclf.prediction.path_set import PathSet
from cnnclf.prediction.placing import Placer
from cnnclf.prediction.predict import watch_images
from cnnclf.prediction.rows import Prediction
from cnnclf.prediction.summary import SoFar
from cnnclf.progress import Silent
from tests.prediction.numbers_engine import Numbers, Rows


class World:
    """A folder, and a clock that only goes on when somebody waits."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.now_s = 1_000_000.0
        self.steps: list[Callable[[], object]] = []
        monkeypatch.setattr(time, "time", lambda: self.now_s)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def put(self, name: str, *, size: int = 1, age_s: float = 0.0) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (self.now_s - age_s,) * 2)
        return str(path)

    def sleep(self, seconds: float) -> None:
        """Let time pass and the next thing happen; after the last one Ctrl-C is pressed."""
        self.now_s += seconds
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()

    def inputs(self) -> ImageInputs:
        return ImageInputs([str(self.folder)], may_be_empty=True)

    def watch(self, **how: Any) -> FolderWatch:
        return FolderWatch(self.inputs(), PathSet(), sleep=self.sleep, **how)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path / "inbox", monkeypatch)


def nothing() -> None:
    pass


def look(watch: FolderWatch) -> list[str]:
    """Give what comes until Ctrl-C, a "-" for each wait."""
    found = []
    try:
        for item in watch.find():
            found.append("-" if item is PAUSE else Path(item.path).name)
    except KeyboardInterrupt:
        return found
    raise AssertionError("watching ended by itself")


def test_what_is_there_comes_first_and_then_what_comes(world: World) -> None:
    world.put("1.jpg", age_s=100)
    world.put("2.jpg", age_s=100)
    world.steps = [lambda: world.put("3.jpg"), nothing, nothing, nothing]
    assert look(world.watch()) == ["1.jpg", "2.jpg", "-", "-", "-", "3.jpg", "-", "-"]


def test_an_empty_folder_is_waited_at(world: World) -> None:
    world.folder.mkdir()
    world.steps = [lambda: world.put("sub/1.jpg", age_s=100)]
    assert look(world.watch()) == ["-", "1.jpg", "-"]


def test_a_file_that_grows_is_not_taken(world: World) -> None:
    world.folder.mkdir()
    world.steps = [
        *(lambda size=size: world.put("1.jpg", size=size) for size in range(1, 7)),
        nothing,
        nothing,
        nothing,
    ]
    assert look(world.watch()) == [*["-"] * 8, "1.jpg", "-", "-"]


def test_an_empty_file_is_given_time_to_be_filled(world: World) -> None:
    world.put("1.jpg", size=0)
    world.steps = [*[nothing] * 20, lambda: world.put("1.jpg", size=5), *[nothing] * 3]
    assert look(world.watch()) == [*["-"] * 23, "1.jpg", "-", "-"]
    world.put("2.jpg", size=0)
    world.steps = [nothing] * 35
    found = look(world.watch())
    assert found.index("2.jpg") > 30


def test_a_file_that_came_and_went_is_forgotten(world: World) -> None:
    path = Path(world.put("1.jpg"))
    world.steps = [path.unlink, nothing, nothing]
    watch = world.watch()
    assert look(watch) == ["-"] * 4
    assert not watch._unsettled


def test_a_folder_that_goes_away_may_come_back(world: World) -> None:
    world.put("1.jpg", age_s=100)
    away = world.folder.with_name("away")
    world.steps = [
        lambda: world.folder.rename(away),
        lambda: away.rename(world.folder),
        lambda: world.put("2.jpg", age_s=100),
    ]
    assert look(world.watch()) == ["1.jpg", "-", "-", "-", "2.jpg", "-"]


def test_only_so_many_files_are_waited_for_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_files, "_MAX_UNSETTLED", 3)
    for number in range(8):
        world.put(f"{number}.jpg")
    world.steps = [nothing] * 12
    watch = world.watch()
    found = [name for name in look(watch) if name != "-"]
    assert sorted(found) == [f"{number}.jpg" for number in range(8)]


def test_listing_takes_a_fifth_of_the_time_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def slow(self: ImageInputs) -> Any:
        world.now_s += 3.0
        return iter(())

    def wait(seconds: float) -> None:
        waits.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageInputs, "find", slow)
    look(FolderWatch(world.inputs(), PathSet(), sleep=wait))
    assert waits == [pytest.approx(15)]


# --- with rows


def run(world: World, **how: Any) -> list[str]:
    rows = Rows()
    with pytest.raises(KeyboardInterrupt):
        watch_images(
            how.pop("engine", Numbers()),
            world.inputs(),
            rows=rows,
            options=PredictOptions(batch_size=4),
            progress=Silent(),
            sleep=world.sleep,
            **how,
        )
    return [Path(row.path).name + (" !" if row.error else "") for row in rows]


def test_every_file_gets_one_row_and_the_threads_end(world: World) -> None:
    before = threading.active_count()
    for number in range(6):
        world.put(f"{number}.jpg", age_s=100)
    world.steps = [
        lambda: [world.put(f"{number}.jpg", age_s=100) for number in range(4, 9)],
        lambda: world.put("1.jpg", size=9, age_s=100),  # changed: it has its row
        lambda: world.put("9.jpg", age_s=100),
    ]
    assert run(world) == [f"{number}.jpg" for number in range(10)]
    assert threading.active_count() == before


def test_an_idle_watch_is_silent(world: World) -> None:
    class Counting(Silent):
        amounts: list[int] = []  # noqa: RUF012

        @contextmanager
        def task(self, *_: Any, **__: Any) -> Iterator[Any]:
            yield SimpleNamespace(advance=self.amounts.append, describe=self.note)

    world.put("0.jpg", age_s=100)
    world.put("lost+found/1.jpg")
    world.put("notes.txt")
    world.steps = [lambda: None] * 5
    progress = Counting()
    with pytest.raises(KeyboardInterrupt):
        watch_images(
            Numbers(),
            replace(world.inputs(), progress=progress),
            rows=Rows(),
            options=PredictOptions(),
            progress=progress,
            sleep=world.sleep,
        )
    assert progress.amounts == [1]
    assert [note.partition(":")[0] for note in progress.notes] == [
        "skipped 1 file in folders that are not images by name (.txt 1)",
        "hidden folders skipped",
    ]


def test_rows_are_there_before_the_next_wait(world: World) -> None:
    rows_seen: list[int] = []
    rows = Rows()
    world.put("0.jpg", age_s=100)

    def look_and_put() -> None:
        rows_seen.append(len(rows))
        world.put("1.jpg", age_s=100)

    world.steps = [look_and_put, lambda: rows_seen.append(len(rows))]
    with pytest.raises(KeyboardInterrupt):
        watch_images(
            Numbers(),
            world.inputs(),
            rows=rows,
            options=PredictOptions(),
            progress=Silent(),
            sleep=world.sleep,
        )
    assert rows_seen == [1, 2]


def test_a_job_that_continues_doubles_nothing(world: World) -> None:
    so_far = SoFar()
    for number in range(4):
        path = world.put(f"{number}.jpg", age_s=100)
        if number < 3:
            so_far.add({"path": path, "label": "even"})
    assert run(world, so_far=so_far) == ["3.jpg"]
    assert (so_far.summary.files, so_far.summary.earlier) == (4, 3)


def test_a_file_that_is_written_again_while_it_is_read_is_no_error(world: World) -> None:
    class Half(Numbers):
        """The first time somebody writes to 1.jpg just then."""

        times = 0

        def decode(self, source: Path | bytes) -> np.ndarray:
            if Path(str(source)).name == "1.jpg" and self.times == 0:
                self.times += 1
                world.put("1.jpg", size=5)
                raise ImageError("expected a whole JPEG")
            return super().decode(source)

    world.put("0.jpg", age_s=100)
    world.put("1.jpg", age_s=100)
    world.steps = [nothing] * 4
    assert run(world, engine=Half()) == ["0.jpg", "1.jpg"]


def test_a_bad_file_gets_one_row(world: World) -> None:
    engine = Numbers()
    engine.broken = {"1.jpg"}
    world.put("1.jpg", age_s=100)
    world.steps = [nothing] * 4
    assert run(world, engine=engine) == ["1.jpg !"]


def test_where_files_are_moved_away_a_name_may_come_again(world: World, tmp_path: Path) -> None:
    world.put("1.jpg", age_s=100)
    world.steps = [lambda: world.put("1.jpg", age_s=100), nothing]
    placer = Placer("move", tmp_path / "sorted", labels=Numbers.labels)
    assert run(world, placer=placer) == ["1.jpg", "1.jpg"]
    assert sorted(path.name for path in tmp_path.glob("sorted/odd/*")) == ["1-2.jpg", "1.jpg"]


def test_what_new_files_cannot_come_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("")
    check_watchable([str(tmp_path), "photos/*.jpg"])
    for item in ("-", "@list.txt", str(tmp_path / "a.jpg"), str(tmp_path / "no")):
        with pytest.raises(UsageError, match="with --watch"):
            check_watchable([str(tmp_path), item])


def test_accepting_is_about_files_not_about_luck(world: World) -> None:
    watch = world.watch()
    path = world.put("1.jpg", age_s=-50)  # a clock that is ahead is no sign of writing
    assert watch.accept(Prediction(path, error="bad"))
    assert watch.accept(Prediction(str(world.folder / "gone.jpg"), error="gone"))
    assert not watch.accept(Prediction(world.put("1.jpg", age_s=1), error="bad"))
