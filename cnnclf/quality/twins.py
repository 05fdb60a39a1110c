"""Which images are the same, and which are almost the same."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import Dataset
from cnnclf.errors import ImageError
from cnnclf.images.decode import inspect_image
from cnnclf.quality.alignment import SMALL_SIDE, find_aligned
from cnnclf.quality.hash_join import Pairs, find_close_hashes
from cnnclf.quality.image_facts import ImageFacts
from cnnclf.quality.neighbors import Neighbors
from cnnclf.quality.perceptual_hash import FORMS, Gray, Hashes, compare_images, hash_images

# Copies of 200 photos of 100 and 128 pixels kept at least .96 and .91 at half the size, at JPEG
# quality 30 and a fifth brighter; different photos reached .95 and .80.
MIN_PIXELS: Final = 0.92
MIN_EDGES: Final = 0.88

MIN_CONTRAST: Final = 4.0
"""Standard deviation of 0..255; images without structure have no hash."""

BY_FEATURES: Final = "features"

_NEIGHBORS: Final = 32  # of many images with one hash, each is compared with the next ones
_MEMBERS: Final = 8  # of images with one hash that are compared with those of a close hash
_CHUNK: Final = 512  # 2 MB of float32


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of images that are almost the same.

    Args:
        rows: int64 [m, 2], rows of the manifest, the smaller first; the most similar pair first.
        edges: float32 [m], correlation of their edges.
        forms: Key of `FORMS` that makes the second image like the first, or `BY_FEATURES`, where
            `edges` has the cosine of the features.
    """

    rows: Pairs
    edges: npt.NDArray[np.float32]
    forms: list[str]

    def __len__(self) -> int:
        return len(self.rows)

    def join(self, neighbors: Neighbors, facts: ImageFacts) -> "NearPairs":
        """Add pairs with similar features that agree once they are aligned: crops of one photo."""
        known = {(one, two) for one, two in self.rows.tolist()}
        is_new = [pair not in known for pair in map(tuple, neighbors.pairs.tolist())]
        new = np.flatnonzero(np.array(is_new, np.bool_))
        sides = np.minimum(facts.numbers["width"], facts.numbers["height"])
        aligned = []
        for part in _cut(new):
            pairs = neighbors.pairs[part]
            first, second = (_gather(facts.gray, pairs[:, at]) for at in (0, 1))
            are_small = (sides[pairs] < SMALL_SIDE).any(axis=1)
            aligned.append(part[find_aligned(first, second, are_small=are_small)])
        new = np.concatenate([new[:0], *aligned])
        return NearPairs(
            rows=np.concatenate([self.rows, neighbors.pairs[new]]),
            edges=np.concatenate([self.edges, neighbors.cosines[new]]),
            forms=[*self.forms, *([BY_FEATURES] * len(new))],
        )


def identify_contents(dataset: Dataset, facts: ImageFacts) -> Pairs:
    """Give images with the same bytes or the same pixels the same number.

    Returns:
        int64 [N]; images that cannot be used have numbers of their own.
    """
    numbers = facts.numbers
    _, contents = np.unique(numbers["file"], return_inverse=True)
    contents = contents.astype(np.int64)
    _, looks = np.unique(numbers["look"], return_inverse=True)
    numbers_of = np.arange(len(contents))
    same: dict[tuple[int, str], int] = {}
    for row in _find_ambiguous(contents, looks, numbers["is_usable"]).tolist():
        key = (int(looks[row]), _hash_all_pixels(dataset, row))
        numbers_of[contents[row]] = same.setdefault(key, int(contents[row]))
    contents = numbers_of[contents]
    unusable = ~numbers["is_usable"]
    contents[unusable] = -1 - np.flatnonzero(unusable)
    return contents


def _find_ambiguous(contents: Pairs, looks: Pairs, usable: npt.NDArray[np.bool_]) -> Pairs:
    """Find one row of each content that looks like another one: their pixels must be compared."""
    _, rows = np.unique(contents, return_index=True)
    rows = rows[usable[rows]]
    _, inverse, counts = np.unique(looks[rows], return_inverse=True, return_counts=True)
    return rows[counts[inverse] > 1]


def _hash_all_pixels(dataset: Dataset, row: int) -> str:
    try:
        return inspect_image(
            dataset.file(row), kind=dataset.kind, bands=dataset.bands
        ).pixels_sha256
    except ImageError:  # it was there a moment ago
        return f"row {row}"


