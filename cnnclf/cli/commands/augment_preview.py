"""`cnnclf augment-preview`: an image that shows what augmentation does to a dataset."""

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.settings import add_settings, blaming_options, given_settings
from cnnclf.cli.training_commands import ConfigFile, open_source
from cnnclf.errors import UsageError

if TYPE_CHECKING:
    from cnnclf.augmentation.preview import Example
    from cnnclf.data.manifest import Dataset
    from cnnclf.planning.train_plan import TrainPlan

_SETTINGS = ("augment.", "data.image_size", "data.color", "data.fit", "runtime.seed")

_DEFAULT_FILE = Path("augment-preview.png")
_IMAGES = 6


@partial(add_settings, only=_SETTINGS)
def augment_preview_command(
    dataset: options.Dataset,
    out_: Annotated[
        Path | None,
        option("--out -o FILE.png", f"Image file to write. [{_DEFAULT_FILE}, replaced]"),
    ] = None,
    overwrite: options.Overwrite = False,
    config: ConfigFile = None,
    set_: Annotated[
        list[str] | None,
        option("--set KEY=VALUE", "A single setting, such as augment.flip=0.5; may be repeated."),
    ] = None,
    images: Annotated[
        int | None,
        option("--images", f"Number of images, one per row; by default {_IMAGES}.", min=1, max=100),
    ] = None,
    variants: Annotated[
        int, option("--variants", "Augmented versions per image.", min=1, max=100)
    ] = 7,
    each: Annotated[bool, option("--each", "One image, with one row per operation.")] = False,
    **settings: object,
) -> None:
    """Draw augmented images.

    The left column shows images without augmentation, the others show what the network sees in
    training with the same options. Check that every augmented image still shows its class. DATASET
    may be a single image.
    """
    from cnnclf.config import TrainConfig, load_config
    from cnnclf.planning.train_plan import plan_training
    from cnnclf.runs.run_opening import find_settings

    if each and images is not None:
        raise UsageError("--each shows one image, so it has no --images", "omit one of them")
    path = out_ or _DEFAULT_FILE
    check_output(path, "--out", endings=(".png",), overwrite=overwrite or out_ is None)
    loaded, origins = load_config(
        config and find_settings(config, command="train"),
        assignments=tuple(set_ or ()),
        options=given_settings(settings),
        command="augment-preview",
        kind=TrainConfig,
    )
    with tempfile.TemporaryDirectory(prefix="cnnclf-") as scratch:
        found = _open(dataset, Path(scratch))
        with blaming_options(origins):
            plan = plan_training(loaded, found, given=origins)
        if not plan.operations and not each:
            raise UsageError("no augmentation is selected", "add --augment medium or --flip 0.5")
        if each:
            _draw_each(plan, found, path, variants)
        else:
            _draw_together(plan, found, path, images or _IMAGES, variants)


def _open(source: str, scratch: Path) -> "Dataset":
    """Open a source; a single image, as a dataset of one class in the directory `scratch`."""
    from cnnclf.config import ImportConfig
    from cnnclf.data.manifest import load_dataset
    from cnnclf.images.decode import inspect_image
    from cnnclf.images.formats import SUFFIXES
    from cnnclf.importers import import_source
    from cnnclf.progress import Silent

    image = Path(source)
    if image.suffix.lower() not in SUFFIXES or not image.is_file():
        return open_source(source)
    inspect_image(image, exact=False)  # its errors name the file that was given
    folder = scratch / "images" / (image.resolve().parent.name or "image")
    folder.mkdir(parents=True)
    (folder / image.name).symlink_to(image.resolve())
    options = ImportConfig(one_class=True, split=(1.0, 0.0, 0.0))
    made = import_source(folder.parent, scratch / "dataset", options=options, progress=Silent())
    return load_dataset(made.directory)


def _draw_together(
    plan: "TrainPlan", dataset: "Dataset", path: Path, images: int, variants: int
) -> None:
    import numpy as np

    from cnnclf.augmentation.preview import save_sheet, vary_together

    examples = _take_examples(plan, dataset, images)
    seed = plan.config.runtime.seed
    originals = np.stack([example.pixels for example in examples])
    sheet = vary_together(originals, plan.operations, variants=variants, seed=seed)
    labels, manifest = dataset.labels, dataset.manifest
    shown = [
        (number, labels[manifest.class_indices[example.row]], manifest.paths[example.row])
        for number, example in enumerate(examples, 1)
    ]
    operations = ", ".join(f"{name} {value:g}" for name, value in plan.operations.items())
    described = f"augmentation {plan.config.augment.preset}: {operations}"
    names = [f"{number} {label}" for number, label, _ in shown]
    save_sheet(sheet, path, names=names, lines=(f"Left: the images; {described}",))
    out.note(described)
    out.table("", ("row", "label", "path"), rows=shown)
    out.line(f"wrote {path}")
    out.json(
        {
            "file": path,
            "operations": plan.operations,
            "rows": [{"label": label, "path": name} for _, label, name in shown],
        }
    )


def _draw_each(plan: "TrainPlan", dataset: "Dataset", path: Path, variants: int) -> None:
    import numpy as np

    from cnnclf.augmentation.preview import save_sheet, vary_each
    from cnnclf.augmentation.table import AUGMENTATIONS

    examples = _take_examples(plan, dataset, len(dataset.labels) + 1)
    rows, sheet = vary_each(
        np.stack([example.pixels for example in examples]),
        plan.operations,
        variants=variants,
        seed=plan.config.runtime.seed,
    )
    titles = [f"{name} {strength:g}" for name, strength in rows]
    active = ", ".join(plan.operations) or "none"
    save_sheet(
        sheet, path, names=titles, lines=(f"Left: the image. Active in training: {active}.",)
    )
    out.table(
        "",
        ("row", "operation", "strength", "what it does", "active"),
        rows=[
            (number, name, strength, AUGMENTATIONS[name].summary, name in plan.operations)
            for number, (name, strength) in enumerate(rows, 1)
        ],
    )
    out.line(f"wrote {path}")
    names = [{"operation": name, "strength": strength} for name, strength in rows]
    out.json({"file": path, "operations": plan.operations, "rows": names})


def _take_examples(plan: "TrainPlan", dataset: "Dataset", count: int) -> "list[Example]":
    from cnnclf.augmentation.preview import choose_rows, take_examples
    from cnnclf.data.store import open_pixels

    rows = dataset.select_split("train")
    order = choose_rows(dataset, rows, seed=plan.config.runtime.seed)
    pixels = open_pixels(dataset, plan.input_spec, cache="none", progress=out.progress())
    return take_examples(pixels, order, count=count)
