"""Near duplicates stay in one split, in groups of limited size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import DataError
from cnnclf.importers import ImportReport, import_source
from cnnclf.progress import Silent
from tests.quality.drawn import draw_scene

PER_CLASS, COPIES = 60, 10


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of drawn scenes; of the first ten of each there is a smaller copy."""
    for label in ("ball", "box"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(PER_CLASS):
            image = draw_scene(2 * number + (label == "box"), label)
            image.save(tmp_path / "photos" / label / f"{number:03}.png")
            if number < COPIES:
                small = image.resize((70, 70))
                small.save(tmp_path / "photos" / label / f"{number:03}-small.png")
    return tmp_path / "photos"


def run(photos: Path, **settings: object) -> tuple[ImportReport, Dataset]:
    out = photos.parent / f"dataset-{len(list(photos.parent.iterdir()))}"
    options = ImportConfig(**settings)
    report = import_source(photos, out, options=options, progress=Silent())
    return report, load_dataset(out)


def count_torn(dataset: Dataset) -> int:
    splits = dict(zip(dataset.manifest.paths, dataset.manifest.splits.tolist(), strict=True))
    copies = [path for path in splits if path.endswith("-small.png")]
    assert len(copies) == 2 * COPIES
    return sum(splits[path] != splits[path.replace("-small", "")] for path in copies)


def test_a_copy_goes_with_its_image(photos: Path) -> None:
    plain, torn = run(photos, group_near_duplicates=False)
    assert count_torn(torn) > 3
    assert not any("near duplicates" in note for note in plain.notes)
    report, together = run(photos)
    assert count_torn(together) == 0
    alone = ImportConfig(split=(1.0, 0.0, 0.0))
    notes = import_source(photos, photos.parent / "all", options=alone, progress=Silent()).notes
    assert "40 images in 20 groups of near duplicates stay in one split each" in notes  # none moved
    said = f"40 images in 20 groups of near duplicates stay in one split each: {count_torn(torn)} "
    assert any(note.startswith(said + "images moved") for note in report.notes)
    sizes = [sum(counts.values()) for counts in report.counts.values()]
    assert sizes == [98, 21, 21]


def test_the_split_does_not_depend_on_names(photos: Path) -> None:
    def by_content(dataset: Dataset) -> dict[str, int]:
        return dict(zip(dataset.manifest.sha256, dataset.manifest.splits.tolist(), strict=True))

    _, first = run(photos)
    for number, path in enumerate(sorted(photos.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"new-{number:03}.png"))
    _, second = run(photos)
    assert by_content(first) == by_content(second)


def test_images_that_are_all_alike_are_split_all_the_same(tmp_path: Path) -> None:
    scene = np.asarray(draw_scene(1, "ball")).astype(np.int16)
    rng = np.random.default_rng(0)
    for label in ("ball", "box"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(60):
            noise = rng.normal(0, 2, scene.shape)
            pixels = np.clip(scene + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    report, _ = run(tmp_path / "photos")
    for split, least in (("train", 35), ("val", 5), ("test", 5)):
        assert all(count >= least for count in report.counts[split].values())


def test_photos_that_were_augmented_before_stay_together(tmp_path: Path) -> None:
    copies = 8
    for label in ("ball", "box"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            photo = draw_scene(2 * number + (label == "box"), label)
            for copy in range(copies):
                brighter = photo.point(lambda value, by=copy: min(255, value + by))
                brighter.save(tmp_path / "photos" / label / f"{number:02}-{copy}.png")
    _, dataset = run(tmp_path / "photos")
    manifest = dataset.manifest
    places = {
        (path.rpartition("-")[0], split)
        for path, split in zip(manifest.paths, manifest.splits.tolist(), strict=True)
    }
    assert len(places) == 24


def test_images_of_an_earlier_dataset_keep_their_split(photos: Path) -> None:
    """New ones are split; a copy of an old one, and a shot of its group, go with it."""
    _, before = run(photos, group_regex=r"(\d+)", seed=3)
    _add_scenes(photos, range(200, 240))
    old = photos / "ball" / "000.png"
    Image.open(old).resize((90, 90)).save(photos / "ball" / "999-again.png")
    report, after = run(photos, group_regex=r"(\d+)", seed=4, keep_splits=before.directory)
    then, now = (_find_splits(each) for each in (before, after))
    assert {path: now[path] for path in then} == then
    assert now["ball/999-again.png"] == then["ball/000.png"]
    added = [now[path] for path in now.keys() - then.keys()]
    assert len(added) == 41
    assert set(added) == {0, 1, 2}
    assert f"140 of the 181 images stay in their split of {before.directory}" in report.notes
    _, free = run(photos, group_regex=r"(\d+)", seed=4)
    assert {path: _find_splits(free)[path] for path in then} != then  # the seed is another one


def test_a_dataset_can_be_replaced_by_its_larger_self(photos: Path) -> None:
    _, before = run(photos)
    then = _find_splits(before)
    _add_scenes(photos, range(200, 210))
    options = ImportConfig(keep_splits=before.directory, seed=9)
    import_source(photos, before.directory, options=options, overwrite=True, progress=Silent())
    now = _find_splits(load_dataset(before.directory))
    assert len(now) == len(then) + 10
    assert {path: now[path] for path in then} == then


def test_a_row_without_a_checksum_is_as_if_it_were_not_there(photos: Path) -> None:
    _, before = run(photos)
    manifest = before.directory / "manifest.csv"
    first = before.manifest.sha256[0]
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(first, ""), encoding="utf-8")
    report, after = run(photos, seed=5, keep_splits=before.directory)
    assert f"139 of the 140 images stay in their split of {before.directory}" in report.notes
    then, now = _find_splits(before), _find_splits(after)
    others = then.keys() - {before.manifest.paths[0]}
    assert {path: now[path] for path in others} == {path: then[path] for path in others}


def test_it_replaces_the_split_of_the_source_and_says_if_nothing_is_known(
    photos: Path, tmp_path: Path
) -> None:
    _, earlier = run(photos)
    for split in ("train", "test"):
        for label in ("ball", "box"):
            folder = tmp_path / "others" / split / label
            folder.mkdir(parents=True)
            for number in range(20):
                name = f"{split}{label}{number}".encode()
                draw_scene(int.from_bytes(name[-4:]), label).save(folder / f"{number}.png")
    report, _ = run(tmp_path / "others", keep_splits=earlier.directory)
    assert "--keep-splits replaces the split of the source" in report.warnings
    said = f"0 of the 80 images stay in their split of {earlier.directory}"
    assert said in report.warnings


def test_a_dataset_that_is_none_is_named_before_anything_is_read(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="photos"):
        run(photos, keep_splits=photos)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def _add_scenes(photos: Path, numbers: range) -> None:
    for number in numbers:
        label = "box" if number % 2 else "ball"
        draw_scene(number, label).save(photos / label / f"{number:03}.png")


def _find_splits(dataset: Dataset) -> dict[str, int]:
    return dict(zip(dataset.manifest.paths, dataset.manifest.splits.tolist(), strict=True))