def find_near_pairs(
    gray: Gray, contents: Pairs, *, usable: npt.NDArray[np.bool_], mirrored: bool
) -> NearPairs:
    """Find images that are almost the same: resized, recompressed, brightened.

    Args:
        gray: uint8 [N, 32, 32], in memory or mapped.
        contents: int64 [N], equal for equal images, of which only the first is compared.
        usable: bool [N], whether an image has structure to compare.
        mirrored: Whether to look for mirrored and rotated copies, too.
    """
    _, firsts = np.unique(contents, return_index=True)
    rows = firsts[usable[firsts]]
    rows = np.sort(rows[_find_structure(gray, rows)])
    hashes = _hash_rows(gray, rows, form="")
    names = list(FORMS) if mirrored else [""]
    found = []
    for number, form in enumerate(names):
        if form:
            turned = np.concatenate([hashes, _hash_rows(gray, rows, form=form)])
            pairs = _pair_hashes(turned)
            pairs = pairs[(pairs[:, 0] < len(rows)) & (pairs[:, 1] >= len(rows))]
            pairs = np.subtract(pairs, (0, len(rows)), dtype=np.int64)
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        else:
            pairs = _pair_hashes(hashes)
        for some, edges in _verify(gray, rows, pairs, form=form):
            found.append((np.sort(some, axis=1), edges, np.full(len(some), number)))
    close = np.concatenate([np.empty((0, 2), np.int64), *(pair for pair, _, _ in found)])
    edges = np.concatenate([np.empty(0, np.float32), *(edge for _, edge, _ in found)])
    forms = np.concatenate([np.empty(0, np.int64), *(form for _, _, form in found)])
    # Of the forms of a pair the one that fits best, or the first of equals.
    order = np.lexsort((forms, -edges, close[:, 1], close[:, 0]))
    order = order[np.unique(close[order], axis=0, return_index=True)[1]]
    order = order[np.argsort(-edges[order], kind="stable")]
    return NearPairs(
        rows=close[order], edges=edges[order], forms=[names[at] for at in forms[order]]
    )


def _find_structure(gray: Gray, rows: Pairs) -> npt.NDArray[np.bool_]:
    """Return which images have contrast."""
    found = [_gather(gray, part).astype(np.float32).std(axis=(1, 2)) for part in _cut(rows)]
    return np.concatenate([np.empty(0, np.float32), *found]) >= MIN_CONTRAST


def _hash_rows(gray: Gray, rows: Pairs, *, form: str) -> Hashes:
    hashed = [hash_images(FORMS[form](_gather(gray, part))) for part in _cut(rows)]
    return np.concatenate([np.empty(0, np.uint64), *hashed])


def _cut(rows: Pairs) -> list[Pairs]:
    return [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]


def _gather(gray: Gray, rows: Pairs) -> Gray:
    """Return a copy of some images, and keep no others of a mapped file in memory."""
    found = gray[rows]
    mapped = getattr(gray, "_mmap", None)  # numpy.memmap has no public name for it
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
    return found


def _pair_hashes(hashes: Hashes) -> Pairs:
    """Return pairs of places whose hashes are equal or close; of many equal ones not all pairs."""
    values, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    # Of a million images: half the memory.
    order = np.argsort(inverse, kind="stable").astype(np.int32)
    same_hash, sizes = inverse[order].astype(np.int32), counts.astype(np.int32)
    del inverse, counts
    starts = np.cumsum(sizes, dtype=np.int32) - sizes
    found = []
    for shift in range(1, min(_NEIGHBORS, int(sizes.max(initial=0)) - 1) + 1):
        same = same_hash[shift:] == same_hash[:-shift]
        found.append(np.stack([order[:-shift][same], order[shift:][same]], axis=1))
    close = find_close_hashes(values)
    for one in range(_MEMBERS):
        for two in range(_MEMBERS):
            there = (sizes[close[:, 0]] > one) & (sizes[close[:, 1]] > two)
            if there.any():
                found.append(order[starts[close[there]] + (one, two)])
    return np.sort(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=1)


def _verify(
    gray: Gray, rows: Pairs, pairs: Pairs, *, form: str
) -> Iterator[tuple[Pairs, npt.NDArray[np.float32]]]:
    """Yield the pairs of rows whose pixels and edges agree, and how their edges correlate."""
    for part in _cut(pairs):
        one, two = _gather(gray, rows[part[:, 0]]), _gather(gray, rows[part[:, 1]])
        scores = compare_images(one, FORMS[form](two))
        good = (scores[:, 0] >= MIN_PIXELS) & (scores[:, 1] >= MIN_EDGES)
        yield rows[part[good]], scores[good, 1]
