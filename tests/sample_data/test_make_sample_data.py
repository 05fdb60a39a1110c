import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL
import pytest
from PIL import Image, ImageChops, ImageStat

from cnnclf.errors import ImageError
from cnnclf.images.decode import InputSpec, decode_image, inspect_image

FOLDER = Path(__file__).parents[2] / "sample_data"
SCRIPT = FOLDER / "make_sample_data.py"

# The version whose encoders wrote the files in the repository.
DRAWN_WITH = "13.0.0"


def _load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _load_script()
odd_images = pytest.mark.parametrize("odd", script.ODD_IMAGES, ids=lambda odd: odd.name)


@pytest.mark.parametrize("label", script.LABELS)
@pytest.mark.parametrize("index", [0, 71, 149])
def test_a_mark_is_drawn_the_same_again(label: str, index: int, tmp_path: Path) -> None:
    again = tmp_path / "again.jpg"
    script.draw_mark(label, index).save(again, quality=script.QUALITY)
    kept = FOLDER / "x_or_o" / label / f"{label}{index:03}.jpg"
    if PIL.__version__ == DRAWN_WITH:
        assert again.read_bytes() == kept.read_bytes()
    apart = ImageChops.difference(Image.open(again), Image.open(kept))
    assert max(ImageStat.Stat(apart).mean) < 2


def test_the_script_writes_the_folders_of_the_repository(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SCRIPT, tmp_path], check=True, capture_output=True)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {
        path.relative_to(FOLDER)
        for name in ("x_or_o", "odd_images")
        for path in (FOLDER / name).rglob("*")
        if path.is_file()
    }
    assert written == kept
    if PIL.__version__ == DRAWN_WITH:
        changed = [
            path for path in kept if (tmp_path / path).read_bytes() != (FOLDER / path).read_bytes()
        ]
        assert changed == []


def test_the_images_are_few_and_small() -> None:
    files = list((FOLDER / "x_or_o").rglob("*.jpg"))
    assert len(files) == 300
    assert sum(path.stat().st_size for path in files) < 2_000_000


@odd_images
def test_an_odd_image_is_small_and_as_the_script_writes_it(odd: "script.OddImage") -> None:  # type: ignore[name-defined]
    kept = (FOLDER / "odd_images" / odd.name).read_bytes()
    assert len(kept) < 20_000
    if PIL.__version__ == DRAWN_WITH:
        assert odd.encode() == kept


@odd_images
def test_an_odd_image_is_treated_as_its_page_says(odd: "script.OddImage") -> None:  # type: ignore[name-defined]
    path = FOLDER / "odd_images" / odd.name
    spec = InputSpec(32, 32)
    if odd.error:
        for read in (inspect_image, lambda file: decode_image(file, spec)):
            with pytest.raises(ImageError) as caught:
                read(path)
            assert caught.value.message == f"{path}: {odd.error}"
    else:
        assert inspect_image(path).note == odd.note
        assert decode_image(path, spec).shape == spec.shape


def test_the_page_lists_every_file() -> None:
    page = (FOLDER / "odd_images" / "README.md").read_text(encoding="utf-8")
    assert page == script.describe_odd_images()
    files = {path.name for path in (FOLDER / "odd_images").iterdir()} - {"README.md"}
    assert files == {odd.name for odd in script.ODD_IMAGES}
    assert all(f"| `{name}` | " in page for name in files)


def test_the_bomb_is_a_real_image() -> None:
    small = script.encode_blank_fax(300, 200)
    assert decode_image(small, InputSpec(8, 8)).min() == 255


def test_a_linear_model_on_the_pixels_cannot_tell_the_marks_apart() -> None:
    """The point of the set: the README promises that it takes more than this."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    files = sorted((FOLDER / "x_or_o").rglob("*.jpg"))
    spec = InputSpec(64, 64, channels=1)
    pixels = np.stack([decode_image(path, spec) for path in files]).reshape(len(files), -1)
    labels = np.array([path.parent.name for path in files])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(C=1e-3, max_iter=1000)
    assert cross_val_score(model, pixels / 255, labels, cv=folds).mean() < 0.65
