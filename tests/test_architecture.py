"""The five rules and the rooms, checked on the source and in fresh interpreters."""

import ast
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cnnclf.cli.app import COMMANDS
from cnnclf.config import TrainConfig, load_config
from cnnclf.images.input_spec import InputSpec
from cnnclf.planning.train_plan import plan_training
from cnnclf.prediction.rows import RowColumns
from cnnclf.progress import Silent

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cnnclf"
SAMPLES = ROOT / "sample_data/x_or_o"
FILES = sorted(PACKAGE.rglob("*.py"))

EXPORT_TO_LITERT = ("exporters/litert_exporter.py", "exporters/litert_biases.py")
# Which files may import what; a name that ends with / is a directory.
MAY_IMPORT = {
    "tensorflow": (
        "runtime/",
        "training/feeding/batches.py",
        "inference/engines/saved_model_check.py",
        *EXPORT_TO_LITERT,
    ),
    "jax": ("runtime/",),
    "torch": ("runtime/",),
    "openvino": ("inference/engines/openvino_engine.py",),  # load_openvino keeps it from reporting
    "rich": ("cli/output.py", "cli/live.py", "cli/help_layout.py"),
    "typer": ("cli/",),
    "click": (),
}
# What may take more than two positional arguments, and why.
MORE_THAN_TWO = {
    "cli/commands/": "Typer reads a command's options from its signature and calls it by name",
}
HEAVY = ("tensorflow", "keras", "jax", "torch", "sklearn", "matplotlib", "scipy", "pandas")


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def is_allowed(path: Path, places: tuple[str, ...]) -> bool:
    return any(
        inside(path) == place or (place.endswith("/") and inside(path).startswith(place))
        for place in places
    )


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(parse(path))


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [(node.module or "").partition(".")[0]]
    return []


def called(node: ast.AST) -> str:
    """Give the dotted name of what is called, such as Image.open; empty for anything else."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def test_imports_point_one_way() -> None:
    """The layers of pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    found = str(program) if program.exists() else shutil.which("lint-imports")
    assert found, "import-linter is part of the dev extra"
    done = subprocess.run(
        [found], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_only_some_files_import(library: str) -> None:
    users = [
        inside(path)
        for path in FILES
        if not is_allowed(path, MAY_IMPORT[library])
        and any(library in imported(node) for node in nodes(path))
    ]
    assert users == []


def test_heavy_libraries_are_imported_inside_functions() -> None:
    at_the_top = [
        f"{inside(path)}:{node.lineno}"
        for path in FILES
        for node in parse(path).body
        if isinstance(node, ast.Import | ast.ImportFrom) and set(imported(node)) & set(HEAVY)
    ]
    assert at_the_top == []


# Rule 1. What every module may use of Pillow: making, changing and saving images. The rest opens,
# parses or decodes; so do these names of other libraries.
DECODER = "images/pillow_files.py"
DECODER_PARTS = (  # of the same decoder: nothing else imports them
    *("tiff_channels", "dicom_files", "exif", "image_opening", "image_words", "raw_values"),
)
DRAWING = {"Image", "ImageDraw", "ImageEnhance", "ImageFilter", "ImageFont", "ImageOps"}
OF_IMAGE = {"Image", "Resampling", "Transform", "Transpose", "fromarray", "merge", "new"}
OTHER_DECODERS = {
    *("imdecode", "imread", "load_img", "image_dataset_from_directory"),
    *("decode_bmp", "decode_gif", "decode_image", "decode_jpeg", "decode_png"),
}


def decodes(source: str | bytes) -> list[str]:
    """Name everything a module uses to turn files into pixels, other than our decoder."""
    every = list(ast.walk(ast.parse(source)))
    uses_pillow = any("PIL" in imported(node) for node in every)
    names = {  # what the module calls PIL.Image
        alias.asname or alias.name
        for node in every
        if isinstance(node, ast.ImportFrom) and node.module == "PIL"
        for alias in node.names
        if alias.name == "Image"
    }
    attributes = {id(node.value): node.attr for node in every if isinstance(node, ast.Attribute)}
    found = []
    for node in every:
        if isinstance(node, ast.Import) and "PIL" in imported(node):
            found.append(ast.unparse(node))  # no short name for Image: all of Pillow is in reach
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names if reads(node, alias)]
        elif isinstance(node, ast.Name) and node.id in names:
            attribute = attributes.get(id(node), "")  # "" for getattr(Image, ...) and x = Image
            found += [f"Image.{attribute}"] if attribute not in OF_IMAGE else []
        elif isinstance(node, ast.Attribute):
            reading = node.attr in OTHER_DECODERS or (uses_pillow and node.attr == "frombytes")
            found += [ast.unparse(node)] if reading else []
        elif isinstance(node, ast.Constant) and str(node.value).startswith("PIL."):
            found.append(str(node.value))  # for importlib
    return found


def reads(node: ast.ImportFrom, alias: ast.alias) -> bool:
    """Say whether an imported name can open, parse or decode images."""
    match (node.module or "").split(".")[:2]:
        case ["PIL"]:
            return alias.name not in DRAWING
        case ["PIL", "Image"]:
            return alias.name not in OF_IMAGE
        case ["PIL", _]:
            return True
        case [package, *_]:
            return package != "cnnclf" and alias.name in OTHER_DECODERS
    return False


