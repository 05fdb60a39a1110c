"""Trees of small images, and what an import reports about them."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from PIL import Image

from cnnclf.progress import Silent


def draw(root: Path, tree: Mapping[str, int | str]) -> Path:
    """Make the files of a tree; no two images are alike, except those that stand for a copy."""
    shade = count()
    for name, content in tree.items():
        if isinstance(content, int):
            for at in range(content):
                draw_image(root / name / f"{at}.png", next(shade))
        elif content == "image":
            draw_image(root / name, next(shade))
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
    return root


def draw_image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (shade % 256, shade // 256, 90)).save(path)


class Listener(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
