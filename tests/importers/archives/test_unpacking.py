import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError, DeviceError
from cnnclf.importers.archives.unpacking import (
    Budget,
    list_unpacked_folder,
    name_source,
    whole_or_nothing,
)
from cnnclf.importers.importer import ImportJob
from cnnclf.progress import Silent


def write_and_stop(path: Path, stop: type[BaseException]) -> None:
    path.write_bytes(b"")
    raise stop


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "images"
    for stop in (ValueError, KeyboardInterrupt):
        with pytest.raises(stop), whole_or_nothing(folder):
            write_and_stop(folder / "half", stop)
        assert not folder.exists()
    with whole_or_nothing(folder):
        (folder / "whole").write_bytes(b"")
    with pytest.raises(DataError, match="not empty"), whole_or_nothing(folder):
        pass
    assert (folder / "whole").exists()


def test_what_does_not_fit_on_the_disk_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    budget = Budget(Path("a.zip"), tmp_path)
    budget.spend(900_000)
    budget.spend(10, files=20)
    with pytest.raises(DeviceError, match=r"unpack a\.zip: it needs 1\.0 MB or more") as caught:
        budget.spend(0, files=6)
    assert "--out" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="the system counts no inodes")
def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = SimpleNamespace(
        f_files=10, f_favail=3, f_frsize=1, f_blocks=0, f_bfree=0, f_bavail=10**9
    )
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    budget = Budget(Path("a.zip"), tmp_path)
    budget.spend(0, files=3)
    with pytest.raises(DeviceError, match="inodes"):
        budget.spend(0)
    status.f_files = 0
    Budget(Path("a.zip"), tmp_path).spend(0, files=9)


def test_an_unpacked_folder_is_listed_or_explained_by_its_source(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    (folder / "cat").mkdir(parents=True)
    job = ImportJob(folder, ImportConfig(), Silent())
    with pytest.raises(DataError) as caught:
        list_unpacked_folder(Path("a.zip"), job)
    assert "a.zip" in caught.value.message
    assert "unpacked" not in caught.value.message
    (folder / "cat" / "1.png").write_bytes(b"")
    listing = list_unpacked_folder(Path("a.zip"), job)
    assert listing.unpacked
    assert [record.path for record in listing.records] == ["cat/1.png"]


def test_errors_speak_of_the_source() -> None:
    error = DataError("bad /tmp/x/a/1.png", "mend /tmp/x/a")
    named = name_source(error, there=Path("/tmp/x"), here=Path("b.zip"))
    assert (named.message, named.hint) == ("bad b.zip/a/1.png", "mend b.zip/a")