def test_one_decoder() -> None:
    users = {
        inside(path): found
        for path in FILES
        if inside(path) != DECODER and (found := decodes(path.read_bytes()))
    }
    parts = {f"images/{name}.py" for name in DECODER_PARTS}
    assert users.keys() <= parts
    others = [
        inside(path)
        for path in FILES
        if inside(path) not in {DECODER, *parts}
        and any(
            f"cnnclf.images.{name}" in path.read_text(encoding="utf-8") for name in DECODER_PARTS
        )
    ]
    assert others == []


def test_the_check_for_decoders_finds_the_decoder() -> None:
    parts = [DECODER, "images/image_opening.py"]
    found = {each for part in parts for each in decodes((PACKAGE / part).read_bytes())}
    assert {"PIL.ImageFile", "PIL.TiffImagePlugin", "Image.OPEN"} <= found


@pytest.mark.parametrize(
    "planted",
    [
        "from PIL import Image\nImage.open(path)",
        "from PIL import Image as Pillow\nPillow.open(path)",
        "from PIL import Image\nfactory, accept = Image.OPEN['PNG']",
        "from PIL import Image\nImage.preinit()",
        "from PIL import Image\nImage.frombuffer('L', (2, 2), data)",
        "from PIL import Image\nImage.new('L', (2, 2)).frombytes(data)",
        "from PIL import Image\ngetattr(Image, 'open')(path)",
        "from PIL import Image\nalias = Image\nalias.open(path)",
        "from PIL.Image import open as read\nread(path)",
        "import PIL.Image\nPIL.Image.open(path)",
        "from PIL import ImageFile\nImageFile.Parser()",
        "from PIL.ImageFile import Parser",
        "from PIL import PngImagePlugin",
        "from PIL.JpegImagePlugin import JpegImageFile",
        "import PIL.TiffImagePlugin as tiff",
        "import importlib\nimportlib.import_module(f'PIL.{name}')",
        "import cv2\ncv2.imread(path)",
        "import tensorflow as tf\ntf.io.decode_image(data)",
        "from keras.utils import load_img",
        "def later():\n    from PIL import Image\n    return Image.open(path)",
    ],
)
def test_a_second_decoder_is_found(planted: str) -> None:
    assert decodes(planted)


@pytest.mark.parametrize(
    "allowed",
    [
        "from PIL import Image, ImageOps\nImageOps.equalize(Image.fromarray(pixels)).save(path)",
        "from PIL import Image\nx: Image.Image = Image.new('RGB', (2, 2))\nx.resize((1, 1))",
        "import numpy as np\nnp.frombuffer(data, np.uint8)",
        "from array import array\narray('i').frombytes(data)",
        "from cnnclf.images.decode import decode_image\ndecode_image(path, spec)",
    ],
)
def test_drawing_and_saving_is_not_decoding(allowed: str) -> None:
    assert decodes(allowed) == []


def test_only_the_output_prints() -> None:
    writers = {"print", "sys.stdout.write", "sys.stderr.write"}
    users = [
        inside(path)
        for path in FILES
        if inside(path) != "cli/output.py" and any(called(node) in writers for node in nodes(path))
    ]
    assert users == []


def test_errors_are_caught_by_name() -> None:
    """Only `main` catches everything, and what cleans up raises again."""
    broad = [
        f"{inside(path)}:{node.lineno}"
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not any(isinstance(each, ast.Raise) and each.exc is None for each in ast.walk(node))
    ]
    assert [place.partition(":")[0] for place in broad] == ["cli/main.py"]


def test_no_module_is_a_grab_bag() -> None:
    names = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
    assert [inside(path) for path in FILES if path.name in names] == []


def test_every_module_says_what_it_owns() -> None:
    assert [inside(path) for path in FILES if not ast.get_docstring(parse(path))] == []


def test_module_names_are_unique() -> None:
    """A command may have the name of the module that does its work."""
    counts = Counter(
        path.name
        for path in FILES
        if path.name != "__init__.py" and path.parent != PACKAGE / "cli/commands"
    )
    twice = {name for name, count in counts.items() if count > 1}
    assert not twice


def test_public_class_names_are_unique() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(inside(path))
    assert not {name: files for name, files in places.items() if len(files) > 1}


# Arguments after the second are given by name


def positional_counts(path: Path) -> Iterator[tuple[str, int]]:
    """Give each public function and method with the number of its positional arguments."""
    scopes = [(f"{inside(path)}:", parse(path).body, False)]
    while scopes:
        prefix, body, in_class = scopes.pop()
        for node in body:
            name = getattr(node, "name", "_")
            if name.startswith("_") and name not in {"__init__", "__call__"}:
                continue
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{prefix}{name}.", node.body, True))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
                has_self = in_class and not is_static
                yield prefix + name, len(node.args.posonlyargs + node.args.args) - has_self


