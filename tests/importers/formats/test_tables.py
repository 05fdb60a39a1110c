import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnclf.cli.main import main
from cnnclf.config import ImportConfig
from cnnclf.errors import DataError, ExitCode
from cnnclf.importers.formats.tables import TABLE
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images a.png, b.png and in/c d.png."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "in/c d.png"):
        (tmp_path / name).write_bytes(b"image")
    return tmp_path


DEFAULTS = ImportConfig()


def read(source: Path, options: ImportConfig = DEFAULTS) -> tuple[Listing, list[Record]]:
    listing = TABLE.read(Source.of(source), ImportJob(source.parent / "unused", options, Silent()))
    return listing, list(listing.records)


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_any_delimiter_is_found(folder: Path, delimiter: str, newline: str) -> None:
    rows = ["path,label,split,group", "a.png,cat,train,x", "in/c d.png,dog,Validation,"]
    source = write(folder, newline.join(rows).replace(",", delimiter) + newline)
    assert TABLE.recognize(Source.of(source)) is not None
    listing, records = read(source)
    assert records == [
        Record("a.png", "cat", "train", "x"),
        Record("in/c d.png", "dog", "val", ""),
    ]
    assert (listing.root, listing.skipped, listing.labels) == (folder, [], None)
    assert not listing.unpacked


@pytest.mark.parametrize(
    "header",
    [
        "filename,class",
        "LABEL, Image Path",
        "Species,img",
        "class_id,File-Name,class_name",
        "y,x,file",
    ],
)
def test_headers_may_use_other_words(folder: Path, header: str) -> None:
    meaning = {"filename": "a.png", "image path": "a.png", "img": "a.png", "file-name": "a.png"}
    meaning |= {"file": "a.png", "class_id": "7", "x": "?"}
    cells = [meaning.get(name.strip().lower(), "cat") for name in header.split(",")]
    listing, records = read(write(folder, f"{header}\n{','.join(cells)}\n"))
    assert records == [Record("a.png", "cat")]
    assert any("as path" in text and "as label" in text for text in listing.remarks)


def test_bad_rows_are_named_by_their_lines(folder: Path) -> None:
    source = write(
        folder,
        "path,label,split\na.png,cat,train\n\ngone.png,cat,train\nb.png,,train\n,dog,test\n"
        'b.png,"two\nlines",sometimes\nb.png,big, dog,test\nin,cat,train\nb.png,dog,test\n',
    )
    listing, records = read(source)
    assert [record.path for record in records] == ["a.png", "b.png"]
    assert listing.skipped == [
        ("gone.png", "line 4: no such file"),
        ("b.png", "line 5: has no label"),
        ("table.csv:6", "line 6: has no path"),
        ("b.png", "line 7: the split 'sometimes' is not train, val or test"),
        ("table.csv:9", "line 9: has 4 columns, the header 3"),
        ("in", "line 10: no such file"),
    ]


def test_a_row_that_names_a_file_again_is_a_copy_or_a_contradiction(folder: Path) -> None:
    copies = "a.png,cat,train\n./a.png,cat,train\n" * 4
    wrong = "a.png,dog,train\nin/../b.png,dog,test\n"
    source = write(folder, f"path,label,split\nb.png,dog,val\n{copies}{wrong}")
    listing, records = read(source)
    assert [record.path for record in records] == ["b.png", "a.png"]
    assert listing.skipped == [
        ("a.png", "lines 3 and 11: give the file two labels, the first counts"),
        ("in/../b.png", "lines 2 and 12: give the file two splits or groups, the first counts"),
    ]
    assert listing.remarks[-1] == (
        "table.csv: 7 rows repeat an earlier one, and each image counts once: "
        "lines 4, 5, 6, 7, 8, ..."
    )


