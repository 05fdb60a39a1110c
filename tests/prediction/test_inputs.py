"""Finding images: every way to name them, in order, lazily, and nothing unsaid."""

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnnclf.errors import DataError, ExitCode
from cnnclf.names import natural_key
from cnnclf.prediction.inputs import PAUSE, Found, ImageInputs, NoImagesError
from cnnclf.prediction.path_lists import read_list
from cnnclf.prediction.sharding import Shard
from cnnclf.progress import Silent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def find(*inputs: str, stdin: bytes | None = None, excluded: str = "") -> list[str]:
    stream = None if stdin is None else io.BytesIO(stdin)
    over = (Path(excluded),) if excluded else ()
    found = ImageInputs(inputs, stream, over).find()
    return [path + (f" ! {error}" if error else "") for path, error in found]


# --- files and folders


def test_files_keep_their_spelling_and_order(here: Path) -> None:
    touch("b.jpg", "a.jpg", "notes.txt")
    assert find("./b.jpg", "a.jpg", str(here / "a.jpg"), "notes.txt") == [
        "./b.jpg",
        "a.jpg",
        str(here / "a.jpg"),
        "notes.txt",
    ]


def test_folders_are_searched_in_natural_order(here: Path) -> None:
    touch("d/10.jpg", "d/2.JPG", "d/sub/1.png", "d/noending", "d/3.jpg", "d/odd.xyz")
    assert find("d/") == [
        "d/2.JPG",
        "d/3.jpg",
        "d/10.jpg",
        "d/noending",
        "d/odd.xyz",
        "d/sub/1.png",
    ]


def test_what_is_skipped_is_said(here: Path) -> None:
    touch("d/1.jpg", "d/.2.jpg", "d/.git/3.jpg", "d/a.txt", "d/b.TXT", "d/c.json")
    progress = Silent()
    found = list(ImageInputs(["d"], progress=progress).find())
    assert found == [Found("d/1.jpg")]
    assert any("3 files" in note and ".txt 2, .json 1" in note for note in progress.notes)
    assert any("hidden" in note for note in progress.notes)


def test_link_loops_end(here: Path) -> None:
    touch("d/a/1.jpg")
    Path("d/a/up").symlink_to("..", target_is_directory=True)
    Path("d/other").symlink_to("a", target_is_directory=True)
    found = find("d")
    assert "d/a/1.jpg" in found
    assert "d/other/1.jpg" in found
    assert any("leads back" in each for each in found)
    assert len(found) < 10


def test_a_folder_of_results_is_not_searched(here: Path) -> None:
    touch("d/1.jpg", "d/sorted/cat/2.jpg", "d/sorted2/3.jpg")
    assert find("d", excluded="d/sorted") == ["d/1.jpg", "d/sorted2/3.jpg"]


def test_only_results_are_found_and_named(here: Path) -> None:
    touch("d/cat/2.jpg", "d/cat/notes.txt", "d/cat/3.jpg")
    with pytest.raises(NoImagesError, match=r"in d \(skipped 2 files in d/cat, where results"):
        list(ImageInputs(["d"], excluded=(Path("d/cat"), Path("d/dog"))).first())


def test_an_input_given_twice_is_searched_once(here: Path) -> None:
    touch("d/1.jpg", "2.jpg")
    progress = Silent()
    inputs = ImageInputs(["2.jpg", "./2.jpg", "d", "d/", "2.jpg"], progress=progress)
    assert [found.path for found in inputs.find()] == ["2.jpg", "d/1.jpg"]
    assert progress.notes == ["3 paths given more than once: labeled once"]
    kept = ImageInputs(["2.jpg", "d", "2.jpg"], keep_repeated=True)
    assert [found.path for found in kept.find()] == ["2.jpg", "d/1.jpg", "2.jpg"]


def test_what_is_named_beside_the_folder_above_it_is_found_once(here: Path) -> None:
    touch("d/a/1.jpg", "d/a/b/2.jpg", "d/3.jpg", "d/a2/4.jpg", "d/.h/5.jpg", "d/notes.txt")
    assert find("d", "d/a", "d/3.jpg") == ["d/a2/4.jpg", "d/a/1.jpg", "d/a/b/2.jpg", "d/3.jpg"]
    assert find(str(here / "d/a/1.jpg"), ".")[1:] == ["./d/3.jpg", "./d/a/b/2.jpg", "./d/a2/4.jpg"]
    assert find("d/a2", "d/.h", "d/notes.txt") == ["d/a2/4.jpg", "d/.h/5.jpg", "d/notes.txt"]


