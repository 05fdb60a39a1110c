"""No file that we read, however it was damaged or crafted, ends as a bug, hangs or fills memory."""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnclf.cli import training_commands
from cnnclf.cli.main import main
from cnnclf.config import FinetuneConfig, ImportConfig, TrainConfig, load_config
from cnnclf.data.decoding import DecodingJob, Failure, decode_row
from cnnclf.data.description import MANIFEST_NAME
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import CnnclfError, ConfigError, DataError, ExitCode, RunError
from cnnclf.evaluation.paired_runs import read_answers
from cnnclf.files import write_json_atomic
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source
from cnnclf.importers.importer import read_classes_file
from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.engines.choosing import choose_engines
from cnnclf.planning.finetune_plan import plan_finetuning
from cnnclf.planning.plan import Plan, read_origin
from cnnclf.planning.train_plan import plan_training
from cnnclf.prediction.inputs import ImageInputs
from cnnclf.progress import Silent
from cnnclf.quality.image_facts import measure_images
from cnnclf.reporting.prediction_table import read_predictions
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import STATE_FILE
from cnnclf.runs.run_opening import create_run
from cnnclf.training.epochs import EpochRow
from cnnclf.training.fitting.margins import read_margins
from cnnclf.training.fitting.state import Snapshot, TrainingState, load_state, save_state
from cnnclf.training.phases import find_stage
from cnnclf.training.recording import read_epochs

T = TypeVar("T")
RUN = Path(__file__).parents[1] / "sample_data" / "tiny_run"
posix = pytest.mark.skipif(os.name != "posix", reason="devices and pipes of posix")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for number in range(12):
            pixels = np.full((8, 8, 3), number * 20 + len(label), np.uint8)
            pixels[0, 0] = (1, 2, 3) if label == "cat" else (4, 5, 6)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    target = tmp_path_factory.mktemp("datasets") / "pets"
    import_source(folder, target, options=ImportConfig(), progress=Silent())
    return target


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(RUN, target, ignore=shutil.ignore_patterns("engine-cache"))
    return target


# --- devices and pipes


@posix
def test_a_row_that_leads_to_a_device_or_pipe_is_one_failed_image(
    dataset: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "pets"
    shutil.copytree(dataset, copied)
    os.mkfifo(tmp_path / "pipe")
    manifest = copied / MANIFEST_NAME
    heading, first, second, *rest = manifest.read_text().splitlines()
    first = ",".join(["/dev/zero", *first.split(",")[1:]])
    second = ",".join([str(tmp_path / "pipe"), *second.split(",")[1:]])
    manifest.write_text("\n".join([heading, first, second, *rest]) + "\n")
    found = load_dataset(copied)
    job = DecodingJob(found, InputSpec(8, 8), np.arange(len(found)), 1, Silent())
    outcomes = [decode_row(job, row) for row in range(len(found))]
    reasons = [each.reason for each in outcomes if isinstance(each, Failure)]
    assert reasons == [
        "it cannot be read: it is a device, not a regular file",
        "it cannot be read: it is a pipe, not a regular file",
    ]
    facts = measure_images(found, threads=1, progress=Silent())
    assert sorted(facts.damaged) == [0, 1]


@posix
def test_no_reader_waits_for_a_device_or_pipe(run: Path, dataset: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe):
        with pytest.raises(ConfigError, match="not a regular file"):
            load_config(path, kind=TrainConfig)
        with pytest.raises(DataError, match="not a regular file"):
            read_classes_file(path)
        for name, code in (
            ("table", ExitCode.DATA),
            ("npz", ExitCode.DATA),
            ("zip", ExitCode.DATA),
            ("tar", ExitCode.DATA),
            ("idx", ExitCode.DATA),
            ("cifar", ExitCode.DATA),
        ):
            out = str(tmp_path / "out")
            assert main(["import", str(path), "--format", name, "--out", out]) == code, name
    with pytest.raises(DataError, match="a device"):
        list(ImageInputs(["@/dev/zero"], progress=Silent()).find())


def test_a_list_that_is_one_endless_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"x" * (3 << 20))
    with pytest.raises(DataError, match="an entry of more than"):
        list(ImageInputs([f"@{tmp_path / 'list'}"], progress=Silent()).find())