def test_rows_of_splits_that_are_not_named_are_skipped_with_a_warning(folder: Path) -> None:
    source = write(folder, "path,label,split\na.png,cat,old\nb.png,dog,test\n")
    listing, records = read(source, ImportConfig(splits="train=old,val=new"))
    assert [(record.path, record.split) for record in records] == [("a.png", "train")]
    assert not listing.skipped
    assert listing.unneeded == [("b.png", "line 3: the split 'test' is not in --splits")]
    assert listing.warnings == [
        "1 row of splits that --splits does not name skipped: test",
        "--splits: no row has the split new",
    ]
    listing, _ = read(source, ImportConfig(splits="train=OLD,test=test"))
    assert not listing.warnings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty: it has 0 bytes"),
        ("\n \n", "has no rows"),
        ("path,label\n", "has no rows, only the header path, label"),
        ("Image;Class\r\n\r\n", "has no rows, only the header Image, Class"),
        ("label,pixel0,pixel1,pixel2,pixel3\n", "has no rows, only the header label, pixel0"),
    ],
)
def test_a_table_without_rows_is_named_as_such(
    folder: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    source = write(folder, content)
    assert main(["import", str(source), "--out", str(folder / "out")]) == ExitCode.DATA
    assert f"{source} {said}" in " ".join(capsys.readouterr().err.split())


def test_contradictions_are_counted_with_both_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a.png", "b.png", "in/c d.png")):
        Image.new("RGB", (8, 8), (80 * number,) * 3).save(folder / name)
    source = write(folder, "path,label\na.png,x\nb.png,o\nin/c d.png,o\na.png,o\nb.png,x\n")
    out = folder / "out"
    assert main(["import", str(source), "--out", str(out)]) == ExitCode.SOME_FAILED
    message = " ".join(capsys.readouterr().err.split())
    assert "2 files: give the file two labels, the first counts (lines 2 and 5, 3 and 6)" in message


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes of posix")
def test_an_import_that_fails_says_what_it_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(folder / "real.png")
    (folder / "text.png").write_text("no image")
    os.mkfifo(folder / "fifo.png")
    rows = "path,label\nreal.png,x\n/dev/zero,x\nfifo.png,o\nmissing.png,o\ntext.png,o\n"
    source = write(folder, rows)
    out = folder / "out"
    assert main(["import", str(source), "--out", str(out)]) == ExitCode.DATA
    message = " ".join(capsys.readouterr().err.split())
    assert (
        "1 image of 'x' only; 4 files skipped: 2 files: not a regular file (lines 3, 4)" in message
    )
    assert "1 file: no such file (line 5)" in message
    assert "1 file: not a supported image: text (line 6)" in message
    Image.new("RGB", (9, 9)).save(folder / "other.png")
    source = write(folder, rows + "other.png,z\n")
    assert main(["import", str(source), "--out", str(out)]) == ExitCode.SOME_FAILED
    skipped = (out / "skipped.csv").read_text().splitlines()[1:]
    assert [row.partition(":")[0] for row in sorted(skipped)] == [
        "/dev/zero,line 3",
        "fifo.png,line 4",
        "missing.png,line 5",
        "text.png,line 6",
    ]


def test_json_lines(folder: Path) -> None:
    rows: list[object] = [
        {"file": "a.png", "target": 3, "note": [1, 2]},
        {"file": "b.png", "target": "cat", "split": "test", "group": 7},
        {"file": "in/c d.png", "target": 2.0},
        {"file": "b.png", "target": [1, 0]},
        {"file": "b.png"},
        [1, 2],
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n{broken\n" + "[" * 5000 + "\n"
    source = write(folder, text, "rows.txt")
    assert TABLE.recognize(Source.of(source)) is not None
    listing, records = read(source)
    assert records == [
        Record("a.png", "3"),
        Record("b.png", "cat", "test", "7"),
        Record("in/c d.png", "2"),
    ]
    lines = [reason.partition(":")[0] for _, reason in listing.skipped]
    assert lines == ["line 4", "line 5", "line 6", "line 7", "line 8"]
    assert "not text or an integer" in listing.skipped[0][1]
    assert "no label" in listing.skipped[1][1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_spreadsheet_programs(folder: Path, encoding: str) -> None:
    _, records = read(write(folder, "path;label\r\na.png;Käse\r\n".encode(encoding)))
    assert records == [Record("a.png", "Käse")]


def test_names_and_labels_that_are_not_utf8_are_read(folder: Path) -> None:
    (folder / "caf\udce9.png").write_bytes(b"image")
    listing, records = read(write(folder, b"path,label\ncaf\xe9.png,cat\na.png,K\xe4se\n"))
    assert records == [Record("caf\udce9.png", "cat"), Record("a.png", "Käse")]
    assert listing.skipped == []
    assert listing.remarks[-1] == "table.csv: text that is not UTF-8 was read as Windows-1252"


def test_absolute_paths_parents_and_backslashes(folder: Path, tmp_path: Path) -> None:
    source = write(folder / "in", f"path,label\n{folder}/a.png,cat\n../b.png,dog\n.\\c d.png,dog\n")
    listing, records = read(source)
    assert [(listing.root / record.path).resolve() for record in records] == [
        folder / "a.png",
        folder / "b.png",
        folder / "in" / "c d.png",
    ]


def test_a_classes_file_names_numbers(folder: Path) -> None:
    classes = write(folder, "cat\ndog\n", "classes.txt")
    source = write(folder, "path,label\na.png,1\nb.png,cat\na.png,2\na.png,-1\n")
    listing, records = read(source, ImportConfig(classes_file=classes))
    assert listing.labels == ("cat", "dog")
    assert [record.label for record in records] == ["dog", "cat"]
    assert [reason for _, reason in listing.skipped] == [
        "line 4: the label '2' is not in the classes file",
        "line 5: the label '-1' is not in the classes file",
    ]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"a.png,cat\n", b"path\na.png\n", b"{}\n", b'{"path": 1}\n', b"\x89PNG\r\n\0"],
)
def test_without_a_header_it_is_no_table(folder: Path, content: bytes) -> None:
    assert TABLE.recognize(Source.of(write(folder, content, "file"))) is None
    source = write(folder, content)
    with pytest.raises(DataError) as caught:
        read(source)
    assert str(source) in caught.value.message
    if content:
        assert TABLE.recognize(Source.of(source)) == "its name ends in .csv"


def test_folders_and_missing_files_are_no_tables(folder: Path) -> None:
    assert TABLE.recognize(Source.of(folder)) is None
    assert TABLE.recognize(Source.of(folder / "gone.csv")) is None
    with pytest.raises(DataError, match=r"gone\.csv"):
        read(folder / "gone.csv")


def test_a_quotation_mark_that_is_not_closed_is_named(folder: Path) -> None:
    rows = "".join(f"a.png,{'x' * 100}\n" for _ in range(2000))
    source = write(folder, f'path,label\na.png,cat\nb.png,"dog\n{rows}')
    with pytest.raises(DataError, match=r"line 3 of .*table\.csv") as caught:
        read(source)
    assert "quotation mark" in caught.value.hint


def test_no_line_can_fill_the_memory(folder: Path) -> None:
    source = write(folder, "path,label\na.png," + "x" * 1_100_000)
    with pytest.raises(DataError, match=r"line 2 .* longer than a million"):
        read(source)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from(
        [b"", b"path,label\n", b"path\tlabel\n", b'{"path": "a", "label": "b"}\n']
    ),
    rest=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ).map(lambda value: json.dumps({"path": value, "label": value}).encode()),
    ),
)
def test_any_bytes_give_rows_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    source = tmp_path_factory.getbasetemp() / "fuzz.csv"
    source.write_bytes(start + rest)
    try:
        listing, records = read(source)
    except DataError as error:
        assert error.message  # noqa: PT017
        return
    assert TABLE.recognize(Source.of(source)) is not None
    for text in [record.path for record in records] + [path for path, _ in listing.skipped]:
        assert text.encode("utf-8", "surrogateescape")