def test_what_a_pattern_and_another_input_match_is_found_once(here: Path) -> None:
    touch("d/a/1.jpg", "d/a/2.png", "d/3.jpg", "d/4.jpg")
    assert find("d/*.jpg", "d") == ["d/3.jpg", "d/4.jpg", "d/a/1.jpg", "d/a/2.png"]
    assert find("d/**/*.jpg", str(here / "d/3.jpg"), "d/a", "d/[34].jpg") == [
        "d/3.jpg",
        "d/4.jpg",
        "d/a/1.jpg",
        "d/a/2.png",
    ]
    assert find("d/3*", "-", stdin=b"d/3.jpg\nd/3.jpg\n") == ["d/3.jpg"] * 3, "as the list says"
    assert ImageInputs(["d/*.jpg", "d"]).count(threading.Event()) == 4


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on posix only")
def test_names_that_are_no_text_are_found(here: Path) -> None:
    Path("d").mkdir()
    raw = b"d/b\xe4r.jpg"
    with open(raw, "wb"):  # noqa: PTH123 (Path takes no bytes)
        pass
    assert [os.fsencode(path) for path in find("d")] == [raw]
    assert [os.fsencode(path) for path in find("-", stdin=raw)] == [raw]


def test_pipes_are_not_opened(here: Path) -> None:
    os.mkfifo("pipe.jpg")
    touch("a.jpg")
    assert find("pipe.jpg", "a.jpg") == ["pipe.jpg ! not a regular file", "a.jpg"]


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="/proc of Linux")
def test_a_link_to_a_virtual_file_system_is_one_error_row(here: Path) -> None:
    touch("d/a.jpg", "d/z.jpg")
    Path("d/pl").symlink_to("/proc")
    Path("d/zero.jpg").symlink_to("/dev/zero")
    reason = "on a virtual file system, which is not searched"
    assert sorted(find("d")) == [
        "d/a.jpg",
        f"d/pl ! {reason}",
        "d/z.jpg",
        "d/zero.jpg ! not a regular file",
    ]
    with pytest.raises(DataError, match=reason):
        find("/proc")
    assert find("d/*/*.jpg", "d/a.jpg") == [f"d/pl ! {reason}", "d/a.jpg"]
    assert find("d/pl/**/*.jpg", "d/a.jpg") == [f"d/pl ! {reason}", "d/a.jpg"]


@pytest.mark.parametrize("pattern", ["d/**/*.jpg", "d/**/**/*.jpg"])
def test_links_that_lead_back_are_not_followed_by_patterns(here: Path, pattern: str) -> None:
    touch("d/a.jpg", "d/e/b.jpg")
    for name, target in (("e/up", ".."), ("self", "."), ("one", "two"), ("two", "one")):
        Path("d", name).symlink_to(target)
    assert find(pattern) == ["d/a.jpg", "d/e/b.jpg"]


