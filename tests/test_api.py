"""The Python interface: what it loads, its settings, and the walk-through of its page."""

import inspect
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import cnnclf
from cnnclf.api.arguments import texts_of
from cnnclf.errors import ConfigError, ImageError, UsageError
from cnnclf.training.epochs import EpochRow, StopRequest
from cnnclf.training.fitting import checkpoints
from tests.test_architecture import HEAVY, loaded_by
from tests.training.tiny_finetune import TINY, tiny_backbone

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "python.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
FUNCTIONS = [
    name
    for name in cnnclf.__all__
    if not name.startswith("_") and not isinstance(getattr(cnnclf, name), type)
]


def draw_photos(folder: Path, count: int = 24) -> None:
    """Draw circles and crosses, dark on light, each a little different."""
    rng = np.random.default_rng(0)
    for label in ("o", "x"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (24, 20), (230, 230, 220))
            draw = ImageDraw.Draw(image)
            left, top = (int(each) for each in rng.integers(2, 7, 2))
            box = (left, top, left + 12, top + 11)
            if label == "o":
                draw.ellipse(box, outline=(20, 20, 40), width=2)
            else:
                draw.line(box, fill=(20, 20, 40), width=2)
                draw.line((box[0], box[3], box[2], box[1]), fill=(20, 20, 40), width=2)
            image.save(folder / label / f"{number:03}.png")


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks in order, as in a notebook; then use what they made for all that follows."""
    draw_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)  # the page uses relative paths
    walked: dict[str, Any] = {"__name__": "walk", "folder": tmp_path}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"python.md, block {number}", "exec"), walked)
    check_the_results_of_the_page(walked)
    check_an_array_and_its_file_are_the_same_image(walked)
    check_files_folders_and_failures_keep_their_order(walked)
    check_contents_of_files_are_labeled_as_the_files(walked)
    check_a_column_of_a_table_is_paths(walked)
    check_views_of_a_loaded_classifier_are_not_ignored(walked)
    check_a_classifier_is_shown_in_one_line(walked)
    check_a_dataset_is_shown_in_one_line(walked)
    check_a_result_is_shown_in_one_line(walked)
    check_no_images_give_no_predictions(walked)
    check_wrong_images_are_refused(walked)
    check_a_run_directory_in_use_is_refused(walked)


def check_the_results_of_the_page(walked: dict[str, Any]) -> None:
    assert walked["dataset"].labels == ("o", "x")
    assert [row.epoch for row in walked["result"].history] == [1, 2, 3]
    assert [row.epoch for row in walked["longer"].history] == [1, 2, 3, 4]
    assert walked["longer"].run.read_record()["command"] == "cnnclf.extend(...)"
    assert (walked["folder"] / "runs/first/plan.json").is_file()
    assert walked["result"].run.read_record()["command"] == "cnnclf.train(...)"
    assert 0 <= walked["report"].metrics["accuracy"] <= 1
    assert walked["export"].verdict == "verified"
    assert walked["prediction"].label in {"o", "x"}


def test_the_page_shows_every_function() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in FUNCTIONS if f"cnnclf.{name}" not in text] == []


def check_an_array_and_its_file_are_the_same_image(walked: dict[str, Any]) -> None:
    path = walked["folder"] / "photos/x/005.png"
    pixels = np.asarray(Image.open(path))
    classifier = walked["classifier"]
    [from_file] = cnnclf.predict(classifier, path)
    [from_array] = cnnclf.predict(classifier, pixels)
    assert (from_array.path, from_array.label) == ("", from_file.label)
    assert from_array.ranking[0][1] == pytest.approx(from_file.ranking[0][1], abs=1e-5)
    together = cnnclf.predict(classifier, np.stack([pixels, pixels]), config={"top_k": 1})
    assert [len(each.ranking) for each in together] == [1, 1]


def check_files_folders_and_failures_keep_their_order(walked: dict[str, Any]) -> None:
    photos = walked["folder"] / "photos"
    paths = [photos / "x/001.png", photos / "no.png", str(photos / "o/001.png")]
    found = cnnclf.predict(walked["classifier"], paths)
    assert [Path(each.path).name for each in found] == ["001.png", "no.png", "001.png"]
    assert found[1].error
    assert not found[1].label
    assert len(cnnclf.predict(walked["classifier"], photos)) == 48


def check_contents_of_files_are_labeled_as_the_files(walked: dict[str, Any]) -> None:
    path, classifier = walked["folder"] / "photos/x/005.png", walked["classifier"]
    content, pixels = path.read_bytes(), np.asarray(Image.open(path))
    [from_file] = cnnclf.predict(classifier, path)
    [from_content] = cnnclf.predict(classifier, content)
    assert (from_content.path, from_content.label) == ("", from_file.label)
    assert from_content.ranking[0][1] == pytest.approx(from_file.ranking[0][1], abs=1e-5)
    several = [content[:50], content, b"", pixels]
    found = cnnclf.predict(classifier, several, config={"batch_size": 2})
    assert [bool(each.error) for each in found] == [True, False, True, False]
    assert [each.label for each in found] == ["", from_file.label, "", from_file.label]


def check_a_column_of_a_table_is_paths(walked: dict[str, Any]) -> None:
    path = str(walked["folder"] / "photos/x/005.png")
    for column in (np.array([path, path]), np.array([path, path], object)):
        assert len(cnnclf.predict(walked["classifier"], column)) == 2, "a row may come twice"


def check_views_of_a_loaded_classifier_are_not_ignored(walked: dict[str, Any]) -> None:
    path, views = walked["folder"] / "photos/x/005.png", {"views": "mirror"}
    with pytest.raises(UsageError, match="loaded with views = none"):
        cnnclf.predict(walked["classifier"], path, config=views)
    mirroring = cnnclf.load_classifier(walked["folder"] / "runs/first", config=views)
    assert len(cnnclf.predict(mirroring, path, config=views)) == 1


def check_a_classifier_is_shown_in_one_line(walked: dict[str, Any]) -> None:
    shown = repr(walked["classifier"])
    assert re.fullmatch(r"Classifier\('.*best': \d+x\d+x3 to 2 labels, \w+ in \w+\)", shown)


def check_a_dataset_is_shown_in_one_line(walked: dict[str, Any]) -> None:
    shown = repr(walked["dataset"])
    assert re.fullmatch(r"Dataset\('.*': \d+ images of 2 classes\)", shown)
    assert re.fullmatch(
        r"QualityReport\('.*': \d+ images, .*\)", repr(cnnclf.check(walked["dataset"]))
    )


def check_a_result_is_shown_in_one_line(walked: dict[str, Any]) -> None:
    shown = repr(walked["result"])
    assert re.fullmatch(
        r"TrainResult\('.*', \d+ epochs?, report=Report\(test accuracy .*\)\)", shown
    )


def check_no_images_give_no_predictions(walked: dict[str, Any]) -> None:
    assert cnnclf.predict(walked["classifier"], []) == []


def check_wrong_images_are_refused(walked: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="expected uint8 pixels"):
        cnnclf.predict(walked["classifier"], np.zeros((4, 4, 3)))
    with pytest.raises(TypeError, match=r"received Image; .*np.asarray"):
        cnnclf.predict(walked["classifier"], Image.new("RGB", (4, 4)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="received int"):
        cnnclf.predict(walked["classifier"], ["a.png", 5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"received BytesIO; of an open file give its read\(\)"):
        cnnclf.explain(walked["classifier"], BytesIO())
    with pytest.raises(TypeError, match="either paths, or contents"):
        cnnclf.predict(walked["classifier"], ["a.png", np.zeros((4, 4, 3), np.uint8)])


def check_a_run_directory_in_use_is_refused(walked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        cnnclf.train(walked["dataset"], out=walked["folder"] / "runs/first")


def test_a_backbone_is_fine_tuned_and_stopped_by_a_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def stop_in_the_tail(row: EpochRow, _is_best: bool) -> StopRequest | None:
        seen.append(row.phase)
        return StopRequest.STOP if row.phase == "tail" else None

    with tiny_backbone():
        result = cnnclf.finetune("photos", dict(TINY), listeners=[stop_in_the_tail])
    assert seen == ["head"] * 3 + ["tail"]
    assert result.run.path == Path("runs/photos-001")
    assert result.report is not None
    assert result.run.read_record()["command"] == "cnnclf.finetune(...)"
    assert cnnclf.predict(result.run.path, "photos/x/000.png")[0].label in {"o", "x"}


def test_an_interrupted_run_is_resumed_as_if_it_had_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "_MAX_SHARE", float("inf"))  # after every epoch
    config = {"training.epochs": 3, "data.image_size": 16, "model.preset": "tiny"}

    def interrupt(row: EpochRow, _is_best: bool) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        cnnclf.train("photos", config, out="runs/a", listeners=[interrupt])
    assert stop.value.__notes__ == ["continue with: cnnclf train --resume runs/a"]
    seen: list[int] = []
    resumed = cnnclf.resume("runs/a", listeners=[lambda row, _: seen.append(row.epoch)])
    whole = cnnclf.train("photos", config, out="runs/b")
    assert seen == [3]
    assert [(row.epoch, row.loss) for row in resumed.history] == [
        (row.epoch, row.loss) for row in whole.history
    ]
    with pytest.raises(UsageError, match="runs/a is finished"):
        cnnclf.resume("runs/a")


def test_layers_of_the_users_own_keep_their_precision(tmp_path: Path) -> None:
    import keras

    draw_photos(tmp_path / "photos", 5)
    settings = {"training.epochs": 1, "data.image_size": 16, "model.preset": "tiny"}
    before = keras.config.dtype_policy()
    result = cnnclf.train(
        tmp_path / "photos", {**settings, "runtime.precision": "bfloat16"}, out=tmp_path / "run"
    )
    assert result.run.read_record()["precision"] == "bfloat16"
    assert keras.config.dtype_policy().name == before.name
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = cnnclf.load_classifier(tmp_path / "run", config={"engine": "keras"})
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert model.model.dtype_policy.name == "float32"
        cnnclf.evaluate(tmp_path / "run")
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"did you mean training\.epochs"):
        cnnclf.train("data", {"training.epoch": 3})
    with pytest.raises(ConfigError, match=r"epochs = 3: .* did you mean training\.epochs"):
        cnnclf.TrainConfig(epochs=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"data\.imagesize = 3: .* data\.image_size"):
        cnnclf.TrainConfig(data={"imagesize": 3})
    with pytest.raises(ConfigError, match="format is missing"):
        cnnclf.ExportConfig()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="expected TrainConfig, received FinetuneConfig"):
        cnnclf.train("data", cnnclf.FinetuneConfig())  # type: ignore[arg-type]


def test_one_view_one_class_and_one_setting_need_no_list() -> None:
    assert texts_of("evidence") == texts_of(["evidence"]) == ("evidence",)
    with pytest.raises(UsageError, match="did you mean evidence"):
        cnnclf.explain("runs/gone", show="evidnce")


def test_settings_are_a_mapping() -> None:
    with pytest.raises(TypeError, match="received list"):
        cnnclf.describe(config=["training.epochs=1"])  # type: ignore[arg-type]


def test_presets_act_as_on_the_command_line() -> None:
    from cnnclf.api.arguments import resolve
    from cnnclf.config import ModelConfig, TrainConfig, load_config

    typed, _ = load_config(options={"model.preset": "textbook"}, kind=TrainConfig)
    assert resolve(TrainConfig, {"model.preset": "textbook"})[0] == typed
    assert resolve(TrainConfig, {"model": {"preset": "textbook"}})[0] == typed
    assert resolve(TrainConfig, TrainConfig(model=ModelConfig(preset="textbook")))[0] == typed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_typed_and_documented(name: str) -> None:
    import cnnclf.api

    function = getattr(cnnclf.api, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    text = inspect.getdoc(function) or ""
    for part in ("Args:", "Returns:", "Raises:", "Example:"):
        assert part in text, part
    for parameter in signature.parameters.values():
        assert f"{parameter.name}:" in text, parameter.name
    positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_by("import cnnclf") & {*HEAVY, "numpy", "PIL", "pydantic"}
    every = "import cnnclf\nfor name in cnnclf.__all__:\n    getattr(cnnclf, name)"
    assert not loaded_by(every) & set(HEAVY)
    functions = "import cnnclf\ncnnclf.train, cnnclf.predict, cnnclf.export, cnnclf.TrainConfig"
    assert not loaded_by(functions) & {*HEAVY, "numpy"}


def test_load_dataset_loads_no_tensorflow(tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos", 5)
    assert len(cnnclf.import_dataset(tmp_path / "photos", tmp_path / "data")) == 10
    code = f"import cnnclf\nassert len(cnnclf.load_dataset({str(tmp_path / 'data')!r})) == 10"
    assert not loaded_by(code) & set(HEAVY)


def test_names_are_listed_and_others_refused() -> None:
    assert set(cnnclf.__all__) <= set(dir(cnnclf))
    assert {name for name in dir(cnnclf) if not name.startswith("__")} < set(cnnclf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'training_wheels'"):
        cnnclf.training_wheels  # noqa: B018


def test_export_is_a_function_although_a_room_has_its_name() -> None:
    import cnnclf.exporters.format_table

    assert callable(cnnclf.export)
    with pytest.raises(ConfigError, match="format"):
        cnnclf.export("nowhere", {"formt": "onnx"})