def test_a_million_bad_rows_do_not_fill_the_memory(folder: Path) -> None:
    rows = "".join(f"gone{n}.png,cat\n" for n in range(25_000))
    source = write(folder, f"path,label\n{rows}a.png,cat\n")
    listing = TABLE.read(Source.of(source), ImportJob(folder / "unused", DEFAULTS, Silent()))
    emptied = []

    def empty() -> None:
        emptied.append(len(listing.skipped))
        listing.skipped.clear()

    listing.empty = empty
    assert len(list(listing.records)) == 1
    assert emptied == [10_000, 10_000]


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A folder with images 0.png to 5.png and tables of train, val and test."""
    for number in range(6):
        Image.new("L", (8, 8), 40 * number).save(tmp_path / f"{number}.png")
    write(tmp_path, "file,label\n0.png,a\n1.png,b\n2.png,a\n", "train.csv")
    write(tmp_path, "file,label\n3.png,b\n", "val.csv")
    write(tmp_path, "file,label\n4.png,a\n5.png,b\n2.png,a\n", "test.csv")
    return tmp_path


def test_each_table_of_a_folder_is_read_for_its_split(
    splits: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path_factory.mktemp("out") / "data"
    assert main(["import", str(splits), "--out", str(out)]) == ExitCode.SOME_FAILED
    assert "train.csv, val.csv, test.csv list the images of train, val, test" in (
        capsys.readouterr().err.replace("\n", " ")
    )
    rows = (out / "manifest.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(tuple(row.split(",")[:3]) for row in rows) == [
        ("0.png", "a", "train"),
        ("1.png", "b", "train"),
        ("2.png", "a", "train"),
        ("3.png", "b", "val"),
        ("4.png", "a", "test"),
        ("5.png", "b", "test"),
    ]
    lost = (out / "skipped.csv").read_text(encoding="utf-8")
    assert "2.png,test.csv line 4: train.csv has it, which counts" in lost.replace('"', "")


def test_a_table_by_its_name_is_read_alone_with_a_remark(splits: Path) -> None:
    listing, records = read(splits / "train.csv")
    assert len(records) == 3
    assert any("val.csv, test.csv beside it are not read" in each for each in listing.remarks)
    (splits / "val.csv").unlink()
    write(splits, "file\n4.png\n5.png\n", "test.csv")
    listing, _ = read(splits / "train.csv")
    assert not any("not read" in each for each in listing.remarks), "it has no labels"


def test_splits_of_a_table_come_before_its_name(splits: Path) -> None:
    write(splits, "file,label,split\n4.png,a,val\n5.png,b,test\n", "test.csv")
    _, records = read(splits)
    assert {record.path: record.split for record in records} == {
        **dict.fromkeys(("0.png", "1.png", "2.png"), "train"),
        **dict.fromkeys(("3.png", "4.png"), "val"),
        "5.png": "test",
    }


def test_a_name_that_fits_two_files_is_that_of_the_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}_images").mkdir()
        (tmp_path / f"{split}_images" / "01.png").write_bytes(b"image")
    listing, records = read(write(tmp_path, "id,label\n01,a\n", "train.csv"))
    assert [record.path for record in records] == ["train_images/01.png"]
    listing, records = read(write(tmp_path, "id,label\n01,a\n", "labels.csv"))
    assert not records
    assert "fits more than one file" in listing.skipped[0][1]


def test_addresses_are_no_files(folder: Path) -> None:
    table = write(folder, "link,label\nhttps://example.com/a.jpg,cat\ns3://b/c.png,dog\n")
    with pytest.raises(DataError, match=r"the column 'link' of .* holds addresses") as caught:
        read(table)
    assert "download the images" in caught.value.hint