def test_an_unreadable_folder_is_an_error_row(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("d/a/1.jpg", "d/b/1.jpg")
    scandir = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    found = find("d")
    assert "d/b/1.jpg" in found
    assert any(each.startswith("d/a ! ") and "Permission denied" in each for each in found)


# --- huge folders


class Entry:
    """One name of a folder that exists only here."""

    def __init__(self, name: str) -> None:
        self.name = name

    def is_dir(self) -> bool:
        return False

    def is_file(self) -> bool:
        return True


class HugeFolder:
    """Stands in for os.scandir: `count` files in no order, and how many were listed so far."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.listed = 0
        self.folders_listed = 0

    @contextlib.contextmanager
    def __call__(self, path: str) -> Iterator[Iterator[Entry]]:
        yield self._entries()

    def _entries(self) -> Iterator[Entry]:
        for number in range(self.count):
            self.listed += 1
            yield Entry(f"{number * 7919 % self.count}.jpg")
        self.folders_listed += 1


@pytest.mark.parametrize("name", ["d", "d/*.jpg"])
def test_a_huge_folder_is_given_while_it_is_listed(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Path("d").mkdir()
    huge = HugeFolder(200_000)
    monkeypatch.setattr(os, "scandir", huge)
    monkeypatch.setattr(os, "stat", partial(pretend_regular, os.stat))
    found = ImageInputs([name], sort_at_once=1000).find()
    first = [next(found).path for _ in range(1000)]
    assert huge.listed == 1000
    assert first == sorted(first, key=natural_key)
    rest = [each.path for each in found]
    assert len({*first, *rest}) == 200_000
    assert huge.listed == 200_000


def pretend_regular(stat: Callable[[str], os.stat_result], path: str, **how: bool) -> object:
    """Give what stat says, of a file that is not there what it says of a real one."""
    return stat(__file__ if str(path).endswith(".jpg") else path, **how)


def test_a_huge_folder_is_counted_without_being_held(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("d").mkdir()
    huge = HugeFolder(5000)
    monkeypatch.setattr(os, "scandir", huge)
    assert ImageInputs(["d"]).count(threading.Event()) == 5000
    stop = threading.Event()
    stop.set()
    huge.listed = 0
    assert ImageInputs(["d"]).count(stop) is None
    assert huge.listed == 1


# --- shards


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_path_belongs_to_exactly_one_shard(here: Path, count: int) -> None:
    touch(*(f"d/{number}.jpg" for number in range(60)))
    everything = [*find("d"), "no.jpg ! no such file or folder"]
    shards = []
    for index in range(1, count + 1):
        inputs = ImageInputs(["d", "no.jpg"], shard=Shard(index, count))
        shards.append([path + (f" ! {error}" if error else "") for path, error in inputs.find()])
        assert inputs.count(threading.Event()) == len(shards[-1])
    assert sorted(path for shard in shards for path in shard) == sorted(everything)
    for shard in shards:
        assert shard == [path for path in everything if path in shard]
        assert len(shard) > 60 / count / 3


def test_a_shard_without_files_is_no_error(here: Path) -> None:
    touch("a.jpg")
    shards = [list(ImageInputs(["a.jpg"], shard=Shard(each, 9)).first()) for each in range(1, 10)]
    assert sorted(shards, key=len) == [[]] * 8 + [[Found("a.jpg")]]
    with pytest.raises(DataError):
        ImageInputs(["no.jpg"], shard=Shard(1, 2)).first()


# --- nothing there


def test_missing_paths_become_rows_when_something_is_found(here: Path) -> None:
    touch("a.jpg")
    Path("broken.jpg").symlink_to("none")
    assert find("no.jpg", "broken.jpg", "no*.jpg", "a.jpg", "later.jpg") == [
        "no.jpg ! no such file or folder",
        "broken.jpg ! broken link",
        "no*.jpg ! no file matches this pattern",
        "a.jpg",
        "later.jpg ! no such file or folder",
    ]


@pytest.mark.parametrize("inputs", [["no.jpg", "n*.png"], ["empty"], ["-"], []])
def test_nothing_at_all_is_an_error(here: Path, inputs: Sequence[str]) -> None:
    touch("empty/notes.txt")
    with pytest.raises(DataError, match="found no images in") as caught:
        find(*inputs, stdin=b"\n \n")
    assert caught.value.exit_code is ExitCode.DATA


def test_the_first_path_is_looked_for_at_once(here: Path) -> None:
    with pytest.raises(DataError):
        ImageInputs(["no.jpg"]).first()
    touch("a.jpg")
    assert next(ImageInputs(["a.jpg", "no.jpg"]).first()) == Found("a.jpg")


# --- patterns


def test_patterns(here: Path) -> None:
    touch("d/10.jpg", "d/2.jpg", "d/2.png", "d/e/f/3.jpg", "d/e/4.jpg", "d/.h/5.jpg", "d/x[1].jpg")
    assert find("d/*.jpg") == ["d/2.jpg", "d/10.jpg", "d/x[1].jpg"]
    assert find("d/[0-9].*") == ["d/2.jpg", "d/2.png"]
    assert find("*/e/?.jpg") == ["d/e/4.jpg"]
    assert find("d/**/[34].jpg") == ["d/e/4.jpg", "d/e/f/3.jpg"]
    assert find("**/4.jpg") == ["d/e/4.jpg"]
    assert find(str(here / "d" / "*.png")) == [str(here / "d" / "2.png")]
    assert find("d/e*") == ["d/e/4.jpg", "d/e/f/3.jpg"]
    assert find("d/**/*")[-2:] == ["d/e/4.jpg", "d/e/f/3.jpg"]
    assert len(find("d/**")) == len(find("d/**/*")) == 6


def test_a_name_that_looks_like_a_pattern_is_a_name(here: Path) -> None:
    touch("x[1].jpg", "x1.jpg")
    assert find("x[1].jpg") == ["x[1].jpg"]


def test_patterns_do_not_follow_links_in_circles(here: Path) -> None:
    touch("d/1.jpg")
    Path("d/up").symlink_to("..", target_is_directory=True)
    assert find("d/**/*.jpg") == ["d/1.jpg"]


# --- lists


def test_lists_name_files_and_folders(here: Path) -> None:
    touch("a.jpg", "d/1.jpg", "lists/beside.jpg", "with space.jpg")
    Path("lists/l.txt").write_bytes(
        b"\xef\xbb\xbfa.jpg\r\n\r\nd\nbeside.jpg\nwith space.jpg\nno.jpg"
    )
    assert find("@lists/l.txt") == [
        "a.jpg",
        "d/1.jpg",
        "lists/beside.jpg",
        "with space.jpg",
        "no.jpg ! no such file or folder",
    ]


def test_a_list_of_missing_files_is_rows_not_an_error(here: Path) -> None:
    assert find("-", stdin=b"no.jpg\n") == ["no.jpg ! no such file or folder"]
    assert find("-", stdin=b"http://a/b.jpg\n") == [
        "http://a/b.jpg ! an address, which is not downloaded"
    ]


def test_stdin_may_be_separated_by_nul(here: Path) -> None:
    touch("a\n.jpg", "b.jpg")
    assert find("-", stdin=b"a\n.jpg\0b.jpg\0") == ["a\n.jpg", "b.jpg"]


def test_a_list_that_cannot_be_read_is_an_error(here: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the list no\.txt"):
        find("@no.txt")
    with pytest.raises(DataError, match="no stdin"):
        find("-")
    Path("a.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\n")
    with pytest.raises(DataError, match=r"the list of paths a\.jpg is an image"):
        list(ImageInputs(["@a.jpg"]).find())
    Path("wide.txt").write_text("a.jpg\n", encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        find("@wide.txt")


class Dribble(io.BytesIO):
    """Gives a list in pieces, as a slow pipe does."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self._size)


NAMES = st.lists(
    st.binary(min_size=1, max_size=8).filter(
        lambda name: not set(name) & {0, 10, 13} and bool(name.strip())
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(NAMES, st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 7), st.booleans())
@example([b"\x89PNG"], b"\n", 4, False)
@example([b"GIF89a.png", b"b.png"], b"\n", 7, True)
@example([b"\xff\xd8\xff"], b"\n", 4, False)
def test_any_list_comes_back_whatever_its_pieces(
    names: list[bytes], end: bytes, size: int, is_ended: bool
) -> None:
    data = end.join(names) + (end if is_ended else b"")
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return
    assert [os.fsencode(path) for path in read_list(Dribble(data, size), "l")] == names


def test_lists_are_read_lazily() -> None:
    class Endless:
        def __init__(self) -> None:
            self.reads = 0

        def read1(self, size: int = -1, /) -> bytes:
            self.reads += 1
            return b"a.jpg\n" * 10

    stream = Endless()
    paths = read_list(stream, "endless")
    assert [next(paths) for _ in range(25)] == ["a.jpg"] * 25
    assert stream.reads <= 4


@pytest.mark.skipif(os.name != "posix", reason="other systems cannot tell")
def test_a_list_that_has_to_be_waited_for_says_so(here: Path) -> None:
    touch("a.jpg", "b.jpg")
    reading, writing = os.pipe()
    with open(reading, "rb") as stream, open(writing, "wb", buffering=0) as writer:  # noqa: PTH123
        found = ImageInputs(["-"], stream, shard=Shard(1, 1)).find()
        writer.write(b"a.jpg\nb.j")
        assert [next(found), next(found)] == [Found("a.jpg"), PAUSE]
        writer.write(b"pg\n")
        assert next(found) == Found("b.jpg")
        writer.close()
        assert [each for each in found if each is not PAUSE] == []


# --- counting


def test_counting_tells_how_many_rows_there_will_be(here: Path) -> None:
    touch("d/1.jpg", "d/2.jpg", "d/a.txt", "l.jpg")
    Path("l.txt").write_text("l.jpg\nno.jpg\n")
    inputs = ImageInputs(["d", "no.jpg", "@l.txt"])
    assert inputs.count(threading.Event()) == len(list(inputs.find())) == 5
    assert ImageInputs(["no.jpg"]).count(threading.Event()) is None
    assert ImageInputs(["d", "-"], io.BytesIO(b"")).count(threading.Event()) is None
    stop = threading.Event()
    stop.set()
    assert inputs.count(stop) is None


def test_a_list_that_can_be_read_once_is_not_counted(here: Path) -> None:
    os.mkfifo("pipe")
    assert ImageInputs(["@pipe"]).count(threading.Event()) is None
