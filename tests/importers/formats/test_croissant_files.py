"""Croissant descriptions as sources: tables and sets of files that are next to them."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.croissant import _make_context
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.progress import Silent

RNG = np.random.default_rng(32)


def draw(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(path)


def field(name: str, source: dict[str, Any], kind: str | list[str] = "sc:Text") -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"records/{name}",
        "name": name,
        "dataType": kind,
        "source": source,
    }


def write(folder: Path, distribution: list[dict[str, Any]], fields: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "@context": _make_context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "birds",
        "description": "Drawn.",
        "version": "1.0.0",
        "distribution": distribution,
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "records", "name": "records", "field": fields}
        ],
    }
    path = folder / "croissant.json"
    path.write_text(json.dumps(document))
    return path


def images(includes: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "encodingFormat": "image/png",
        "includes": includes,
    }


def from_files(prop: str, **more: Any) -> dict[str, Any]:
    return {"fileSet": {"@id": "images"}, "extract": {"fileProperty": prop}, **more}


def read(source: Path, tmp_path: Path) -> dict[str, str]:
    report = import_source(source, tmp_path / "data", progress=Silent())
    assert report.format == "croissant"
    dataset = load_dataset(tmp_path / "data")
    assert all(dataset.file(row).is_file() for row in range(len(dataset)))
    labels = [dataset.labels[index] for index in dataset.manifest.class_indices]
    return dict(zip(dataset.manifest.paths, labels, strict=True))


@pytest.mark.parametrize("give_folder", [True, False])
def test_a_set_of_files_with_the_label_in_their_path(tmp_path: Path, give_folder: bool) -> None:
    croissant = pytest.importorskip("mlcroissant")
    folder = tmp_path / "set"
    draw(folder, [f"png/{label}/{n}.png" for label in ("owl", "elk") for n in range(3)])
    draw(folder, ["masks/owl/0.png"])
    path = write(
        folder,
        [images("png/**/*.png")],
        [
            field("image", from_files("content"), "sc:ImageObject"),
            field("label", from_files("fullpath", transform={"regex": "png/([a-z]+)/"})),
        ],
    )
    found = read(folder if give_folder else path, tmp_path)
    assert found == {f"png/{label}/{n}.png": label for label in ("owl", "elk") for n in range(3)}
    with warnings.catch_warnings():  # of its own dependencies
        warnings.simplefilter("ignore")
        assert not croissant.Dataset(jsonld=path).metadata.ctx.issues.errors


def test_a_set_of_files_without_a_label_has_that_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    names = [
        f"{split}/{label}/{n}.png" for split in ("train", "test") for label in "ab" for n in "12"
    ]
    draw(folder, names)
    write(folder, [images("**/*.png")], [field("image", from_files("content"), "sc:ImageObject")])
    assert read(folder, tmp_path) == {name: name.split("/")[1] for name in names}
    counts = load_dataset(tmp_path / "data").counts()
    assert sum(counts["test"].values()) == 4


def test_a_table_whose_columns_the_fields_name(tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    folder = tmp_path / "set"
    draw(folder, [f"img/{n}.png" for n in range(6)])
    lines = [f"{n}.png,{n},{'owl' if n % 2 else 'elk'}" for n in range(6)]
    (folder / "rows.csv").write_text("\n".join(["file,id,what", *lines]))

    def column(name: str) -> dict[str, Any]:
        return {"fileObject": {"@id": "rows"}, "extract": {"column": name}}

    table = {
        "@type": "cr:FileObject",
        "@id": "rows",
        "name": "rows",
        "contentUrl": "rows.csv",
        "encodingFormat": "text/csv",
        "sha256": "0" * 64,
    }
    fields = [
        field("filename", column("file")),
        field("kind", column("what"), ["sc:Text", "cr:Label"]),
    ]
    path = write(folder, [table, images("img/*.png")], fields)
    assert read(path, tmp_path) == {f"{n}.png": "owl" if n % 2 else "elk" for n in range(6)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not croissant.Dataset(jsonld=path).metadata.ctx.issues.errors


@pytest.mark.parametrize("copied", [True, False])
def test_what_an_import_writes_is_read_again(tmp_path: Path, copied: bool) -> None:
    draw(tmp_path / "source", [f"{label}/{n}.png" for label in ("owl", "elk") for n in range(4)])
    options = ImportConfig(copy_images=copied)
    first = import_source(tmp_path / "source", tmp_path / "one", options=options, progress=Silent())
    found = read(tmp_path / "one" / "croissant.json", tmp_path)
    assert set(found.values()) == set(first.labels)
    assert len(found) == 8
    assert load_dataset(tmp_path / "data").counts() == load_dataset(tmp_path / "one").counts()


def test_files_that_are_not_here_are_named(tmp_path: Path) -> None:
    url = "https://example.org/rows.csv"
    table = {"@type": "cr:FileObject", "@id": "rows", "contentUrl": url}
    source = {"fileObject": {"@id": "rows"}, "extract": {"column": "label"}}
    path = write(tmp_path / "set", [table], [field("label", source)])
    with pytest.raises(DataError, match=rf"{url} is not here") as caught:
        import_source(path, tmp_path / "data", progress=Silent())
    assert "fetch the files" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["{", '{"recordSet": 3}', '{"recordSet": [{"field": 7}]}', '{"distribution": [[1]]}', "{}"],
)
def test_a_damaged_description_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "croissant.json"
    path.write_text(text.replace("{", '{"a": "http://mlcommons.org/croissant/",', 1))
    with pytest.raises(DataError, match=r"descri"):
        import_source(path, tmp_path / "data", progress=Silent())


def test_a_folder_with_a_description_of_other_files_is_read_as_what_it_is(tmp_path: Path) -> None:
    draw(tmp_path / "set", [f"{label}/{n}.png" for label in "ab" for n in range(3)])
    write(tmp_path / "set", [], [])
    report = import_source(tmp_path / "set", tmp_path / "data", progress=Silent())
    assert report.format == "class-folders"