def test_arguments_after_the_second_are_keyword_only() -> None:
    too_many = {
        name
        for path in FILES
        for name, count in positional_counts(path)
        if count > 2 and not any(name.startswith(place) for place in MORE_THAN_TWO)
    }
    assert not too_many


# What a light command loads


def loaded_by(code: str, **environment: str) -> set[str]:
    """Run code in a fresh interpreter and give the top modules it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def call_main(*arguments: object) -> str:
    words = [str(each) for each in arguments]
    return f"from cnnclf.cli.main import main\nassert main({words!r}) == 0"


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_loads_next_to_nothing(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(call_main(*arguments))
    assert not loaded & {*HEAVY, "numpy", "PIL", "pydantic", "rich.markdown", "pygments"}
    assert not any(name.startswith("cnnclf.cli.commands.") for name in loaded)


@pytest.mark.parametrize("row", COMMANDS, ids=[row[0] for row in COMMANDS])
def test_help_of_a_command_loads_no_tensorflow(row: tuple[str, str, str, str]) -> None:
    assert not loaded_by(call_main(row[0], "--help")) & set(HEAVY)


@pytest.mark.parametrize(
    "words",
    [
        "cnnclf tr",
        "cnnclf train --",
        "cnnclf runs ",
        "cnnclf finetune pets --backbone ",
        "cnnclf evaluate ",
        "cnnclf train pets --preset ",
    ],
)
def test_completion_loads_no_tensorflow(words: str) -> None:
    code = (
        "from cnnclf.cli.main import main\n"
        "try:\n    main([])\nexcept SystemExit:\n    pass\nprint()"
    )
    loaded = loaded_by(
        code,
        _CNNCLF_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(words.count(" ")),
    )
    assert not loaded & set(HEAVY)


def test_runs_load_no_tensorflow(tmp_path: Path) -> None:
    loaded = loaded_by(call_main("runs", "list", tmp_path))
    assert not loaded & {*HEAVY, "numpy"}


def test_import_and_dry_run_load_no_tensorflow(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            color = (number * 20, 90, 200 if label == "cat" else 40)
            Image.new("RGB", (12, 10), color).save(tmp_path / "photos" / label / f"{number}.png")
    data = tmp_path / "data"
    assert not loaded_by(call_main("import", tmp_path / "photos", "--out", data)) & set(HEAVY)
    dry_run = call_main("train", data, "--dry-run", "--out", tmp_path / "run")
    assert not loaded_by(dry_run) & set(HEAVY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [("--preset", "deep"), (ROOT / "sample_data/tiny_run",)])
def test_describing_a_network_of_train_loads_no_tensorflow(arguments: tuple[object, ...]) -> None:
    assert not loaded_by(call_main("describe", *arguments)) & set(HEAVY)


# The walk of an image through the program


def test_an_image_takes_the_way_that_the_page_describes(tmp_path: Path) -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = page.partition("\n## An image, from file to prediction\n")[2].partition("\n## ")[0]
    steps = [
        pkgutil.resolve_name(name)
        for name in re.findall(r"^\d+\. `([\w.]+)`", section, flags=re.MULTILINE)
    ]
    (
        import_source,
        load_dataset,
        decode_image,
        open_pixels,
        batches_of,
        build_cnn,
        save_bundle,
        classifier_class,
        predict_files,
        json_line,
    ) = steps  # a new step belongs here and below, too

    import_source(SAMPLES, tmp_path / "dataset", progress=Silent())
    dataset = load_dataset(tmp_path / "dataset")
    spec = InputSpec(16, 16, channels=1)
    row = int(dataset.select_split("train")[0])
    image = decode_image(dataset.file(row), spec)

    pixels = open_pixels(dataset, spec, progress=Silent())
    np.testing.assert_array_equal(pixels.gather(np.array([row]))[0], image)
    classes = dataset.manifest.class_indices
    batches = batches_of(pixels, [row], class_indices=classes, num_classes=2, batch_size=1)
    x, y = next(batches.epoch(0))[:2]
    np.testing.assert_array_equal(x[0], image)
    assert np.argmax(y[0]) == classes[row]

    config, given = load_config(options={"model.filters": [4]}, kind=TrainConfig)
    plan = plan_training(config, dataset, given=given)
    net = build_cnn(plan.config.model, (16, 16, 1), num_classes=2)
    described = {"name": dataset.name, "fingerprint": dataset.fingerprint}
    save_bundle(tmp_path / "best", net, labels=dataset.labels, input_spec=spec, dataset=described)
    classifier = classifier_class.load(tmp_path / "best")
    np.testing.assert_array_equal(classifier.decode(dataset.file(row)), image)
    logits = classifier.logits(image[None])
    np.testing.assert_allclose(logits, net(x), atol=1e-5)

    (prediction,) = predict_files(classifier, [str(dataset.file(row))])
    written = json.loads(json_line(prediction, RowColumns(top_k=1)))
    probabilities = classifier.probabilities(logits)[0]
    assert written["path"] == str(dataset.file(row))
    assert written["label"] == dataset.labels[int(np.argmax(probabilities))]
    assert written["probability"] == pytest.approx(max(probabilities), abs=1e-4)
