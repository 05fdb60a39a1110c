"""Loading weights: every kind of file is loaded, or refused with nothing changed."""

import contextlib
import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.errors import DeviceError, RunError
from cnnclf.models.backbones import find_backbone
from cnnclf.models.trunk import build_backbone
from cnnclf.models.weights import stored_layers
from cnnclf.models.weights.filling import load_weights, load_weights_file
from cnnclf.models.weights.lite_weights import load_lite_weights
from cnnclf.models.weights.published import LITE0_FILE, find_packaged, hash_weights
from cnnclf.models.weights.sources import WeightSource, find_weights
from cnnclf.progress import Silent

Pixels = npt.NDArray[np.float32]

SMALL = find_backbone("mobilenetv2-0.35")
PUBLISHED = Path(
    os.environ.get("CNNCLF_TEST_WEIGHTS", Path(__file__).parents[4] / "shared" / "weights")
)
MOBILENET_WITH_TOP = PUBLISHED / "mobilenet_2_5_224_tf.h5"
MOBILENET_V2 = PUBLISHED / SMALL.imagenet.name


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"published weights not here: {path}")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3)).astype("f4")


@pytest.fixture(scope="module")
def unchanged() -> Any:
    """A built backbone for files that are refused."""
    return build_small()


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the older format, of our small backbone without normalization around it."""
    import keras

    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("weights") / "own.h5"
    write_older_format(build_raw(), path)
    return path


def test_imagenet_weights_of_the_default_backbone_need_no_download(pixels: Pixels) -> None:
    row = find_backbone("efficientnet-lite0")
    model = build_backbone(row, height=64, width=64)
    before = run(model, pixels)
    loaded = load_weights(model, find_weights(row, "imagenet"), progress=Silent())
    assert loaded.sha256 == hash_weights(find_packaged())
    assert np.abs(run(model, pixels) - before).max() > 0.1


def test_a_tampered_package_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(find_packaged().read_bytes())
    data[-1] ^= 1
    tampered = tmp_path / LITE0_FILE.name
    tampered.write_bytes(data)
    with pytest.raises(RunError, match=r"contents do not match the checksum .* instead of 5793"):
        load_lite_weights(None, "efficientnet-lite0", path=tampered)


def test_an_older_file_fills_the_backbone(own_file: Path, pixels: Pixels) -> None:
    raw = build_raw()
    raw.load_weights(own_file)
    model = build_small()
    load_weights_file(model, SMALL, path=own_file)
    expected = run(raw, pixels / 127.5 - 1)
    assert_same(run(model, pixels), expected)


def test_files_are_recognized_by_their_content(tmp_path: Path, pixels: Pixels) -> None:
    model, other = build_small(), build_small()
    path = tmp_path / "own.weights.h5"
    other.save_weights(path)
    load_weights_file(model, SMALL, path=path.rename(tmp_path / "renamed.bin"))
    assert_same(run(model, pixels), run(other, pixels))


SHAPES = ("bare", "with a head", "in another model")
ENDINGS = (".keras", ".weights.h5", ".h5")
QUICK_ROWS = ("mobilenet-0.25",)
SLOW_ROWS = (
    "efficientnet-lite0",  # names of its own
    "efficientnet-b0",  # a layer of statistics inside
    "resnet50",  # branches
    "inceptionv3",  # names that Keras numbers
    "convnext-tiny",  # models inside
)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize(
    "name", [*QUICK_ROWS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_ROWS)]
)
def test_the_backbone_is_found_wherever_it_is_in_a_file(name: str, tmp_path: Path) -> None:
    import keras

    keras.backend.clear_session()
    row = find_backbone(name)
    size = row.min_size
    trained = build_backbone(row, height=size, width=size)
    fill_by_name(trained)
    models = {shape: wrap(trained, shape) for shape in SHAPES}
    keras.backend.clear_session()  # Keras numbers names from the start again, or does not
    fresh = build_backbone(row, height=size, width=size)
    for shape, model in models.items():
        for ending in ENDINGS:
            path = tmp_path / f"weights{ending}"
            if ending == ".weights.h5":
                model.save_weights(path)
            else:
                model.save(path)
            for weight in fresh.weights:
                weight.assign(np.zeros(weight.shape))
            skipped = load_weights_file(fresh, row, path=path)
            for ours, theirs in zip(fresh.weights, trained.weights, strict=True):
                np.testing.assert_array_equal(ours, theirs, f"{shape} {ending} {theirs.path}")
            assert len(skipped) == {"bare": 0, "with a head": 2, "in another model": 2}[shape]


def wrap(backbone: Any, shape: str) -> Any:
    """Put a head of two layers on a backbone, or put it into a model with layers around it."""
    import keras

    if shape == "bare":
        return backbone
    if shape == "with a head":
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
        return keras.Model(backbone.input, keras.layers.Dense(3)(keras.layers.Dense(5)(pooled)))
    pixels = keras.Input(backbone.input_shape[1:])
    flipped = keras.Sequential([keras.layers.RandomFlip()])(pixels)
    mixed = keras.layers.Conv2D(3, 1, name="mix_colors")(flipped)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(mixed))
    return keras.Model(pixels, keras.layers.Dense(3)(pooled))


def fill_by_name(model: Any) -> None:
    """Give each weight values of its own, so that any exchange is detected."""
    for number, weight in enumerate(model.weights):
        if "normalization/" not in weight.path.replace("batch_normalization", ""):
            weight.assign(np.random.default_rng(number).random(weight.shape, "f4"))


def test_a_frozen_backbone_is_found_too(tmp_path: Path, pixels: Pixels) -> None:
    """Of a frozen layer Keras lists the weights in another order."""
    other = build_small()
    fill_by_name(other)
    other.trainable = False
    path = tmp_path / "frozen.keras"
    wrap(other, "in another model").save(path)
    model = build_small()
    model.trainable = False
    load_weights_file(model, SMALL, path=path)
    assert_same(run(model, pixels), run(other, pixels))


def test_files_of_another_architecture_name_the_layers(
    unchanged: Any, own_file: Path, tmp_path: Path
) -> None:
    wider = find_backbone("mobilenetv2-0.5")
    model = build_backbone(wider, height=32, width=32)
    before = [np.asarray(weight) for weight in model.weights]
    newer = tmp_path / "own.weights.h5"
    unchanged.save_weights(newer)
    for path in (own_file, newer):
        with pytest.raises(RunError) as error:
            load_weights_file(model, wider, path=path)
        message = error.value.message
        assert message.startswith(f"weights in {path} do not fit mobilenetv2-0.5: ")
        assert ": 76 of 104 layers differ: block_1_project needs 1x1x48x16, the file" in message
        assert "has 1x1x48x8 (block_1_project); block_1_project_BN needs 16 + 16 + 16" in message
        assert message.endswith("; and 73 more")
        assert "--backbone" in error.value.hint
    assert all(map(np.array_equal, before, map(np.asarray, model.weights))), "nothing is half done"


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        pytest.param("resnet50", "resnet101", marks=pytest.mark.slow),
        pytest.param("resnet50v2", "resnet101v2", marks=pytest.mark.slow),
        ("vgg16", "vgg19"),
    ],
)
def test_a_deeper_relative_with_the_same_names_is_refused(
    smaller: str, larger: str, tmp_path: Path
) -> None:
    """Each layer of the smaller one has a namesake of equal shape in the larger one."""
    row, other = find_backbone(smaller), find_backbone(larger)
    path = tmp_path / f"{larger}.weights.h5"
    model = build_backbone(other, height=32, width=32)
    model.save_weights(path)
    write_older_format(model, tmp_path / other.imagenet.name)
    for each in (path, tmp_path / other.imagenet.name):
        with pytest.raises(RunError, match=f"do not fit {smaller}: ") as error:
            load_weights_file(build_backbone(row, height=32, width=32), row, path=each)
    assert error.value.hint == f"the file is for --backbone {larger}"


def test_too_few_layers_are_an_error(unchanged: Any, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "small.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]).save(path)
    with pytest.raises(RunError, match="Conv1 needs 3x3x3x16, the file has 3x3x3x4") as error:
        load_weights_file(unchanged, SMALL, path=path)
    assert "bn_Conv1 needs 16 + 16 + 16 + 16, the file has no such layer" in error.value.message


def test_layers_of_equal_shape_in_another_order_are_detected(
    unchanged: Any, own_file: Path, tmp_path: Path
) -> None:
    import h5py  # type: ignore[import-untyped]

    path = tmp_path / "exchanged.h5"
    path.write_bytes(own_file.read_bytes())
    with h5py.File(path, "r+") as file:
        names = list(file.attrs["layer_names"])
        first, second = names.index("block_4_depthwise"), names.index("block_5_depthwise")
        names[first], names[second] = names[second], names[first]
        file.attrs["layer_names"] = names
    with pytest.raises(
        RunError, match="the file has block_5_depthwise in place of block_4_depthwise"
    ):
        load_weights_file(unchanged, SMALL, path=path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    other = build_small()
    other.get_layer("bn_Conv1").gamma.assign(np.full(16, np.nan))
    path = tmp_path / "own.weights.h5"
    other.save_weights(path)
    model = build_small()
    before = np.asarray(model.get_layer("Conv1").kernel)
    with pytest.raises(RunError, match="layer bn_Conv1 are NaN or infinite"):
        load_weights_file(model, SMALL, path=path)
    np.testing.assert_array_equal(model.get_layer("Conv1").kernel, before)


def test_damaged_files_and_references_are_refused(
    unchanged: Any, own_file: Path, tmp_path: Path
) -> None:
    import h5py

    cut = tmp_path / "cut.h5"
    cut.write_bytes(own_file.read_bytes()[:5000])
    text = tmp_path / "text.h5"
    text.write_text("no weights at all")
    for path in (cut, text, tmp_path / "none.h5"):
        with pytest.raises(
            RunError, match=r"not a complete \.h5, .* \(another format or damaged\): "
        ):
            load_weights_file(unchanged, SMALL, path=path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(3 * 3 * 3 * 16 * 4))
    crafted = tmp_path / "crafted.h5"
    crafted.write_bytes(own_file.read_bytes())
    with h5py.File(crafted, "r+") as file:
        group = file["Conv1"]
        name = group.attrs["weight_names"][0]
        del group[name]
        group.create_dataset(
            name, (3, 3, 3, 16), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(RunError, match="a dataset refers to other files"):
        load_weights_file(unchanged, SMALL, path=crafted)
    with h5py.File(crafted, "r+") as file:
        del file["Conv1"]
        file["Conv1"] = h5py.ExternalLink(str(own_file), "Conv1")
    with pytest.raises(RunError, match="group Conv1 is missing"):
        load_weights_file(unchanged, SMALL, path=crafted)
    with h5py.File(crafted, "r+") as file:
        del file["Conv1"]
    with pytest.raises(RunError, match="group Conv1 is missing"):
        load_weights_file(unchanged, SMALL, path=crafted)


def test_links_in_newer_files_are_not_followed(unchanged: Any, tmp_path: Path) -> None:
    import h5py

    other = tmp_path / "other.weights.h5"
    unchanged.save_weights(other)
    crafted = tmp_path / "crafted.weights.h5"
    for target, words in (
        ("layers/conv2d", "a link instead of"),
        ("layers/conv2d/vars/0", "weights 0 are missing"),
    ):
        crafted.write_bytes(other.read_bytes())
        with h5py.File(crafted, "r+") as file:
            del file[target]
            file[target] = h5py.ExternalLink(str(other), target)
        with pytest.raises(RunError, match=words):
            load_weights_file(unchanged, SMALL, path=crafted)
    with h5py.File(crafted, "w") as file:
        file["layers/inner/layers"] = file.create_group("layers")  # a group inside itself
    with pytest.raises(RunError, match="too deeply nested groups"):
        load_weights_file(unchanged, SMALL, path=crafted)


def test_an_archive_is_read_and_never_run(tmp_path: Path, pixels: Pixels) -> None:
    """The graph of a .keras file is code; only its numbers are looked at."""
    import keras

    other = build_small()
    whole = keras.Model(other.input, keras.layers.Lambda(make_mark)(other.output))
    path = tmp_path / "with_code.keras"
    whole.save(path)
    model = build_small()
    MARKS.clear()
    load_weights_file(model, SMALL, path=path)
    assert MARKS == []
    assert_same(run(model, pixels), run(other, pixels))


MARKS: list[str] = []


def make_mark(x: Any) -> Any:
    MARKS.append("run")
    return x


def test_archives_that_are_cut_changed_or_bombs_are_refused(unchanged: Any, tmp_path: Path) -> None:
    whole = tmp_path / "whole.keras"
    unchanged.save(whole)
    data = whole.read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1  # in the middle of the numbers
    for name, content in (("cut", data[: len(data) // 2]), ("changed", bytes(changed))):
        path = tmp_path / f"{name}.keras"
        path.write_bytes(content)
        with pytest.raises(RunError, match=rf"\(another format or damaged\): {path}"):
            load_weights_file(unchanged, SMALL, path=path)
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(stored_layers.KERAS_MEMBER, bytes(10_000_000))
    with pytest.raises(RunError, match="archive expands to 10,000,000 bytes"):
        load_weights_file(unchanged, SMALL, path=bomb)
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(RunError, match="another format or damaged"):
        load_weights_file(unchanged, SMALL, path=bomb)


def test_a_full_disk_for_temporary_files_is_no_damage(
    unchanged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "whole.keras"
    unchanged.save(path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DeviceError, match="the disk is full: cannot write"):
        load_weights_file(unchanged, SMALL, path=path)


@pytest.mark.parametrize("error", [KeyError, TypeError, AttributeError, RuntimeError, OSError])
def test_a_bug_elsewhere_is_no_damage_of_the_file(own_file: Path, error: type[Exception]) -> None:
    def go_wrong() -> None:
        with stored_layers.open_stored(own_file) as stored:
            assert stored.lists[0]
            raise error("elsewhere")

    with pytest.raises(error, match="elsewhere"):
        go_wrong()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[tuple[str, bytes]]]:
    """A small backbone, in a newer file and in an archive."""
    folder = tmp_path_factory.mktemp("whole")
    model = build_backbone(find_backbone("mobilenet-0.25"), height=32, width=32)
    model.save(folder / "whole.keras")
    model.save_weights(folder / "whole.weights.h5")
    return model, [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


@settings(max_examples=12)
@given(data=st.data())
def test_damage_anywhere_is_refused_and_nothing_else_goes_wrong(
    whole: tuple[Any, list[tuple[str, bytes]]], data: st.DataObject, tmp_path_factory: Any
) -> None:
    """A cut end is always noticed; some scattered bytes too, but for those that hold no numbers."""
    row = find_backbone("mobilenet-0.25")
    model, files = whole
    name, content = data.draw(st.sampled_from(files))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(RunError, match="not a complete"):
        load_weights_file(model, row, path=path)
    changed = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=200)):
        changed[place] ^= 0x55
    path.write_bytes(changed)
    with contextlib.suppress(RunError):
        load_weights_file(model, row, path=path)


def test_what_was_loaded_is_recorded(unchanged: Any, own_file: Path, tmp_path: Path) -> None:
    model = build_small()
    progress = Silent()
    loaded = load_weights(model, find_weights(SMALL, str(own_file)), progress=progress)
    assert loaded.to_dict() == {
        "source": "file",
        "name": "own.h5",
        "sha256": hash_weights(own_file),
    }
    assert progress.notes == []
    headed = tmp_path / "headed.keras"
    wrap(unchanged, "with a head").save(headed)
    load_weights(model, find_weights(SMALL, str(headed)), progress=progress)
    assert len(progress.notes) == 1
    assert progress.notes[0].startswith("layers of headed.keras that were skipped: dense")
    before = np.asarray(model.weights[0])
    nothing = load_weights(model, find_weights(SMALL, "none"), progress=progress)
    assert nothing.to_dict() == {"source": "none", "name": "", "sha256": ""}
    np.testing.assert_array_equal(model.weights[0], before)


def test_a_bundle_whose_model_was_changed_is_refused(unchanged: Any, tmp_path: Path) -> None:
    unchanged.save(tmp_path / "model.keras")
    (tmp_path / "classifier.json").write_text('{"sha256": "0"}')
    source = WeightSource("run", SMALL, tmp_path / "model.keras", "run")
    with pytest.raises(RunError, match=r"contents of model\.keras do not match the checksum"):
        load_weights(unchanged, source, progress=Silent())


def test_efficientnet_weights_keep_the_normalization_they_were_trained_with(
    tmp_path: Path,
) -> None:
    """Keras saves half of it in the file and adds the rest only to models it loads itself."""
    import keras

    row = find_backbone("efficientnet-b0")
    raw = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    layer = next(each for each in raw.layers if isinstance(each, keras.layers.Normalization))
    std = np.array([0.229, 0.224, 0.225])
    layer.weights[0].assign([0.485, 0.456, 0.406])
    layer.weights[1].assign(std)
    layer.finalize_state()
    path = tmp_path / "published.h5"
    write_older_format(raw, path)
    model = build_backbone(row, height=32, width=32)
    load_weights_file(model, row, path=path)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("f4")
    ours = next(each for each in model.layers if isinstance(each, keras.layers.Normalization))
    normalized = keras.Model(model.input, ours.output)(pixels)
    expected = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / std
    np.testing.assert_allclose(normalized, expected, rtol=0, atol=1e-5)


@needs(MOBILENET_V2)
def test_published_weights_are_read_as_keras_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: Pixels
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / MOBILENET_V2.name).symlink_to(MOBILENET_V2)
    model = build_small()
    loaded = load_weights(model, find_weights(SMALL, "imagenet"), progress=Silent())
    assert loaded.to_dict() == {
        "source": "imagenet",
        "name": MOBILENET_V2.name,
        "sha256": hash_weights(MOBILENET_V2),
    }
    raw = build_raw(weights=str(MOBILENET_V2))
    assert_same(run(model, pixels), run(raw, pixels / 127.5 - 1))


@needs(MOBILENET_WITH_TOP)
def test_a_published_file_with_its_top_fits_too(pixels: Pixels) -> None:
    import keras

    row = find_backbone("mobilenet-0.25")
    model = build_backbone(row, height=64, width=64)
    assert load_weights_file(model, row, path=MOBILENET_WITH_TOP) == ("conv_preds",)
    wider = find_backbone("mobilenet-0.5")
    with pytest.raises(RunError, match="conv1 needs 3x3x3x16, the file has 3x3x3x8") as error:
        load_weights_file(
            build_backbone(wider, height=32, width=32), wider, path=MOBILENET_WITH_TOP
        )
    assert error.value.hint == "the file is for --backbone mobilenet-0.25"
    with_top = keras.applications.MobileNet(alpha=0.25, weights=str(MOBILENET_WITH_TOP))
    bare = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    bare.set_weights(with_top.get_weights()[:-2])
    assert_same(run(model, pixels), run(bare, pixels / 127.5 - 1))


def build_small() -> Any:
    return build_backbone(SMALL, height=64, width=64)


def build_raw(weights: str | None = None) -> Any:
    import keras

    return keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=weights, input_shape=(64, 64, 3)
    )


def write_older_format(model: Any, path: Path) -> None:
    """Write what Keras 2 wrote: layers by name, weights by name, both listed in order."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = []
            for number, weight in enumerate(layer.weights):
                names.append(f"{layer.name}/{number}:0".encode())
                group[names[-1]] = np.asarray(weight)
            group.attrs["weight_names"] = names


def run(model: Any, pixels: Pixels) -> npt.NDArray[Any]:
    return np.asarray(model(pixels, training=False))


def assert_same(received: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
