"""The door to a trained model: what goes in comes out, and what does not fit stays out."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cnnclf import files
from cnnclf.errors import RunError, UsageError
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_engine import KerasEngine
from cnnclf.inference.engines.openvino_head import open_openvino_head
from cnnclf.runs.run_opening import create_run
from tests.inference.conftest import LABELS, SPEC, Draw, build_tiny


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copied"))


def edit(directory: Path, **fields: Any) -> None:
    path = directory / "classifier.json"
    files.write_json_atomic(path, files.read_json(path) | fields)


def save(directory: Path, model: Any, **fields: Any) -> None:
    content: dict[str, Any] = {"labels": LABELS, "input_spec": SPEC, "dataset": {}}
    save_bundle(directory, model, **(content | fields))


# --- writing


def test_a_bundle_says_what_is_needed(bundle: Path) -> None:
    content = json.loads((bundle / "classifier.json").read_text(encoding="utf-8"))
    assert sorted(entry.name for entry in bundle.iterdir()) == ["classifier.json", "model.keras"]
    assert content["labels"] == list(LABELS)
    assert content["input_spec"] == SPEC.to_dict()
    assert (content["schema_version"], content["output"], content["temperature"]) == (
        1,
        "logits",
        1.0,
    )
    assert content["dataset"] == {"name": "colors", "fingerprint": "0" * 64}
    assert content["extra"] == {"epoch": 3}
    assert content["parameters"] == build_tiny().count_params()
    assert {"cnnclf", "keras"} < content["versions"].keys()


def test_a_compiled_model_is_saved_without_its_training(tmp_path: Path, pixels: np.ndarray) -> None:
    import keras

    def own_loss(target: Any, output: Any) -> Any:
        return keras.ops.mean(keras.ops.square(output - target))

    model = build_tiny()
    model.compile(optimizer="adam", loss=own_loss)
    model.train_on_batch(pixels, np.zeros((24, 3), np.float32))
    save(tmp_path / "a", model)
    assert model.compiled
    save(tmp_path / "a", model)
    model.train_on_batch(pixels, np.ones((24, 3), np.float32))
    model.layers[1].trainable = False
    expected = model.predict_on_batch(pixels)
    save(tmp_path / "a", model)
    loaded = Classifier.load(tmp_path / "a")
    np.testing.assert_allclose(loaded.logits(pixels), expected, atol=1e-5)
    assert not loaded.model.layers[1].trainable
    with zipfile.ZipFile(tmp_path / "a" / "model.keras") as archive:
        assert b"own_loss" not in archive.read("config.json")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"labels": ("a", "b")}, "2 labels"),
        ({"labels": ("a", "b", "a")}, "unique"),
        ({"labels": ("a", "b", "")}, "unique"),
        ({"input_spec": InputSpec(16, 17)}, "input spec"),
        ({"input_spec": InputSpec(16, 16, 1)}, "input spec"),
    ],
)
def test_what_does_not_fit_is_not_saved(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        save(tmp_path / "a", build_tiny(), **fields)
    assert not (tmp_path / "a").exists()


# --- finding


def test_every_name_of_a_bundle_leads_to_it(bundle: Path) -> None:
    for path in (bundle, bundle / "model.keras", bundle / "classifier.json"):
        assert find_bundle(path) == bundle


def test_a_run_means_its_best_checkpoint(copied: Path, tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    with pytest.raises(RunError, match="unfinished"):
        find_bundle(run.path)
    run.checkpoints.mkdir()
    copied.rename(run.best)
    assert find_bundle(run.path) == run.best
    old = run.checkpoints / ".best.cnnclf-old"
    run.best.rename(old)  # as a kill in the middle of a swap leaves it
    assert find_bundle(run.path) == find_bundle(run.best) == old


def test_what_is_no_bundle_is_named(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        find_bundle(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="it is a file"):
        find_bundle(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"no run\.json"):
        find_bundle(tmp_path / "empty")
    (copied / "classifier.json").unlink()
    with pytest.raises(RunError, match=r"classifier\.json is missing"):
        find_bundle(copied)


# --- refusing


def test_a_changed_model_is_refused(copied: Path) -> None:
    data = bytearray((copied / "model.keras").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "model.keras").write_bytes(data)
    with pytest.raises(RunError, match="do not match the checksum"):
        Classifier.load(copied)


def test_a_missing_model_is_refused(copied: Path) -> None:
    (copied / "model.keras").unlink()
    with pytest.raises(RunError, match=r"damaged: model\.keras"):
        Classifier.load(copied)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema_version": 2}, "newer version of cnnclf"),
        ({"schema_version": None}, "format version"),
        ({"labels": None}, "damaged"),
        ({"labels": ["red", "green"]}, "2 labels"),
        ({"labels": ["red", "green", 3]}, "expected labels that are text"),
        ({"input_spec": {"height": 16}}, "input spec"),
        ({"input_spec": InputSpec(16, 8).to_dict()}, "input spec"),
        ({"output": "probabilities"}, "output"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "warm"}, "damaged"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    copied: Path, fields: dict[str, Any], reason: str
) -> None:
    edit(copied, **fields)
    with pytest.raises(RunError, match=reason):
        Classifier.load(copied)


def test_a_missing_field_is_named(copied: Path) -> None:
    path = copied / "classifier.json"
    content = files.read_json(path)
    del content["temperature"]
    files.write_json_atomic(path, content)
    with pytest.raises(RunError, match="'temperature' is missing"):
        Classifier.load(copied)


def test_a_lambda_is_refused(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([*build_tiny().layers, keras.layers.Lambda(lambda x: x)])
    model.build((None, 16, 16, 3))
    save(tmp_path / "a", model)
    with pytest.raises(RunError, match=r"custom code.*Lambda"):
        Classifier.load(tmp_path / "a")


def test_a_custom_layer_is_refused(tmp_path: Path) -> None:
    import keras

    class Mine(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([*build_tiny().layers, Mine()])
    model.build((None, 16, 16, 3))
    save(tmp_path / "a", model)
    with pytest.raises(RunError, match=r"custom code.*Mine"):
        Classifier.load(tmp_path / "a")


def test_what_keras_cannot_read_is_refused(copied: Path) -> None:
    import hashlib

    (copied / "model.keras").write_bytes(b"no zip")
    edit(copied, sha256=hashlib.sha256(b"no zip").hexdigest())
    with pytest.raises(RunError, match="cannot load") as caught:
        Classifier.load(copied)
    assert "\n" not in caught.value.message


# --- computing


def test_logits_are_the_same_alone_in_batches_and_after_reloading(
    bundle: Path, classifier: Classifier, pixels: np.ndarray
) -> None:
    together = classifier.logits(pixels)
    assert together.dtype == np.float32
    assert together.shape == (24, 3)
    alone = np.concatenate([classifier.logits(pixels[i : i + 1]) for i in range(24)])
    eights = np.concatenate([classifier.logits(pixels[i : i + 8]) for i in range(0, 24, 8)])
    again = Classifier.load(bundle).logits(pixels)
    direct = build_tiny()(pixels.astype(np.float32), training=False)
    for other in (alone, eights, again, direct):
        np.testing.assert_allclose(np.asarray(other), together, atol=1e-5)


def test_a_short_last_batch_needs_no_new_graph(bundle: Path, pixels: np.ndarray) -> None:
    classifier = Classifier.load(bundle)
    sizes: list[int] = []
    inner = classifier.model.predict_on_batch

    def watched(batch: np.ndarray) -> Any:
        sizes.append(len(batch))
        return inner(batch)

    classifier.model.predict_on_batch = watched
    expected = build_tiny().predict_on_batch(pixels)
    for size in (8, 8, 5, 5, 3, 24):
        logits = classifier.logits(pixels[:size])
        np.testing.assert_allclose(logits, expected[:size], atol=1e-5)
    # A size asked for a second time is worth a graph of its own.
    assert sizes == [8, 8, 8, 5, 5, 24]


def test_the_number_of_graphs_is_bounded(bundle: Path, pixels: np.ndarray) -> None:
    classifier = Classifier.load(bundle)
    for _ in range(2):
        for size in range(24, 0, -1):
            assert len(classifier.logits(pixels[:size])) == size
    assert len(cast("KerasEngine", classifier.engine)._sizes) <= 8


def test_no_images_give_no_logits(classifier: Classifier, pixels: np.ndarray) -> None:
    assert classifier.logits(pixels[:0]).shape == (0, 3)


def test_other_pixels_are_refused(classifier: Classifier, pixels: np.ndarray) -> None:
    for wrong in (pixels.astype(np.float32), pixels[0], pixels[:, :8], pixels[..., :1]):
        with pytest.raises(ValueError, match="expected uint8 pixels"):
            classifier.logits(wrong)


def test_a_process_that_was_forked_is_refused_rather_than_waiting_forever(
    classifier: Classifier, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(UsageError, match="was forked since") as caught:
        classifier.logits(pixels)
    assert "in each process" in caught.value.hint
    with pytest.raises(UsageError, match="was forked since"):
        next(classifier.stream([(None, pixels)]))


def test_probabilities_add_up_and_follow_the_temperature(copied: Path) -> None:
    edit(copied, temperature=2.0)
    classifier = Classifier.load(copied)
    logits = np.array([[2000.0, 0.0, -2000.0], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], np.float32)
    probabilities = classifier.probabilities(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(probabilities[0], [1, 0, 0])
    half = np.exp([0.5, 1.0, 1.5])
    np.testing.assert_allclose(probabilities[1], half / half.sum())
    np.testing.assert_allclose(probabilities[2], 1 / 3)


def test_a_threshold_is_kept(tmp_path: Path, classifier: Classifier) -> None:
    assert classifier.threshold is None
    save(tmp_path / "a", build_tiny(), threshold=0.25, temperature=1.5)
    loaded = Classifier.load(tmp_path / "a")
    assert (loaded.threshold, loaded.temperature) == (0.25, 1.5)


def test_decode_uses_the_input_spec(classifier: Classifier, draw: Draw) -> None:
    pixels = classifier.decode(draw("a.png", "green"))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (16, 16, 3)
    assert classifier.logits(pixels[None]).argmax() == 1


def test_one_converted_model_serves_all_commands(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(calibrated, tmp_path / "tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    exact: dict[str, Any] = {"engine": "openvino", "precision": "float32"}
    predicting = Classifier.load(directory, **exact, features=4)

    def refuse(*_: object) -> None:
        raise AssertionError("converted, or loaded in Keras, once more")

    monkeypatch.setattr("cnnclf.inference.engines.engine_cache.EngineCache.make", refuse)
    with monkeypatch.context() as patch:
        patch.setattr("cnnclf.inference.engines.keras_engine.load_keras_model", refuse)
        explaining = Classifier.load(directory, **exact)
        calibrating = Classifier.load(directory, **exact, features=None)
    assert calibrating.features == explaining.features == 4
    logits = predicting.logits(pixels)
    assert logits.shape == (5, 3)
    np.testing.assert_array_equal(explaining.logits(pixels), logits)
    np.testing.assert_allclose(Classifier.load(directory).logits(pixels), logits, atol=1e-4)

    head = open_openvino_head(explaining.engine, explaining.source.model)
    assert head is not None
    maps, same = head.compute(pixels)
    assert maps.shape[-1] == 4
    np.testing.assert_allclose(same, logits, atol=1e-4)
    assert explaining.model.output_shape == (None, 3), "Keras gives logits alone"
