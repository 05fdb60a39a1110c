"""Draws the images of docs/learn/ with the commands that the tour shows.

Run from the root of the project: python docs/make_images.py [--check]. The image of a report needs
Chromium and playwright; without them it stays as it is.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cnnclf.cli.main import main as run_command

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/learn/README.md"
IMAGES = ROOT / "docs/learn/images"
RUN = "sample_data/tiny_run"
MAX_WIDTH, MAX_BYTES = 640, 60_000
COLORS = 128, 64, 32  # as many as keep an image small: few draw steps where colors change slowly
MAX_DIFFERENCE = 3.0  # mean over all values, 0 to 255: fonts and processors differ a little

# Name of an image, and the file that a command of the page writes.
FILES = {
    "edges": "edges.png",
    "layers": "layers/x000-layers.png",
    "filters": "filters/network-filters.png",
    "breaks": "breaks/x000-counterfactual.png",
    "order": "order.png",
    "evidence": "evidence/x000-evidence.png",
}


def main() -> int:
    """Write the images, or with --check say which differ from what would be drawn."""
    outputs = {Path(file).parts[0] for file in FILES.values()}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sample_data").symlink_to(ROOT / "sample_data")
        os.chdir(folder)
        for words in read_commands():
            if outputs & set(words):
                with contextlib.redirect_stdout(io.StringIO()):
                    code = run_command(words[1:])
                if code:
                    return code
        stale = keep_images(Path(folder), check="--check" in sys.argv[1:])
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run python docs/make_images.py\n")
        return 1
    return 0


def read_commands() -> list[list[str]]:
    """Return the words of each command on the page, in order."""
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def keep_images(folder: Path, *, check: bool) -> list[str]:
    """Make small images of what the commands wrote in a folder, and one of a report.

    With `check`, nothing is written: returns the names of those that would look different.
    """
    drawn = {name: Image.open(folder / file) for name, file in FILES.items()}
    report = _draw_report(folder)
    if report is not None:
        drawn["report"] = report
    return [name for name, image in drawn.items() if not _keep(name, image, check=check)]


def _keep(name: str, image: Image.Image, *, check: bool) -> bool:
    """Write an image as a small file, or return whether it looks like the one that is kept."""
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
    if not check:
        IMAGES.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
        return True
    with Image.open(path) as kept:
        old, new = (np.asarray(each.convert("RGB"), np.float64) for each in (kept, small))
    return old.shape == new.shape and bool(np.abs(old - new).mean() <= MAX_DIFFERENCE)


def _draw_report(folder: Path) -> Image.Image | None:
    """Draw the report of a copy of the tiny run, as far as it fits on a screen."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        sys.stderr.write("no Chromium: the image of the report is not drawn\n")
        return None
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
    return image


if __name__ == "__main__":
    raise SystemExit(main())
