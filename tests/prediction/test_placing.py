"""Sorting into class folders: nothing overwritten, nothing lost."""

import contextlib
import errno
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.errors import UsageError
from cnnclf.prediction.placing import Placer, name_folders

LABELS = ("cat", "dog", "a/b", "..")


def make(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tree(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
def test_files_land_in_the_folder_of_their_label(tmp_path: Path, mode: str) -> None:
    source = make(tmp_path / "in" / "1.jpg", "one")
    os.utime(source, (1e9, 1e9))
    placer = Placer(mode, tmp_path / "out", labels=LABELS)
    placed = Path(placer.place(str(source), "cat"))
    assert placed == tmp_path / "out" / "cat" / "1.jpg"
    assert tree(tmp_path / "out") == {"cat/1.jpg": "one"}
    assert source.exists() == (mode != "move")
    assert placed.is_symlink() == (mode == "link")
    assert placed.stat().st_mtime == 1e9


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
def test_names_that_are_taken_get_a_number(tmp_path: Path, mode: str) -> None:
    make(tmp_path / "out" / "cat" / "1.jpg", "mine")
    placer = Placer(mode, tmp_path / "out", labels=LABELS)
    for folder in ("a", "b", "c"):
        placer.place(str(make(tmp_path / folder / "1.jpg", folder)), "cat")
    assert tree(tmp_path / "out") == {
        "cat/1.jpg": "mine",
        "cat/1-2.jpg": "a",
        "cat/1-3.jpg": "b",
        "cat/1-4.jpg": "c",
    }


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_the_same_command_again_makes_no_second_copies(tmp_path: Path, mode: str) -> None:
    files = [make(tmp_path / folder / "1.jpg", folder) for folder in ("a", "b", "c")]
    placed = []
    for _ in range(2):
        placer = Placer(mode, tmp_path / "out", labels=LABELS)
        placed.append([placer.place(str(path), "cat") for path in files])
    assert placed[0] == placed[1]
    assert sorted(tree(tmp_path / "out")) == ["cat/1-2.jpg", "cat/1-3.jpg", "cat/1.jpg"]
    files[0].write_text("A")  # of the same size
    last = Placer(mode, tmp_path / "out", labels=LABELS).place(str(files[0]), "cat")
    assert Path(last).read_text() == "A"
    assert Path(last).name == ("1-4.jpg" if mode == "copy" else "1.jpg")


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
def test_a_dry_run_changes_nothing(tmp_path: Path, mode: str) -> None:
    source = make(tmp_path / "in" / "1.jpg")
    placer = Placer(mode, tmp_path / "out", labels=LABELS, dry_run=True)
    assert placer.place(str(source), "dog") == str(tmp_path / "out" / "dog" / "1.jpg")
    assert tree(tmp_path) == {"in/1.jpg": "x"}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
def test_a_file_that_is_there_already_stays(tmp_path: Path, mode: str) -> None:
    source = make(tmp_path / "out" / "cat" / "1.jpg")
    assert Placer(mode, tmp_path / "out", labels=LABELS).place(str(source), "cat") == str(source)
    assert tree(tmp_path) == {"out/cat/1.jpg": "x"}


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
def test_a_file_that_is_gone_leaves_no_trace(tmp_path: Path, mode: str) -> None:
    placer = Placer(mode, tmp_path / "out", labels=LABELS)
    with pytest.raises(FileNotFoundError):
        placer.place(str(tmp_path / "none.jpg"), "cat")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_moved_like_any_other(tmp_path: Path) -> None:
    source = make(tmp_path / "in" / "1.jpg", "")
    Placer("move", tmp_path / "out", labels=LABELS).place(str(source), "cat")
    assert tree(tmp_path) == {"out/cat/1.jpg": ""}


def test_moving_a_link_keeps_what_it_shows(tmp_path: Path) -> None:
    make(tmp_path / "real" / "1.jpg", "one")
    link = tmp_path / "in" / "2.jpg"
    link.parent.mkdir()
    link.symlink_to(Path("..") / "real" / "1.jpg")
    placed = Path(Placer("move", tmp_path / "out", labels=LABELS).place(str(link), "cat"))
    assert placed.read_text() == "one"
    assert not link.is_symlink()
    assert (tmp_path / "real" / "1.jpg").exists()


def across(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Let renaming the source fail as it does between file systems."""
    replace = os.replace

    def fails(old: Path, new: Path) -> None:
        if Path(old) == source:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(old, new)

    monkeypatch.setattr(os, "replace", fails)


def test_moving_to_another_file_system_copies_then_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "in" / "1.jpg", "one")
    across(monkeypatch, source)
    placed = Placer("move", tmp_path / "out", labels=LABELS).place(str(source), "cat")
    assert tree(tmp_path) == {"out/cat/1.jpg": "one"}
    assert placed == str(tmp_path / "out" / "cat" / "1.jpg")


def test_a_bad_copy_never_costs_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "in" / "1.jpg", "one")
    across(monkeypatch, source)
    monkeypatch.setattr("shutil.copyfileobj", lambda reader, writer, size: writer.write(b"two"))
    with pytest.raises(OSError, match="differs"):
        Placer("move", tmp_path / "out", labels=LABELS).place(str(source), "cat")
    assert tree(tmp_path) == {"in/1.jpg": "one"}


def test_a_full_disk_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "in" / "1.jpg", "one")
    across(monkeypatch, source)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="space"):
        Placer("move", tmp_path / "out", labels=LABELS).place(str(source), "cat")
    assert tree(tmp_path) == {"in/1.jpg": "one"}


def test_an_interrupt_at_any_moment_never_costs_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step, name in enumerate(("open", "replace", "unlink", "rename")):
        for is_after in (False, True):
            source = make(tmp_path / f"{step}{is_after}" / "in" / "1.jpg", "one")
            out = source.parent.parent / "out"
            original = getattr(os, name)

            def stops(
                *args: object, _original: object = original, _after: bool = is_after, **kw: object
            ) -> None:
                if _after:
                    _original(*args, **kw)  # type: ignore[operator]
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(os, name, stops)
                with contextlib.suppress(KeyboardInterrupt):
                    Placer("move", out, labels=LABELS).place(str(source), "cat")
            contents = list(tree(source.parent.parent).values())
            assert contents.count("one") == 1, (name, is_after)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        Placer("copy", make(tmp_path / "out"), labels=LABELS)


def test_labels_become_folders_inside(tmp_path: Path) -> None:
    placer = Placer("copy", tmp_path / "out", labels=LABELS)
    source = make(tmp_path / "1.jpg")
    for label in (*LABELS, "unknown"):
        placed = Path(placer.place(str(source), label))
        assert placed.parent.parent == tmp_path / "out"
    assert len(tree(tmp_path / "out")) == 5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=6))
def test_folders_are_legal_and_different(labels: list[str]) -> None:
    labels = [label.encode("utf-8", "ignore").decode() or "x" for label in labels]
    folders = name_folders(labels)
    names = [folders[label] for label in dict.fromkeys([*labels, "unknown"])]
    assert len({name.casefold() for name in names}) == len(names)
    assert all("/" not in name and name not in {"", ".", ".."} for name in names)


def test_a_member_of_a_tar_file_is_copied_but_never_moved(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x.jpg")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"bytes"))
    path = str(tmp_path / "a.tar" / "512+5" / "x.jpg")
    placed = Placer("copy", tmp_path / "out", labels=LABELS).place(path, "cat")
    assert Path(placed).read_bytes() == b"bytes"
    for mode in ("move", "link"):
        with pytest.raises(OSError, match="in a tar file it cannot be"):
            Placer(mode, tmp_path / "other", labels=LABELS).place(path, "cat")
    assert not (tmp_path / "other").exists()
