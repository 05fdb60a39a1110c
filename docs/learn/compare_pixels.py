"""Which X or O is it? By the image whose pixels are most alike, and by a trained network.

Run from the root of the project: python docs/learn/compare_pixels.py
The images that are asked are the last 30 of each class, as they are and changed; the others are
known. The network of sample_data/tiny_run was trained on some of them.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

import cnnclf

SIDE, ASKED = 64, 30
CHANGES = {
    "as they are": lambda image: image,
    "shifted 12 pixels right": lambda image: ImageChops.offset(image, 12, 0),
    "turned by 90 degrees": lambda image: image.rotate(90),
    "light and dark swapped": ImageChops.invert,
}


def main() -> None:
    """Print which fraction of the images is recognized."""
    files = {label: sorted(Path("sample_data/x_or_o", label).iterdir()) for label in "ox"}
    known = [(label, load(file)) for label in "ox" for file in files[label][:-ASKED]]
    asked = [(label, load(file)) for label in "ox" for file in files[label][-ASKED:]]
    pixels = np.stack([flatten(image) for _, image in known])
    network = cnnclf.load_classifier("sample_data/tiny_run")
    lines = [f"{'':<26}{'most alike':>10}{'network':>10}"]
    for name, change in CHANGES.items():
        images = [(label, change(image)) for label, image in asked]
        alike = [
            known[np.abs(pixels - flatten(image)).sum(axis=1).argmin()][0] == label
            for label, image in images
        ]
        found = cnnclf.predict(network, [np.asarray(image) for _, image in images])
        right = [row.label == label for row, (label, _) in zip(found, images, strict=True)]
        lines.append(f"{name:<26}{np.mean(alike):>10.0%}{np.mean(right):>10.0%}")
    sys.stdout.write("\n".join(lines) + "\n")


def load(file: Path) -> Image.Image:
    """Open an image."""
    return Image.open(file).convert("RGB").resize((SIDE, SIDE))


def flatten(image: Image.Image) -> np.ndarray:
    """Return gray levels as one row of numbers."""
    return np.asarray(image.convert("L"), np.float32).ravel()


if __name__ == "__main__":
    main()
