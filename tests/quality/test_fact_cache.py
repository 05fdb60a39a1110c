"""A dataset is examined once; what changes afterwards is examined again, a damaged cache too."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cnnclf.config import CheckConfig
from cnnclf.data.cache import cache_dir
from cnnclf.data.manifest import load_dataset
from cnnclf.progress import Silent
from cnnclf.quality import fact_cache
from cnnclf.quality.checking import QualityReport, check_dataset
from tests.quality.drawn import FIRST, PLANTS, DrawnSet, draw_scene


def check(drawn: DrawnSet, out: Path) -> QualityReport:
    dataset = drawn.import_into(out) if not out.exists() else load_dataset(out)
    return check_dataset(dataset, config=CheckConfig(), progress=Silent())[0]


def test_an_unchanged_dataset_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS["near-duplicates-across-splits"](drawn)
    first = check(drawn, tmp_path / "dataset")
    with monkeypatch.context() as patch:
        patch.setattr(fact_cache, "measure_images", None)
        again = check(drawn, tmp_path / "dataset")
    assert again.findings == first.findings != ()
    draw_scene(999, "ball").save(drawn.root / FIRST)
    assert {each.check for each in check(drawn, tmp_path / "dataset").findings} == {"changed"}


def test_other_channels_of_the_same_files_are_examined(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS["near-duplicates-across-splits"](drawn)
    dataset = drawn.import_into(tmp_path / "dataset")
    red, all_of_them = [
        fact_cache.open_facts(each, threads=1, progress=Silent())[0].gray
        for each in (replace(dataset, source=dataset.source | {"channels": [0]}), dataset)
    ]
    assert not np.array_equal(red, all_of_them)


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS["near-duplicates-across-splits"](drawn)
    first = check(drawn, tmp_path / "dataset")
    files = list((cache_dir() / "checks").iterdir())
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert check(drawn, tmp_path / "dataset").findings == first.findings


def test_the_day_of_files_gives_labels_away(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    for number, row in enumerate(drawn.rows):
        day = datetime(2024, 1, 1 + number % 20 + (5 if row.label == "box" else 0), tzinfo=UTC)
        if row.label == "box":
            day = day.replace(year=2025)
        os.utime(drawn.root / row.path, (day.timestamp(), day.timestamp()))
    found = check(drawn, tmp_path / "dataset").findings
    assert [each.message.split(" alone")[0] for each in found] == [
        "the day the file was last changed"
    ]
