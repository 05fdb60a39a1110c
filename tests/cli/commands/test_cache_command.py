"""`cnnclf cache` as a user meets it."""

import json
import os
import time
from pathlib import Path

import pytest

from cnnclf.errors import ExitCode
from tests.conftest import Cli


@pytest.fixture
def filled(own_cache: Path) -> Path:
    """A cache with one entry of each kind, and one that a killed process left."""
    (own_cache / "datasets" / "pets-0123").mkdir(parents=True)
    (own_cache / "datasets" / "pets-0123" / "manifest.csv").write_bytes(b"x" * 3000)
    (own_cache / "stores").mkdir()
    for name in ("abc.u8", "abc.json", ".def.1234.u8"):
        (own_cache / "stores" / name).write_bytes(b"y" * 100)
    description = json.dumps({"source": "pets, 3 images"})
    (own_cache / "stores" / "abc.json").write_text(description.ljust(100))
    (own_cache / "features").mkdir()
    for name in ("feed.json", "feed-0.features", "feed-1.features"):
        (own_cache / "features" / name).write_bytes(b"z" * 10)
    (own_cache / "engine-cache" / "openvino-1").mkdir(parents=True)
    (own_cache / "engine-cache" / "openvino-1" / "model.xml").write_bytes(b"m")
    (own_cache / "of-others").mkdir()
    return own_cache


def test_list_names_each_entry_with_its_size(cli: Cli, filled: Path) -> None:
    result = cli("cache", "list", "--json")
    assert result.code == ExitCode.OK, result.stderr
    entries = json.loads(result.stdout)["entries"]
    twice = cli("cache", "list", "--json", "--kind", "stores", "--kind", "stores")
    assert json.loads(twice.stdout)["entries"] == entries[1:3]
    assert [each["source"] for each in entries] == ["", "pets, 3 images", "", "", ""]
    assert [(each["kind"], each["name"], each["size_bytes"]) for each in entries] == [
        ("datasets", "pets-0123", 3000),
        ("stores", "abc", 200),
        ("stores", ".def.1234.u8", 100),
        ("features", "feed", 30),
        ("engine-cache", "openvino-1", 1),
    ]
    assert [each["unfinished"] for each in entries] == [False, False, True, False, False]


def test_clear_removes_the_entries_and_nothing_else(cli: Cli, filled: Path) -> None:
    result = cli("cache", "clear", "--yes")
    assert result.code == ExitCode.OK, result.stderr
    assert result.stdout.startswith("removed 5 entries with 3")
    assert sorted(path.name for path in filled.rglob("*")) == [
        "datasets",
        "engine-cache",
        "features",
        "of-others",
        "stores",
    ]
    assert cli("cache", "list", "--json").code == ExitCode.OK


def test_clear_takes_one_kind_or_what_is_old(cli: Cli, filled: Path) -> None:
    removed = cli("cache", "clear", "--kind", "features", "--yes")
    assert (removed.code, removed.stdout[:20]) == (ExitCode.OK, "removed 1 entry with")
    assert not list((filled / "features").iterdir())
    old = filled / "stores" / "abc.u8"
    for path in (old, old.with_suffix(".json")):
        os.utime(path, (time.time() - 10 * 86_400,) * 2)
    result = cli("cache", "clear", "--older-than", 5, "--yes", "--json")
    assert [each["name"] for each in json.loads(result.stdout)["removed"]] == ["abc"]
    assert (filled / "datasets" / "pets-0123" / "manifest.csv").exists()


def test_a_dry_run_lists_what_would_be_removed(cli: Cli, filled: Path) -> None:
    before = sorted(filled.rglob("*"))
    result = cli("cache", "clear", "--kind", "datasets", "--dry-run")
    assert result.code == ExitCode.OK, result.stderr
    assert "pets-0123" in result.stdout
    assert "abc" not in result.stdout
    assert "would remove 1 entry with 3" in result.stderr
    assert sorted(filled.rglob("*")) == before


def test_without_a_terminal_nothing_is_removed_unasked(cli: Cli, filled: Path) -> None:
    result = cli("cache", "clear")
    assert result.code == ExitCode.USAGE
    assert "--yes" in result.stderr
    assert (filled / "datasets" / "pets-0123").exists()


def test_an_unknown_kind_is_refused(cli: Cli) -> None:
    result = cli("cache", "list", "--kind", "model")
    assert result.code == ExitCode.USAGE
    assert "datasets, stores, features, engine-cache" in result.stderr


def test_an_empty_cache_is_no_error(cli: Cli) -> None:
    assert cli("cache", "clear").code == ExitCode.OK
    assert "0 entries" in cli("cache", "list").stderr