# --- classifier.json


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": "/dev/zero"}, "the name of a file in the bundle"),
        ({"model": "../other/model.keras"}, "the name of a file in the bundle"),
        ({"files": ["model.bin", "/dev/zero"]}, "the name of a file in the bundle"),
        ({"files": "/dev/zero"}, "the name of a file in the bundle"),
        ({"model": ["model.keras"]}, "the name of a file in the bundle"),
        ({"threshold": 1.5}, "a threshold of 0 to 1"),
        ({"threshold": "0.5"}, "a threshold of 0 to 1"),
        ({"temperature": 0}, "a temperature above 0"),
        ({"temperature": True}, "a temperature above 0"),
        ({"temperature": "1"}, "a temperature above 0"),
        ({"labels": "xo"}, "a list of labels"),
        ({"labels": ["x", "x"]}, "unique, non-empty labels"),
        ({"labels": ["x", ""]}, "unique, non-empty labels"),
        ({"labels": ["x", ["o"]]}, "labels that are text"),
        ({"labels": [1, 2]}, "labels that are text"),
        ({"dataset": []}, "dataset to be an object"),
        ({"extra": 1}, "extra to be an object"),
        ({"format": 1}, "format to be a text"),
        ({"input_spec": 1}, "a value is missing, or of a wrong type"),
    ],
)
def test_a_classifier_that_breaks_its_schema_is_refused(
    run: Path, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(run / "checkpoints" / "best", bundle)
    path = bundle / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(RunError, match=reason):
        read_bundle(bundle)


@posix
def test_a_model_that_is_a_link_to_a_device_is_refused(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(run / "checkpoints" / "best", bundle)
    (bundle / "model.keras").unlink()
    (bundle / "model.keras").symlink_to("/dev/zero")
    with pytest.raises(RunError, match="a device, not a regular file"):
        read_bundle(bundle)


# --- any damage to any file

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**63 - 1, -(2**63), 1e308, 0.5, "", "x", "\0", "..", "/dev/zero",
    "\ud800", "9" * 5000, [], {}, [[]], [None], [1, 2], ["a", "a"], {"a": {"b": []}}, {"": 1},
]  # fmt: skip
RAW = [
    b"", b"{}", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000,
    b'{"version": NaN}', b'{"version": 1e999}', b"\0" * 100,
]  # fmt: skip
draw_bytes = st.binary(max_size=20) | st.sampled_from([b"9" * 5000, b"\0", b"[" * 3000])
draw_places = st.lists(st.integers(0, 10_000), min_size=1, max_size=3)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, below in items:
        yield (*at, key)
        yield from _places(below, (*at, key))


@st.composite
def damaged_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """A document with some values replaced or removed, or with other bytes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(RAW))
    if kind == 1:
        return draw(damaged_bytes(whole))
    value = json.loads(whole)
    for number in draw(draw_places):
        places = list(_places(value))
        if not places:
            break
        *above, key = places[number % len(places)]
        holder = value
        for step in above:
            holder = holder[step]
        odd = draw(st.sampled_from([*ODD, "remove"]))
        if odd == "remove":
            del holder[key]
        else:
            holder[key] = copy.deepcopy(odd)
    return json.dumps(value).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some bytes replaced, removed or inserted."""
    data = bytearray(whole)
    for number in draw(draw_places):
        at = number % max(1, len(data))
        end = at + draw(st.integers(0, 20))
        data[at:end] = draw(draw_bytes)
    return bytes(data)


def _command(*arguments: object) -> ExitCode:
    return ExitCode(main([str(each) for each in arguments]))


def _fuzz(path: Path, data: bytes, check: Callable[[], T]) -> T | str:
    """Damage a file; give what a check returns, or the message of its error."""
    whole = path.read_bytes()
    try:
        path.write_bytes(data)
        return check()
    except CnnclfError as error:
        return error.message
    finally:
        path.write_bytes(whole)


EXAMPLES = settings(max_examples=int(os.environ.get("FUZZ", "10")), deadline=None)


@pytest.fixture(scope="module")
def runs(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An interrupted run of each command that trains."""
    root = tmp_path_factory.mktemp("interrupted")
    found = load_dataset(dataset)
    plans: list[Plan[Any]] = [
        plan_training(TrainConfig(), found),
        plan_finetuning(FinetuneConfig(), found),
    ]
    for plan in plans:
        command = plan.kind.command
        target = create_run(root / command, command=f"cnnclf {command}")
        write_json_atomic(target.plan, plan.to_dict())
        target.update_run(status="interrupted")
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
@pytest.mark.parametrize("command", ["train", "finetune"])
def test_damaged_records_of_a_run_are_no_bug(
    runs: dict[str, Path], command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs[command]
    path = run / name
    monkeypatch.setattr(training_commands, "_train", lambda *_, **__: ExitCode.OK)

    @EXAMPLES
    @given(damaged_json(path.read_bytes()))
    def check(data: bytes) -> None:
        def commands() -> list[ExitCode]:
            return [
                _command("runs", "list", run.parent),
                _command("runs", "show", run),
                _command("runs", "compare", run, next(iter({*runs.values()} - {run}))),
                _command(command, "--resume", run),
            ]

        codes = _fuzz(path, data, commands)
        assert isinstance(codes, list)  # commands report errors by their codes
        listed, shown, *others = codes
        assert listed in {ExitCode.OK, ExitCode.SOME_FAILED}  # the other run is listed
        refused = {ExitCode.OK, ExitCode.CONFIG, ExitCode.DATA}
        assert shown in {*refused, ExitCode.SOME_FAILED}  # what can be read is shown
        assert set(others) <= refused
        origin = _fuzz(path, data, lambda: read_origin(run / "plan.json"))
        assert isinstance(origin, dict) or "plan.json" in origin

    check()


def test_damaged_descriptions_of_a_classifier_are_no_bug(run: Path) -> None:
    bundle = run / "checkpoints" / "best"
    path = bundle / "classifier.json"

    @EXAMPLES
    @given(damaged_json(path.read_bytes()))
    def check(data: bytes) -> None:
        def use() -> str:
            model = read_bundle(bundle).model
            choices = choose_engines(model.format, own_precision=model.precision)
            return choices[-1].row.name

        found = _fuzz(path, data, use)
        assert found == "keras" or str(bundle) in found

    check()


@pytest.mark.parametrize("version", [[], {}, "9" * 5000, None])
def test_a_dataset_of_an_odd_version_is_refused(
    dataset: Path, version: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dataset / "dataset.json"
    whole = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(whole) | {"version": version}))
        assert main(["train", str(dataset), "--dry-run"]) == ExitCode.DATA
        message = capsys.readouterr().err
        known = "its format version is missing" if version is None else "expected format version"
        assert known in message
        assert len(message) < 1000
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["dataset.json", "manifest.csv"])
def test_damaged_datasets_are_no_bug(dataset: Path, name: str) -> None:
    path = dataset / name
    damage = damaged_json if path.suffix == ".json" else damaged_bytes

    @EXAMPLES
    @given(damage(path.read_bytes()))
    def check(data: bytes) -> None:
        for command in ("train", "finetune"):
            code = _fuzz(path, data, partial(_command, command, dataset, "--dry-run"))
            assert code in {ExitCode.OK, ExitCode.DATA}

    check()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("history.csv", "epoch,phase,loss\nx,train,1"),
        ("history.csv", "epoch,phase,loss\n1,train,x"),
        ("history.csv", "phase,loss\ntrain,1"),
        ("history.csv", "epoch,phase,loss\n,train,1"),
        ("history.csv", "epoch,phase,loss\n" + "9" * 200_000 + ",train,1"),
        ("trace.csv", "epoch,layer,dead_fraction\n1,conv,x"),
        ("trace.csv", "epoch,dead_fraction\n1,0.5"),
    ],
)
def test_a_damaged_table_of_a_run_names_its_line(
    run: Path, tmp_path: Path, name: str, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (copied / name).write_text(rows + "\n")
    assert main(["report", str(copied)]) == ExitCode.CONFIG
    assert f"{name} is damaged: line 2 is not a row of it" in capsys.readouterr().err


def test_damaged_margins_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "margins.csv"
    for rows in ("path,margin,epochs\na,x,1\n", "path,margin,epochs\na,1\n", "path\na\n"):
        path.write_text(rows)
        with pytest.raises(RunError, match="line 2 is not a row"):
            read_margins(path)


def test_damaged_predictions_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    heading = "path,label,predicted,probability"
    for rows in (f"{heading}\na,x\n", f"{heading}\na,x,x,y\n", "path,label\na,x\n"):
        path.write_text(rows)
        with pytest.raises(RunError, match="is not a row of it"):
            read_predictions(path, ("x", "o"))
        with pytest.raises(RunError, match="is not a row of it"):
            read_answers(path)


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "9" * 5000, "[0x10000000000000000]"])
def test_numbers_of_settings_have_64_bits(
    dataset: Path, tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"[training]\nepochs = {number}\n")
    assert main(["train", str(dataset), "--dry-run", "--config", str(path)]) == ExitCode.CONFIG
    message = capsys.readouterr().err
    assert "is not valid TOML: an integer beyond 64 bits" in message
    assert "sys." not in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("null", "expected a JSON object, received null"),
        ("[1]", "expected a JSON object, received a list"),
        ("9" * 5000, "not valid JSON (an integer beyond 64 bits"),
        ('{"plan_version": "x"}', "expected format version 1"),
    ],
)
def test_a_damaged_plan_is_described_in_own_words(
    runs: dict[str, Path], content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs["train"] / "plan.json"
    whole = path.read_bytes()
    path.write_text(content)
    assert main(["train", "--resume", str(runs["train"])]) == ExitCode.CONFIG
    assert message in capsys.readouterr().err
    changed = json.loads(whole)
    for change, words in (
        (
            {"config": {"training": {"epochs": -1}}},
            "training.epochs = -1: expected auto or a whole",
        ),
        ({"labels": 1}, "cannot be 1"),
        ({"input_spec": []}, "a value is missing, or of a wrong type"),
    ):
        path.write_text(json.dumps(changed | change))
        assert main(["train", "--resume", str(runs["train"])]) == ExitCode.CONFIG
        assert words in capsys.readouterr().err
    path.write_bytes(whole)


def test_damaged_settings_are_no_bug(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    whole = b'[model]\npreset = "tiny"\nfilters = [8, 16]\n[training]\nepochs = 3\n'
    path.write_bytes(whole)

    @EXAMPLES
    @given(damaged_bytes(whole) | st.sampled_from([*RAW, b"[" * 90, b"a.b.c = 1", b"model = 1"]))
    def check(data: bytes) -> None:
        code = _fuzz(path, data, lambda: _command("train", dataset, "--dry-run", "--config", path))
        assert code in {ExitCode.OK, ExitCode.CONFIG}

    check()


def test_damaged_training_states_are_no_bug(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.last.mkdir(parents=True)
    write_json_atomic(run.record, {"version": 1, "status": "interrupted"})
    path = run.last / STATE_FILE
    row = EpochRow(1, "head", 0.5, 0.5, 0.5, 0.5, 0.1, 1.0, 0.1)
    state = TrainingState(
        history=[row], best_score=(0.5, -1.0), phase_score=(0.5, -1.0), phase="head"
    )
    net = SimpleNamespace(weights=[], variables=[])
    optimizer = SimpleNamespace(variables=[])
    save_state(run.last, Snapshot.of(state, net=net, optimizer=optimizer))
    assert load_state(run.last, net=net, optimizer=optimizer).history == [row]

    def read() -> None:
        loaded = load_state(run.last, net=net, optimizer=optimizer)
        assert isinstance(loaded.epoch + loaded.best_epoch + loaded.phase_start, int)
        assert isinstance(loaded.seconds + sum(row.seconds for row in loaded.history), float)

    @EXAMPLES
    @given(damaged_json(path.read_bytes()))
    def check(data: bytes) -> None:
        _fuzz(path, data, read)
        for reader in (lambda: read_epochs(run), lambda: find_stage(run, resume=True)):
            found = _fuzz(path, data, reader)
            assert not isinstance(found, str) or STATE_FILE in found

    check()
