"""`cnnclf predict` on a model that names the strongest color."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from cnnclf import files
from cnnclf.cli.main import main
from cnnclf.config import ImportConfig
from cnnclf.errors import DeviceError
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source
from cnnclf.inference.bundles import save_bundle
from cnnclf.prediction import predict
from cnnclf.prediction.new_files import FolderWatch
from cnnclf.prediction.rows import Prediction, RowColumns
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run
from tests.conftest import Cli
from tests.inference.conftest import add_calibration

COLORS = {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    directory = tmp_path_factory.mktemp("predict") / "bundle"
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="pixels"),
            keras.layers.Rescaling(1 / 50.0),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model.layers[-1].set_weights([np.eye(3, dtype=np.float32), np.zeros(3)])
    spec = InputSpec(8, 8)
    save_bundle(directory, model, labels=tuple(COLORS), input_spec=spec, dataset={})
    return directory


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three good images and one that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, color in (("1.png", "blue"), ("2.png", "red"), ("10.png", "blue")):
        Image.new("RGB", (9, 12), COLORS[color]).save(folder / name)
    (folder / "bad.jpg").write_text("a web page, perhaps")
    return folder


def written(path: Path) -> Path:
    path.write_text("precious")
    return path


def read_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_pipe_gets_csv(cli: Cli, bundle: Path, photos: Path) -> None:
    result = cli("predict", bundle, photos)
    rows = read_rows(result.stdout)
    assert result.code == 7
    assert [Path(row["path"]).name for row in rows] == ["1.png", "2.png", "10.png", "bad.jpg"]
    assert [row["label"] for row in rows] == ["blue", "red", "blue", ""]
    assert [bool(row["error"]) for row in rows] == [False, False, False, True]
    assert list(rows[0])[-3:] == ["label_3", "probability_3", "error"]
    assert float(rows[0]["probability"]) > 0.9
    assert "4 images" in result.stderr
    assert "blue 2, red 1; 1 failed" in result.stderr
    assert "warning: 1 of 4 files failed" in result.stderr
    assert "bad.jpg" in result.stderr


def test_images_unlike_any_class_point_to_the_threshold(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (9, 12), (80, 80, 80)).save(photos / "gray.png")
    result = cli("predict", bundle, photos)
    assert "hint: 1 image with no class above 50 %: --threshold 0.5 labels such" in result.stderr
    assert "no column familiar" in result.stderr
    assert "calibrate makes one" in result.stderr
    sure = add_calibration(shutil.copytree(bundle, tmp_path / "sure"))
    result = cli("predict", sure, photos, "--engine", "keras")
    assert "1 image with no class above 50 %, 1 of them unlike anything learned: --thr" in (
        result.stderr
    )
    assert "--unknown-by" not in result.stderr  # said once
    assert "no column familiar" not in result.stderr
    assert list(read_rows(result.stdout)[0])[-2:] == ["familiar", "error"]
    submitted = cli("predict", sure, photos, "--engine", "keras", "--id-column", "stem")
    assert "familiar" not in submitted.stdout
    for options in (("--threshold", 0.5), ("--quiet",)):
        assert "--threshold" not in cli("predict", bundle, photos, *options).stderr
    (photos / "gray.png").unlink()
    assert "--threshold" not in cli("predict", bundle, photos).stderr


def test_a_threshold_is_not_advised_for_most_images(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 12), (80, 80, 80)).save(tmp_path / name)
    result = cli("predict", bundle, tmp_path / "?.png")
    assert "--threshold" not in result.stderr
    assert "hint: 2 images with no class above 50 %, most of them: cnnclf eval" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("list.txt", "1.png\n", "a list of paths is given with @ before it: @"),
        ("photos.zip", "PK\x03\x04 zip", "unpack "),
    ],
)
def test_what_holds_or_names_images_is_named(
    cli: Cli, bundle: Path, tmp_path: Path, name: str, content: str, hint: str
) -> None:
    (tmp_path / name).write_text(content)
    result = cli("predict", bundle, tmp_path / name)
    assert result.code == 7
    assert f"hint: {hint}{tmp_path / name}" in result.stderr


def test_good_files_alone_end_with_0(cli: Cli, bundle: Path, photos: Path) -> None:
    result = cli("predict", bundle, photos / "*.png", "--quiet", "--top-k", 1)
    assert (result.code, result.stderr) == (0, "")
    assert list(read_rows(result.stdout)[0]) == ["path", "label", "probability", "error"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_go_to_a_file(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    result = cli("predict", bundle, photos, "--out", path)
    assert (result.code, result.stdout) == (7, "")
    if suffix == ".csv":
        labels = [row["label"] or None for row in read_rows(path.read_text(encoding="utf-8"))]
    elif suffix == ".jsonl":
        text = path.read_text(encoding="utf-8")
        labels = [json.loads(line)["label"] for line in text.splitlines()]
    else:
        labels = pyarrow.parquet.read_table(path).column("label").to_pylist()
    assert labels == ["blue", "red", "blue", None]
    assert str(path) in result.stderr
    assert [entry.name for entry in tmp_path.glob("rows*")] == [path.name]


def test_json_is_one_document(cli: Cli, bundle: Path, photos: Path, tmp_path: Path) -> None:
    document = json.loads(cli("predict", bundle, photos, "--json").stdout)
    assert document["schema_version"] == 1
    assert [row["label"] for row in document["rows"]] == ["blue", "red", "blue", None]
    assert (document["files"], document["failed"]) == (4, 1)
    assert document["counts"] == {"blue": 2, "red": 1}
    result = cli("predict", bundle, photos, "--json", "--out", tmp_path / "rows.csv")
    document = json.loads(result.stdout)
    assert (document["files"], document["schema_version"]) == (4, 1)
    assert "rows" not in document


def test_json_survives_a_narrow_encoding(
    cli: Cli, bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "1.png").rename(photos / "ü.png")
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    cli("predict", bundle, photos / "ü.png", "--json")
    sys.stdout.flush()
    assert json.loads(buffer.getvalue())["rows"][0]["path"].endswith("ü.png")


def test_a_terminal_gets_a_table(
    cli: Cli, bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = cli("predict", bundle, photos, "--threshold", 0.999999, "--top-k", 2)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["label", "probability", "path"]
    assert lines[1].startswith("unknown")
    assert "(blue 0.9" in lines[1]
    assert lines[-1].startswith("-")
    assert "error: not a supported image" in lines[-1]


def test_notes_do_not_interrupt_the_table(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "notes.txt").touch()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", sys.stdout)  # both on one terminal
    main(["predict", str(bundle), str(photos)])
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("label "))
    end = next(i for i, line in enumerate(lines) if "skipped 1 file" in line)
    assert all(str(photos) in line for line in lines[start + 1 : end])
    assert end - start > 2


def test_the_threshold_gives_unknown(cli: Cli, bundle: Path, photos: Path) -> None:
    rows = read_rows(cli("predict", bundle, photos / "1.png", "--threshold", 1).stdout)
    assert (rows[0]["label"], rows[0]["nearest"]) == ("unknown", "blue")


def test_a_list_on_stdin(
    cli: Cli, bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{photos / '2.png'}\n{photos / '1.png'}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    rows = read_rows(cli("predict", bundle, "-").stdout)
    assert [row["label"] for row in rows] == ["red", "blue"]


def test_a_list_in_a_file(cli: Cli, bundle: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{photos / '2.png'}\n\n{photos / 'gone.png'}\n")
    result = cli("predict", bundle, f"@{tmp_path / 'list.txt'}")
    assert result.code == 7
    rows = read_rows(result.stdout)
    assert [(row["label"], bool(row["error"])) for row in rows] == [("red", False), ("", True)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_rows(cli: Cli, bundle: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").symlink_to("/dev/full")
    result = cli("predict", bundle, photos, "--out", tmp_path / "rows.csv")
    assert result.code == 6
    assert "error: the disk is full: cannot write" in result.stderr
    assert "hint: free some space" in result.stderr


def test_a_gpu_that_is_not_there(
    cli: Cli, bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: [])
    result = cli("predict", bundle, photos, "--device", "gpu")
    assert (result.code, result.stdout) == (6, "")
    assert "error: --device gpu: " in result.stderr
    assert "hint: " in result.stderr


@pytest.mark.parametrize(
    ("mode", "word"), [("copy", "copied"), ("link", "linked"), ("move", "moved")]
)
def test_sorting_into_folders(cli: Cli, bundle: Path, photos: Path, mode: str, word: str) -> None:
    target = photos / "sorted"  # inside the folder that is searched
    dry = cli("predict", bundle, photos, f"--{mode}-to", target, "--dry-run")
    assert not target.exists()
    assert f"would {mode} 3 to" in dry.stderr
    result = cli("predict", bundle, photos, f"--{mode}-to", target)
    assert result.code == 7
    assert f"{word} 3 to" in result.stderr
    rows = read_rows(result.stdout)
    assert len(rows) == 4
    assert [row["placed"] for row in rows] == [row["placed"] for row in read_rows(dry.stdout)]
    placed = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert placed == ["blue/1.png", "blue/10.png", "red/2.png"]
    stayed = sorted(path.name for path in photos.iterdir() if path.is_file())
    assert stayed == (["bad.jpg"] if mode == "move" else ["1.png", "10.png", "2.png", "bad.jpg"])


def test_sorting_within_the_folder_that_is_searched(cli: Cli, bundle: Path, photos: Path) -> None:
    (photos / "bad.jpg").unlink()
    moved = cli("predict", bundle, photos, "--move-to", photos)
    assert moved.code == 0, moved.stderr
    assert [path.name for path in sorted((photos / "blue").iterdir())] == ["1.png", "10.png"]
    again = cli("predict", bundle, photos, "--move-to", photos)
    assert again.code == 3
    assert "skipped 3 files in" in again.stderr.replace("\n", " ")


Arguments = Callable[[Path, Path], list[Any]]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (lambda b, p: [b, p, "--out", "rows.txt"], 2, ".csv, .jsonl or .parquet"),
        (
            lambda b, p: [b, p, "--copy-to", "a", "--move-to", "b"],
            2,
            "--copy-to and --move-to cannot be combined",
        ),
        (lambda b, p: [b, p, "--dry-run"], 2, "--dry-run needs --copy-to"),
        (lambda b, p: [b, p, "--copy-to", p / "1.png"], 2, "is a file"),
        (lambda b, p: [b, p, "--threshold", "2"], 2, "--threshold"),
        (lambda b, p: [b], 2, "IMAGES"),
        (lambda b, p: [b, p, "--resume"], 2, "--resume needs --out"),
        (lambda b, p: [b, p, "--overwrite"], 2, "--overwrite needs --out"),
        (lambda b, p: [b, p, "--out", "r.csv", "--resume", "--overwrite"], 2, "cannot be combined"),
        (
            lambda b, p: [b, p, "--out", "r.csv", "--resume", "--move-to", "x"],
            2,
            "cannot be resumed",
        ),
        (lambda b, p: [b, p, "--out", written(p / "1.csv")], 2, "exists"),
        (lambda b, p: [b, p, "--shard", "5/4"], 2, "expected a shard I/N"),
        (lambda b, p: [b, p / "1.png", "--watch"], 2, "folders or patterns with --watch"),
        (lambda b, p: [b, p, "--watch", "--json"], 2, "--json cannot be combined"),
        (lambda b, p: [b, p / "no.png"], 3, "found no images in"),
        (lambda b, p: [b, "@no.txt"], 3, "cannot read the list"),
        (lambda b, p: [p / "no", p], 4, "does not exist"),
        (lambda b, p: [p, p], 4, "has no run.json"),
    ],
)
def test_mistakes_get_one_line_and_their_code(
    cli: Cli, bundle: Path, photos: Path, arguments: Arguments, code: int, words: str
) -> None:
    result = cli("predict", *arguments(bundle, photos))
    assert result.code == code
    assert words in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unfinished_run_predicts_with_a_warning(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "run")
    run.checkpoints.mkdir()
    run.best.symlink_to(bundle, target_is_directory=True)
    run.update_run(status="interrupted")
    result = cli("predict", run.path, photos / "1.png")
    assert result.code == 0
    assert "is interrupted; its best checkpoint so far is used" in result.stderr


def test_a_damaged_bundle_is_refused(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files.write_json_atomic(tmp_path / "b" / "classifier.json", {"schema_version": 9})
    result = cli("predict", tmp_path / "b", photos)
    assert result.code == 4
    assert "newer version of cnnclf" in result.stderr


def stop_at(monkeypatch: pytest.MonkeyPatch, row: int, error: type[BaseException]) -> None:
    """Let the job end when it has made so many rows."""
    from cnnclf.prediction.summary import PredictSummary

    original = PredictSummary.add

    def stops(self: PredictSummary, prediction: Any) -> None:
        original(self, prediction)
        if self.files == row:
            raise error("no more")

    monkeypatch.setattr(PredictSummary, "add", stops)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_interrupted_job_continues(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path, suffix: str
) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"rows{suffix}"
    cli("predict", bundle, photos, "--out", whole)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 2, KeyboardInterrupt)
        result = cli("predict", bundle, photos, "--out", path, "--resume")
    assert result.code == 130
    assert f"2 rows kept in {path}.partial" in result.stderr.replace("\n", " ")
    assert "with --resume continues" in result.stderr
    assert not path.exists()
    refused = cli("predict", bundle, photos, "--out", path)
    assert (refused.code, refused.stdout) == (2, "")
    assert "contains the rows of an interrupted job" in refused.stderr
    other = cli("predict", bundle, photos, "--out", path, "--resume", "--top-k", 1)
    assert other.code == 2
    assert "belongs to another job: --top-k was 3, now it is 1" in other.stderr
    result = cli("predict", bundle, photos, "--out", path, "--resume")
    assert result.code == 7  # the bad file is among the rows that were there or came
    assert "2 of them from the interrupted job" in result.stderr.replace("\n", " ")
    assert path.read_bytes() == whole.read_bytes()
    record = path.with_name(f"{path.name}.partial.json")
    record.write_text("{}")  # as a kill leaves it, right after the last rename
    for _ in range(2):
        finished = cli("predict", bundle, photos, "--out", path, "--resume")
        assert (finished.code, "nothing left to do" in finished.stderr) == (0, True)
        assert not record.exists()
    (photos / "later.png").write_bytes((photos / "1.png").read_bytes())
    gone = (photos / "1.png").rename(tmp_path / "gone.png")  # as many files as there were
    for _ in range(2):
        more = cli("predict", bundle, photos, "--out", path, "--resume")
        assert more.code == 7
        assert f"1 file has no row: {photos / 'later.png'}" in more.stderr.replace("\n", " ")
        assert "--overwrite" in more.stderr
        if gone.exists():
            gone.rename(photos / "1.png")
    (photos / "later.png").unlink()
    for changed in (("--top-k", 1), ("--threshold", 0.9), ("--shard", "1/2")):
        refused = cli("predict", bundle, photos, "--out", path, "--resume", *changed)
        assert (refused.code, "is finished" in refused.stderr) == (2, True)
    others = cli("predict", bundle, photos / "1.png", "--out", path, "--resume")
    assert (others.code, "is finished" in others.stderr) == (2, True)
    again = cli("predict", bundle, photos, "--out", path, "--overwrite")
    assert again.code == 7
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(entry.name for entry in tmp_path.glob("*.*")) == sorted([whole.name, path.name])


def test_a_job_whose_images_are_gone_by_now_is_done(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "bad.jpg").unlink()
    path = tmp_path / "rows.csv"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3, KeyboardInterrupt)
        assert cli("predict", bundle, photos, "--out", path).code == 130
    for image in photos.iterdir():
        image.unlink()
    record = (tmp_path / "rows.csv.partial.json").read_bytes()
    moved = photos.rename(tmp_path / "elsewhere")  # as a disk that is not mounted
    lost = cli("predict", bundle, photos, "--out", path, "--resume")
    assert (lost.code, "no such file or folder" in lost.stderr) == (3, True)
    moved.rename(photos)
    result = cli("predict", bundle, photos, "--out", path, "--resume")
    assert result.code == 0, result.stderr
    assert "there was nothing left to do" in result.stderr
    assert len(read_rows(path.read_text())) == 3
    begun = cli("predict", bundle, photos, "--out", tmp_path / "others.csv", "--resume")
    assert (begun.code, "found no images in" in begun.stderr) == (3, True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", "rows.csv"]
    (tmp_path / "others.csv.partial").write_text(path.read_text().splitlines(keepends=True)[0])
    (tmp_path / "others.csv.partial.json").write_bytes(record)
    begun = cli("predict", bundle, photos, "--out", tmp_path / "others.csv", "--resume")
    assert (begun.code, "found no images in" in begun.stderr) == (3, True)


def test_a_full_disk_in_the_middle_keeps_what_is_done(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3, DeviceError)
        result = cli("predict", bundle, photos, "--out", path)
    assert result.code == 6
    assert "3 rows kept in" in result.stderr
    assert "with --resume continues" in result.stderr
    assert cli("predict", bundle, photos, "--out", path, "--resume").code == 7
    assert len(read_rows(path.read_text())) == 4


def test_shards_divide_the_files(cli: Cli, bundle: Path, photos: Path) -> None:
    everything = cli("predict", bundle, photos).stdout.splitlines()
    shards = [
        cli("predict", bundle, photos, "--shard", f"{index}/3").stdout.splitlines()
        for index in (1, 2, 3)
    ]
    assert all(shard[0] == everything[0] for shard in shards)
    assert sorted(row for shard in shards for row in shard[1:]) == sorted(everything[1:])


def test_a_shard_without_files_is_a_document_too(cli: Cli, bundle: Path, photos: Path) -> None:
    files = [
        cli("predict", bundle, photos / "1.png", "--shard", f"{n}/2", "--json") for n in (1, 2)
    ]
    documents = [json.loads(result.stdout) for result in files]
    assert sorted(len(document["rows"]) for document in documents) == [0, 1]
    assert [result.code for result in files] == [0, 0]


def test_watching_ends_with_ctrl_c_and_continues(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    def watch(inputs: Any, seen: Any, *, is_moving: bool, sleep: Any) -> FolderWatch:
        return FolderWatch(inputs, seen, is_moving=is_moving, sleep=stop)

    monkeypatch.setattr(predict, "FolderWatch", watch)
    path = tmp_path / "rows.csv"
    for file in photos.iterdir():
        os.utime(file, (1, 1))
    result = cli("predict", bundle, photos, "--out", path, "--watch")
    assert result.code == 130
    assert "watching" in result.stderr
    assert "4 images" in result.stderr
    assert "4 rows kept in" in result.stderr
    partial = path.with_name("rows.csv.partial")
    assert len(read_rows(partial.read_text())) == 4
    shutil.copy(photos / "2.png", photos / "3.png")
    os.utime(photos / "3.png", (1, 1))
    assert cli("predict", bundle, photos, "--out", path, "--watch", "--resume").code == 130
    names = [Path(row["path"]).name for row in read_rows(partial.read_text())]
    assert names == ["1.png", "2.png", "10.png", "bad.jpg", "3.png"]
    assert cli("predict", bundle, photos, "--out", path, "--resume").code == 7
    assert [Path(row["path"]).name for row in read_rows(path.read_text())] == names


def test_a_bundle_whose_model_was_changed_is_refused(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    with (copy / "model.keras").open("ab") as file:
        file.write(b"more")
    result = cli("predict", copy, photos, "--out", tmp_path / "rows.csv")
    assert result.code == 4
    assert "do not match the checksum" in result.stderr
    assert not list(tmp_path.glob("rows*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_row(cli: Cli, bundle: Path, photos: Path) -> None:
    (photos / "2.png").chmod(0)
    result = cli("predict", bundle, photos / "*.png")
    assert result.code == 7
    assert [row["error"] for row in read_rows(result.stdout)][1] == "Permission denied"


def test_one_column_per_class_as_competitions_want_it(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    result = cli("predict", bundle, photos, "--all-probabilities", "--id-column", "stem")
    rows = read_rows(result.stdout)
    assert [list(row) for row in rows[:1]] == [["id", *COLORS]]
    assert [row["id"] for row in rows] == ["1", "2", "10", "bad"]
    for row in rows[:3]:
        assert sum(float(row[label]) for label in COLORS) == pytest.approx(1, abs=1e-4)
    assert max(COLORS, key=lambda label: float(rows[1][label])) == "red"
    assert (rows[3]["red"], result.code) == ("", 7)
    path = tmp_path / "rows.parquet"
    assert cli("predict", bundle, photos, "--all-probabilities", "--out", path).code == 7
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["path", *COLORS, "error"]
    assert table.schema.field("red").type == "double"


def test_names_of_classes_do_not_hide_other_columns() -> None:
    columns = RowColumns(2, classes=("path", "error", "cat"))
    assert columns.names() == ["path", "path (class)", "error (class)", "cat", "error"]
    assert columns.numbers() == ["path (class)", "error (class)", "cat"]
    row = Prediction("a/b.c.png", (("cat", 0.75), ("path", 0.25)))
    assert columns.cells(row) == ["a/b.c.png", 0.25, None, 0.75, None]
    assert RowColumns(1, identity="name").cells(row) == ["b.c.png", "cat", 0.75]
    assert RowColumns(1, identity="stem").cells(row) == ["b.c", "cat", 0.75]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--resume", "--out", "rows.csv", "--id-column", "stem"), "--resume and --id-column stem"),
        (("--ray", "auto", "--all-probabilities"), "--ray and --all-probabilities"),
    ],
)
def test_columns_that_a_job_cannot_have(
    cli: Cli, bundle: Path, photos: Path, options: tuple[str, ...], told: str
) -> None:
    result = cli("predict", bundle, photos, *options)
    assert result.code == 2
    assert told in result.stderr


def test_the_images_of_a_dataset_are_predicted(
    cli: Cli, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    for name, label in (("1.png", "blue"), ("2.png", "red"), ("10.png", "blue")):
        (tmp_path / "sorted" / label).mkdir(parents=True, exist_ok=True)
        (photos / name).rename(tmp_path / "sorted" / label / name)
    options = ImportConfig(split=(1, 0, 0))
    import_source(tmp_path / "sorted", tmp_path / "set", options=options, progress=Silent())
    result = cli("predict", bundle, tmp_path / "set")
    rows = read_rows(result.stdout)
    assert [(Path(row["path"]).name, row["label"]) for row in rows] == [
        ("1.png", "blue"),
        ("10.png", "blue"),
        ("2.png", "red"),
    ]
    assert all(Path(row["path"]).is_file() for row in rows)
    assert (result.code, "is a dataset: its 3 images are predicted" in result.stderr) == (
        0,
        True,
    )
