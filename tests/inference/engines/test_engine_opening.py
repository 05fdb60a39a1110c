"""The engine cache and the comparison with Keras, as somebody who opens a bundle meets them."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf import files, full_disks
from cnnclf.errors import DeviceError, MissingPackageError, RunError
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines import choosing, engine_cache, engine_opening, engine_table
from cnnclf.inference.engines.converting import converting
from cnnclf.inference.engines.engine import EngineOptions, EngineRefusedError, ModelFile, Pixels
from cnnclf.inference.engines.engine_table import ENGINES, EngineRow, Tolerance
from cnnclf.inference.engines.keras_comparison import save_reference
from cnnclf.inference.engines.openvino_engine import (
    OpenVinoEngine,
    convert_to_openvino,
    open_openvino,
)
from cnnclf.inference.keras_loader import KerasLoader
from cnnclf.progress import Silent
from tests.inference.conftest import LABELS

HERE = "tests.inference.engines.test_engine_opening"


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def fresh(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that no engine has seen, and a user's cache of its own."""
    monkeypatch.setenv("CNNCLF_CACHE_DIR", str(tmp_path / "cache"))
    return Path(shutil.copytree(bundle, tmp_path / "fresh"))


@pytest.fixture
def used(own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with OpenVINO's form of it, to be changed as a test likes."""
    monkeypatch.setenv("CNNCLF_CACHE_DIR", str(tmp_path / "cache"))
    Classifier.load(own_bundle, engine="openvino", precision="float32")
    copy = Path(shutil.copytree(own_bundle, tmp_path / "used"))
    for path in (copy / "engine-cache").iterdir():
        if path.is_dir() and not path.name.startswith("openvino-"):
            shutil.rmtree(path)
        elif path.is_file() and not re.match(r"openvino-.*\.float32-", path.name):
            path.unlink()
    return copy


@pytest.fixture
def no_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the Keras model is loaded."""

    def refuse(loader: object) -> None:
        raise AssertionError("Keras was asked for")

    monkeypatch.setattr(KerasLoader, "load", refuse)


def load(path: Path, engine: str = "openvino", precision: str = "float32") -> tuple[Any, Silent]:
    progress = Silent()
    found = Classifier.load(path, engine=engine, precision=precision, progress=progress)
    return found, progress


def find_form(place: Path, engine: str = "openvino") -> Path:
    [form] = [path for path in place.glob(f"{engine}-*") if path.is_dir()]
    return form


# --- what is kept


def test_a_form_is_made_once_and_needs_no_keras_again(
    fresh: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = load(fresh)
    expected = first.logits(pixels)
    content = json.loads((find_form(fresh / "engine-cache") / "form.json").read_text())
    assert content["files"].keys() == {"model.xml", "model.bin", "reference.npz"}
    monkeypatch.setattr(KerasLoader, "load", lambda _: pytest.fail("Keras was asked for"))
    again, progress = load(fresh)
    np.testing.assert_array_equal(again.logits(pixels), expected)
    assert progress.warnings == []


def test_another_precision_or_processor_needs_no_keras_either(
    used: Path, pixels: Pixels, no_keras: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(used, precision="bfloat16")
    monkeypatch.setattr(engine_cache, "read_cpu_name", lambda: "another processor")
    load(used)
    verdicts = sorted(path.name.split(".")[-2][:8] for path in used.glob("engine-cache/*.json"))
    assert verdicts == ["bfloat16", "float32-", "float32-"]


def test_the_model_of_keras_is_loaded_when_it_is_asked_for(used: Path, pixels: Pixels) -> None:
    found, _ = load(used)
    assert found.engine.name == "openvino"
    np.testing.assert_allclose(
        found.model.predict_on_batch(pixels), found.logits(pixels), rtol=1e-4, atol=1e-4
    )


def test_a_form_of_another_version_is_left_alone_and_made_again(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = find_form(used / "engine-cache")
    monkeypatch.setattr(engine_opening, "read_engine_version", lambda _: "9999.1")
    _, progress = load(used)
    new = old.with_name(f"openvino-9999.1-{old.name.rpartition('-')[2]}")
    assert new.is_dir()
    assert old.is_dir()
    assert progress.warnings == []


def test_a_form_of_another_model_is_not_taken(fresh: Path, tmp_path: Path, used: Path) -> None:
    from cnnclf.inference.bundles import save_bundle
    from tests.inference.conftest import SPEC, build_tiny

    model = build_tiny()
    model.layers[-1].set_weights([w + 1 for w in model.layers[-1].get_weights()])
    save_bundle(used, model, labels=LABELS, input_spec=SPEC, dataset={})
    load(used)
    assert len([path for path in (used / "engine-cache").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "reference.npz", "form.json"])
def test_a_damaged_conversion_is_repeated(used: Path, pixels: Pixels, name: str) -> None:
    damaged = find_form(used / "engine-cache") / name
    before = damaged.read_bytes()
    damaged.write_bytes(before[: len(before) // 2])
    found, progress = load(used)
    assert [
        text for text in progress.warnings if "is damaged" in text and "converting again" in text
    ]
    assert found.engine.name == "openvino"
    assert find_form(used / "engine-cache") == damaged.parent
    assert damaged.stat().st_size == pytest.approx(len(before), rel=0.1)
    _, progress = load(used)
    assert progress.warnings == []


def test_a_damaged_verdict_is_found_out_again(used: Path, no_keras: None) -> None:
    [verdict] = used.glob("engine-cache/*.float32-*.json")
    verdict.write_text("{", encoding="utf-8")
    _, progress = load(used)
    assert json.loads(verdict.read_text(encoding="utf-8"))["is_close"] is True
    assert progress.warnings == []


def test_where_the_run_cannot_be_written_the_users_cache_is(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "engine-cache").write_text("a file in the way")
    load(fresh)
    assert find_form(tmp_path / "cache" / "engine-cache").is_dir()
    monkeypatch.setattr(KerasLoader, "load", lambda _: pytest.fail("Keras was asked for"))
    _, progress = load(fresh)
    assert progress.warnings == []


def test_where_nothing_can_be_written_it_works_and_says_what_it_costs(
    fresh: Path, tmp_path: Path, pixels: Pixels
) -> None:
    (fresh / "engine-cache").write_text("a file in the way")
    (tmp_path / "cache").write_text("another one")
    found, progress = load(fresh)
    assert found.logits(pixels).shape == (5, 3)
    [text] = progress.warnings
    assert "not writable" in text


def convert_unless_full(model: Any, directory: Path) -> Path:
    """Convert, or fail as OpenVINO does where there is no room."""
    if full_disks._try_to_write(directory):
        with converting("Broken"):
            raise RuntimeError("basic_ios::clear: iostream error")
    return convert_to_openvino(model, directory)


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch, broken: Any) -> Any:
    """Fill the disks of some directories up: `fill(path, ...)`."""
    broken("open_openvino", "convert_unless_full")

    def call(*full: Path) -> None:
        def try_to_write(directory: Path) -> OSError | None:
            is_full = any(directory.is_relative_to(each) for each in full)
            return OSError(errno.ENOSPC, "full") if is_full else None

        monkeypatch.setattr(full_disks, "_try_to_write", try_to_write)

    return call


def test_where_the_runs_disk_is_full_the_users_cache_is(
    fresh: Path, tmp_path: Path, fill: Any
) -> None:
    fill(fresh)
    found, progress = load(fresh, "broken")
    assert found.engine.name == "openvino"
    assert progress.warnings == []
    assert find_form(tmp_path / "cache" / "engine-cache", "broken").is_dir()
    assert not list((fresh / "engine-cache").glob("*tensorflow.json"))


def test_where_all_caches_are_full_it_works_and_says_what_it_costs(
    fresh: Path, tmp_path: Path, fill: Any
) -> None:
    fill(fresh, tmp_path / "cache")
    _, progress = load(fresh, "broken")
    [text] = progress.warnings
    assert "are full or not writable" in text


def test_a_full_disk_is_no_refusal_and_is_not_remembered(
    fresh: Path, tmp_path: Path, fill: Any
) -> None:
    fill(Path("/"))
    with pytest.raises(DeviceError, match="not enough disk space") as caught:
        load(fresh, "broken")
    assert "--engine keras" in caught.value.hint
    assert not list(tmp_path.rglob("*.tensorflow.json"))
    fill()
    found, progress = load(fresh, "broken")
    assert found.engine.name == "openvino"
    assert progress.warnings == []
    assert find_form(fresh / "engine-cache", "broken").is_dir()


def test_what_was_found_out_need_not_be_kept(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for verdict in used.glob("engine-cache/*.float32-*.json"):
        verdict.unlink()

    def full(path: Path, content: Any) -> None:
        raise full_disks.DiskFullError(f"the disk is full: cannot write {path}")

    monkeypatch.setattr(engine_cache, "write_json_atomic", full)
    found, progress = load(used)
    assert found.engine.name == "openvino"
    assert progress.warnings == []


def test_a_form_that_another_process_finished_first_is_taken(
    used: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch, pixels: Pixels
) -> None:
    theirs = find_form(used / "engine-cache")
    write = engine_cache.EngineCache._write

    def late(cache: Any, key: Any, directory: Path, make: Any) -> Any:
        form = write(cache, key, directory, make)
        shutil.copytree(theirs, fresh / "engine-cache" / theirs.name)
        return form

    monkeypatch.setattr(engine_cache.EngineCache, "_write", late)
    found, _ = load(fresh)
    assert found.logits(pixels).shape == (5, 3)
    assert sorted(path.suffix for path in (fresh / "engine-cache").iterdir() if path.is_file()) == [
        ".json"
    ]
    assert find_form(fresh / "engine-cache").name == theirs.name


def test_what_a_killed_process_left_is_removed_after_a_day(fresh: Path) -> None:
    old, new = (fresh / "engine-cache" / f".new-{name}" for name in ("old", "new"))
    for path in (old, new):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    load(fresh)
    assert not old.exists()
    assert new.exists()


# --- what is compared


class Broken(OpenVinoEngine):
    """Confuses two labels."""

    def logits(self, pixels: Pixels) -> Any:
        return super().logits(pixels)[:, [1, 0, 2]]


def open_broken(model: ModelFile, options: EngineOptions) -> Broken:
    good = open_openvino(model, options)
    return Broken(good.graph, precision=options.precision or "float32", outputs=3)


def refuse_to_open(model: ModelFile, options: EngineOptions) -> None:
    raise RunError(f"cannot open {model.path}")


def refuse_to_convert(model: Any, directory: Path) -> Path:
    raise EngineRefusedError("Broken cannot compute this model: no such layer")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a row of our own before the others."""

    def add(opener: str = "open_broken", converter: str = "", *, bfloat16: bool = False) -> None:
        row = EngineRow(
            name="broken",
            title="Broken",
            extra="broken",
            modules=(),
            converting=(),
            distribution="openvino",
            precisions=("float32", "bfloat16") if bfloat16 else ("float32",),
            tolerances={"float32": Tolerance(1e-3), "bfloat16": Tolerance(0.1)},
            opens=("broken",),
            opener=f"{HERE}:{opener}",
            converter=f"{HERE}:{converter}"
            if converter
            else "cnnclf.inference.engines.openvino_engine:convert_to_openvino",
        )
        others = tuple(each for each in ENGINES if each.name in {"openvino", "keras"})
        for module in (engine_table, choosing):
            monkeypatch.setattr(module, "ENGINES", (row, *others))

    return add


def test_an_engine_that_disagrees_is_rejected_with_the_figure_and_the_next_is_used(
    fresh: Path, pixels: Pixels, broken: Any, classifier: Classifier
) -> None:
    broken()
    found, progress = load(fresh, "broken")
    assert found.engine.name == "openvino"
    np.testing.assert_allclose(found.logits(pixels), classifier.logits(pixels), atol=1e-4)
    [warning] = progress.warnings
    assert "Broken" in warning
    assert "differ by" in warning
    assert "allowed 0.001" in warning
    assert "using OpenVINO in float32 instead" in warning


def test_a_refusal_is_remembered(fresh: Path, broken: Any, used: Path, no_keras: None) -> None:
    broken("open_broken")
    form = find_form(used / "engine-cache")
    theirs = form.with_name(form.name.replace("openvino", "broken"))
    shutil.copytree(form, theirs)
    content = files.read_json(theirs / "form.json") | {"engine": "broken"}
    files.write_json_atomic(theirs / "form.json", content)
    for _ in range(2):
        found, progress = load(used, "broken")
        assert "differ by" in progress.warnings[0]
        assert found.engine.name == "openvino"
    assert len(list(used.glob("engine-cache/broken-*.json"))) == 1


def test_what_cannot_be_converted_is_remembered_too(
    used: Path, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(converter="refuse_to_convert")
    found, progress = load(used, "broken")
    assert found.engine.name == "openvino"
    assert progress.warnings == [
        "Broken cannot compute this model: no such layer; using OpenVINO in float32 instead"
    ]
    monkeypatch.setattr(KerasLoader, "load", lambda _: pytest.fail("Keras was asked for"))
    _, again = load(used, "broken")
    assert again.warnings == progress.warnings


def test_what_python_cannot_convert_without_docstrings_is_tried_again_with_them(
    fresh: Path, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(converter="refuse_to_convert")
    with monkeypatch.context() as patch:
        patch.setattr(engine_opening, "sys", SimpleNamespace(flags=SimpleNamespace(optimize=2)))
        assert load(fresh, "broken")[0].engine.name == "openvino"
    assert len(list(fresh.glob("engine-cache/broken-*.tensorflow-OO.json"))) == 1
    assert not list(fresh.glob("engine-cache/broken-*.tensorflow.json"))
    broken()
    assert "no such layer" not in load(fresh, "broken")[1].warnings[0]  # it was converted


def test_what_cannot_be_converted_is_not_tried_in_another_precision(
    fresh: Path, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(converter="refuse_to_convert", bfloat16=True)
    monkeypatch.setattr(choosing, "find_fast_precision", lambda: "bfloat16")
    for _ in range(2):  # found out, and remembered
        found, progress = load(fresh, "broken", "auto")
        assert found.engine.name == "openvino"
        assert progress.warnings == [
            "Broken cannot compute this model: no such layer; using OpenVINO in float32 instead"
        ]


def test_what_computes_something_else_in_one_precision_is_tried_in_another(
    fresh: Path, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(bfloat16=True)
    monkeypatch.setattr(choosing, "find_fast_precision", lambda: "bfloat16")
    _, progress = load(fresh, "broken", "auto")
    assert [text.rpartition("; ")[2] for text in progress.warnings] == [
        "using Broken in float32 instead",
        "using OpenVINO in float32 instead",
    ]


def test_an_engine_that_cannot_open_the_model_is_skipped(fresh: Path, broken: Any) -> None:
    broken("refuse_to_open")
    found, progress = load(fresh, "broken")
    assert found.engine.name == "openvino"
    assert "cannot open" in progress.warnings[0]


def test_what_is_missing_to_convert_is_named(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(row: EngineRow, *, converting: bool = False) -> None:
        if converting:
            raise MissingPackageError("scipy is missing", "python -m pip install scipy")

    monkeypatch.setattr(engine_opening, "check_installed", check)
    with pytest.raises(MissingPackageError):
        load(fresh)


def test_the_bundles_own_images_are_compared_on(fresh: Path, pixels: Pixels) -> None:
    save_reference(fresh, pixels)
    load(fresh)
    with np.load(find_form(fresh / "engine-cache") / "reference.npz") as arrays:
        np.testing.assert_array_equal(arrays["pixels"], pixels)
        assert arrays["logits"].shape == (5, 3)


def test_without_usable_images_synthetic_ones_are_used(fresh: Path, pixels: Pixels) -> None:
    (fresh / "reference.npz").write_bytes(b"no zip")
    _, progress = load(fresh)
    assert "using synthetic images instead" in progress.warnings[0]
    with np.load(find_form(fresh / "engine-cache") / "reference.npz") as arrays:
        assert arrays["pixels"].shape == (8, 16, 16, 3)


# --- what is refused whatever the engine


def test_a_changed_model_is_refused_before_its_form_is_used(used: Path) -> None:
    with (used / "model.keras").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="do not match the checksum"):
        load(used)


def test_labels_that_do_not_fit_the_form_are_refused(used: Path) -> None:
    path = used / "classifier.json"
    files.write_json_atomic(path, files.read_json(path) | {"labels": ["red", "green"]})
    with pytest.raises(RunError, match="2 labels"):
        load(used)


@pytest.mark.parametrize("form", ["openvino", "onnx", "litert"])
def test_an_artifact_is_opened_by_the_engine_of_its_format(
    own_bundle: Path,
    tmp_path: Path,
    form: str,
    pixels: Pixels,
    classifier: Classifier,
    no_keras: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an export will write: classifier.json beside a model of another format."""
    monkeypatch.undo()
    from cnnclf.inference.bundles import hash_files

    row = next(row for row in ENGINES if row.opens[0] == form)
    Classifier.load(own_bundle, engine=row.name, precision="float32")
    made = find_form(own_bundle / "engine-cache", row.name)
    model, *others = sorted(
        (path.name for path in made.glob("model.*")), key=lambda name: name.endswith(".bin")
    )
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    for name in (model, *others):
        shutil.copy(made / name, artifact / name)
    content = files.read_json(own_bundle / "classifier.json") | {
        "format": form,
        "model": model,
        "files": others,
        "sha256": hash_files(artifact, [model, *others]),
    }
    files.write_json_atomic(artifact / "classifier.json", content)
    for path in (artifact, artifact / model, artifact / "classifier.json"):
        found = Classifier.load(path)
        assert found.engine.name == row.name
        np.testing.assert_allclose(found.logits(pixels), classifier.logits(pixels), atol=1e-4)
    with pytest.raises(RunError, match="not keras"):
        _ = found.model
    if form != "openvino":
        assert Classifier.load(artifact, engine="openvino").engine.name == "openvino"
    with (artifact / [model, *others][-1]).open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="do not match the checksum"):
        Classifier.load(artifact)


def test_it_is_reported_if_keras_itself_has_changed(
    fresh: Path, pixels: Pixels, classifier: Classifier
) -> None:
    expected = classifier.logits(pixels)
    save_reference(fresh, pixels, logits=expected)
    _, progress = load(fresh)
    assert progress.warnings == []
    save_reference(fresh, pixels, logits=-expected)
    shutil.rmtree(fresh / "engine-cache")
    found, progress = load(fresh)
    assert "the logits of Keras differ" in progress.warnings[0]
    assert found.engine.name == "openvino"


def test_a_gpu_that_keras_does_not_find_after_all_is_no_reason_to_be_slow(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "is_gpu_usable", lambda _: True)
    progress = Silent()
    found = Classifier.load(
        used, engine="auto", precision="float32", device="auto", progress=progress
    )
    assert (found.engine.name, found.engine.precision) == ("openvino", "float32")
    assert [note for note in progress.notes if "OpenVINO in float32" in note]


def test_a_fallback_is_not_tried_twice(
    fresh: Path, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(converter="refuse_to_convert")
    monkeypatch.setattr(choosing, "_FASTEST_ON_CPU", "broken")
    monkeypatch.setattr(
        choosing, "ENGINES", [row for row in engine_table.ENGINES if row.name != "openvino"]
    )
    progress = Silent()
    found = Classifier.load(
        fresh, engine="auto", precision="float32", device="auto", progress=progress
    )
    assert found.engine.name == "keras"
    assert progress.warnings == [
        "Broken cannot compute this model: no such layer; using Keras in float32 instead"
    ]


def test_engines_are_compared_with_keras_on_the_cpu(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnclf import runtime

    asked: list[str] = []
    setup = runtime.setup_runtime

    def watched(*, device: str, **settings: Any) -> Any:
        asked.append(device)
        return setup(device="cpu", **settings)

    monkeypatch.setattr(runtime, "setup_runtime", watched)
    monkeypatch.setattr(choosing, "is_gpu_usable", lambda _: True)
    Classifier.load(fresh, engine="openvino", device="auto")
    assert asked == ["cpu"]
    Classifier.load(fresh, engine="auto", device="auto")
    assert asked == ["cpu", "auto"]
