"""What the import keeps of each image in memory: some 60 bytes, as there may be a million."""

import hashlib
import secrets
from array import array

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest_rows import SPLITS
from cnnclf.data.splits import Keys
from cnnclf.importers.reading import Checked

_NO_KEY = bytes(16)


class SampleColumns:
    """The images of a dataset as far as duplicates and splits need them.

    Attributes:
        labels: The labels in the order they were first seen, and their places in it.
    """

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self._labels = array("i")
        self._splits = array("b")
        self._files = bytearray()
        self._pixels = bytearray()
        self._sampled = bytearray()
        self._groups = bytearray()

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, checked: Checked) -> None:
        """Add an image that can be used."""
        record, info = checked.record, checked.info
        if info is None:
            raise ValueError(f"{record.path} was not read: {checked.reason}")
        self._labels.append(self.labels.setdefault(record.label, len(self.labels)))
        self._splits.append(SPLITS.index(record.split) if record.split else -1)
        self._files += checked.sha256[:16]
        self._pixels += bytes.fromhex(info.pixels_sha256[:32])
        self._sampled.append(not info.exact)
        self._groups += _hash(record.group) if record.group else _NO_KEY

    def find_lookalikes(self) -> npt.NDArray[np.intp]:
        """Find images that agree in a sample of their pixels but not in the bytes of their files.

        Returns:
            Rows, ascending.
        """
        files, pixels = self.files, self.pixels
        order = np.lexsort((files[:, 1], files[:, 0], pixels[:, 1], pixels[:, 0]))
        same = (pixels[order[1:]] == pixels[order[:-1]]).all(axis=1)
        other = (files[order[1:]] != files[order[:-1]]).any(axis=1)
        sets = np.cumsum(np.append(True, ~same)[: len(order)])
        found = order[np.isin(sets, sets[1:][same & other])]
        sampled = np.frombuffer(self._sampled, np.bool_)
        return np.sort(found[sampled[found]])

    def settle_pixels(self, row: int, checked: Checked) -> None:
        """Replace the checksum of a sample by that of all pixels.

        A file that cannot be read any more is the same as no other.
        """
        digest = checked.info.pixels_sha256[:32] if checked.info else secrets.token_hex(16)
        self._pixels[row * 16 : row * 16 + 16] = bytes.fromhex(digest)

    def class_indices(self, labels: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """Return the place of each image's label in `labels`, int32 [N]."""
        places = {label: index for index, label in enumerate(labels)}
        order = np.array([places[label] for label in self.labels], np.int32)
        return order[np.frombuffer(self._labels, np.int32)]

    @property
    def splits(self) -> npt.NDArray[np.int8]:
        """The split each image came with, index into `SPLITS` or -1, int8 [N]."""
        return np.frombuffer(self._splits, np.int8)

    @property
    def files(self) -> Keys:
        """Hashes of the bytes of the files, uint64 [N, 2]."""
        return _to_keys(self._files)

    @property
    def pixels(self) -> Keys:
        """Hashes of the decoded pixels, uint64 [N, 2]."""
        return _to_keys(self._pixels)

    @property
    def groups(self) -> Keys:
        """Hashes of the groups, uint64 [N, 2]; 0, 0 for none."""
        return _to_keys(self._groups)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _to_keys(digests: bytearray) -> Keys:
    # The same numbers on every platform, since the split follows from them.
    return np.frombuffer(digests, "<u8").astype(np.uint64).reshape(-1, 2)
