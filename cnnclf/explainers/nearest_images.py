"""The training images that lie nearest to an image in the features that the network decides by."""

import hashlib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.cache import cache_dir
from cnnclf.drawing.canvas import Tile
from cnnclf.errors import CnnclfError
from cnnclf.explainers.explainer import ExplainContext, Explanation, Pixels, Subject, keep
from cnnclf.explainers.map_figure import describe_subject, to_rgb
from cnnclf.explainers.network import Network
from cnnclf.explainers.training_images import TrainingImages
from cnnclf.files import atomic_path

_SHOWN, _COLUMNS, _BATCH = 9, 5, 32
_OTHER = "a class that the network lacks"


@dataclass(frozen=True, eq=False)
class _Gallery:
    """Features and answers for training images."""

    images: TrainingImages
    features: npt.NDArray[np.float64]
    answers: npt.NDArray[np.int64]


def explain_nearest(context: ExplainContext, subject: Subject) -> Explanation:
    """Draw the training images nearest to one image."""
    labels = context.network.labels
    gallery: _Gallery = keep(context, "gallery", make=lambda: _open_gallery(context))
    features, _ = compute_features(context.network, subject.pixels[None])
    similarity = gallery.features @ features[0]
    is_same_image = (gallery.images.pixels == subject.pixels).all(axis=(1, 2, 3))
    order = np.argsort(-similarity, kind="stable")
    order = order[~is_same_image[order]][:_SHOWN]
    predicted = int(np.argmax(subject.probabilities))
    tiles: list[Tile | None] = [Tile(to_rgb(subject.pixels), "the image")]
    neighbors = []
    for index in order:
        place, answer = int(gallery.images.class_indices[index]), int(gallery.answers[index])
        label = labels[place] if place >= 0 else _OTHER
        is_same = place == predicted
        right = "" if answer == place else f"; the network says {labels[answer]}"
        note = "" if is_same else "another label; "
        caption = f"{note}similarity {similarity[index]:.3f}{right}"
        tiles.append(Tile(to_rgb(gallery.images.pixels[index]), label, caption, marked=not is_same))
        neighbors.append(
            {
                "path": gallery.images.paths[index],
                "label": label,
                "predicted": labels[answer],
                "similarity": float(similarity[index]),
            }
        )
    same = sum(each["label"] == labels[predicted] for each in neighbors)
    line = (
        f"Most similar of {gallery.images.words}, by the cosine of the features before the last"
        f" dense layer; {same} of {len(neighbors)} have the label {labels[predicted]}"
        f"{', the others have a dark frame' if same < len(neighbors) else ''}."
    )
    if is_same_image.any():
        line += " The image itself is a training image, and not shown again."
    return Explanation(
        rows=[tiles[at : at + _COLUMNS] for at in range(0, len(tiles), _COLUMNS)],
        title=f"{describe_subject(subject, labels)}: its nearest training images",
        lines=[line],
        summary=f"{same} of the {len(neighbors)} nearest of {gallery.images.words} have the label"
        f" {labels[predicted]}",
        scores={"neighbors": neighbors},
        arrays={"features": features[0], "similarity": similarity},
        side=115,
    )


def compute_features(
    network: Network, pixels: Pixels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    """Compute the input of the last dense layer, scaled to length 1, and the logits.

    Args:
        network: Trained.
        pixels: uint8 [n, H, W, C].

    Returns:
        float64 [n, features] and float32 [n, K].
    """
    head = network.find_head()
    if head.is_linear:
        maps, logits = head.look(pixels)
        flat = head.pool(maps)
    else:
        graph = network.graph
        last = graph.steps[-1]
        source = last.inputs[0] if last.kind == "Dense" else graph.logits
        features, logits = graph.compute([source, graph.logits], pixels)
        flat = features.reshape(len(features), -1).astype(np.float64)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-12), logits


def _open_gallery(context: ExplainContext) -> _Gallery:
    """Read features of training images from the cache, or compute them once."""
    images = context.training_images()
    model = context.network.classifier.source.model.checksum
    key = hashlib.sha256(f"{model} {images.pixels.shape}".encode())
    key.update(images.pixels.tobytes())
    path = cache_dir() / "nearest" / f"{key.hexdigest()[:32]}.npz"
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as known:
        return _Gallery(images, known["features"].astype(np.float64), known["answers"])
    features, answers = [], []
    count = len(images.paths)
    with context.progress.task("comparing training images", count, unit="images") as task:
        for start in range(0, count, _BATCH):
            found, logits = compute_features(context.network, images.pixels[start : start + _BATCH])
            features.append(found)
            answers.append(logits.argmax(axis=1))
            task.advance(len(found))
    gallery = _Gallery(images, np.concatenate(features), np.concatenate(answers))
    with suppress(CnnclfError, OSError):  # a full disk, or a cache that cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            kept = gallery.features.astype(np.float32)
            np.savez(file, allow_pickle=False, features=kept, answers=gallery.answers)
    return gallery
