"""Draws the images of docs/learn/ with the commands that the tour shows.

Run from the root of the project: python docs/make_images.py [--check]. The image of a report needs
Chromium and playwright; without them it stays as it is.
"""

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cnnclf.cli.main import main as run_command

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/learn/images"
RUN = "sample_data/tiny_run"
PHOTO = "sample_data/x_or_o/x/x000.jpg"
MAX_WIDTH, MAX_BYTES = 640, 60_000
COLORS = 128, 64, 32  # as many as keep an image small: few draw steps where colors change slowly
MAX_DIFFERENCE = 3.0  # mean over all values, 0 to 255: fonts and processors differ a little

# Name of the image, the arguments of the command, and the file it writes.
COMMANDS: dict[str, tuple[str, str]] = {
    "edges": (f"convolve {PHOTO} --filter sobel-x --color gray --out OUT/edges.png", "edges.png"),
    "layers": (f"explain {RUN} {PHOTO} --show layers --out OUT", "x000-layers.png"),
    "filters": (f"explain {RUN} --show filters --out OUT", "network-filters.png"),
    "breaks": (f"explain {RUN} {PHOTO} --show counterfactual --out OUT", "x000-counterfactual.png"),
    "order": ("check-order sample_data/x_or_o --out OUT/order.png", "order.png"),
    "evidence": (f"explain {RUN} {PHOTO} --show evidence --out OUT", "x000-evidence.png"),
}


def main() -> int:
    """Write the images, or with --check say which differ from what would be drawn."""
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (command, file) in COMMANDS.items():
            with contextlib.redirect_stdout(io.StringIO()):
                code = run_command(command.replace("OUT", f"{folder}/{name}").split())
            if code:
                return code
            stale += _keep(name, Image.open(Path(folder, name, file)))
        stale += _keep_report(Path(folder))
    if "--check" in sys.argv[1:] and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run python docs/make_images.py\n")
        return 1
    return 0


def _keep(name: str, image: Image.Image) -> list[str]:
    """Write an image as a small file, or with --check return its name if it looks different."""
    image = image.convert("RGB")
    if image.width > MAX_WIDTH:
        size = (MAX_WIDTH, round(image.height * MAX_WIDTH / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    for colors in COLORS:
        small = image.quantize(colors, dither=Image.Dither.NONE)
        file = io.BytesIO()
        small.save(file, "PNG", optimize=True)
        if file.tell() < MAX_BYTES:
            break
    path = IMAGES / f"{name}.png"
    if "--check" not in sys.argv[1:]:
        IMAGES.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
        return []
    with Image.open(path) as kept:
        old, new = (np.asarray(each.convert("RGB"), np.float64) for each in (kept, small))
    is_same = old.shape == new.shape and np.abs(old - new).mean() <= MAX_DIFFERENCE
    return [] if is_same else [name]


def _keep_report(folder: Path) -> list[str]:
    """Draw the report of a copy of the tiny run, as far as it fits on a screen."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        sys.stderr.write("no Chromium: the image of the report is not drawn\n")
        return []
    run = folder / "pets"
    shutil.copytree(ROOT / RUN, run)
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(["evaluate", str(run), "sample_data/x_or_o", "--out", f"{run}/evaluation/test"])
        run_command(["report", str(run)])
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 700}, color_scheme="light")
        page.goto((run / "report.html").as_uri() + "#confusion")
        image = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    return _keep("report", image)


if __name__ == "__main__":
    raise SystemExit(main())
