"""What an import keeps of each image in memory: 54 bytes, as there may be a million images."""

import hashlib
import secrets
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest_rows import SPLITS
from cnnclf.data.splits import Keys
from cnnclf.importers.reading import Checked

# Hashes are little-endian on every platform, because the split depends on them.
_RECORD: Final = np.dtype(
    [
        ("label", "=i4"),
        ("split", "i1"),
        ("is_sampled", "?"),
        ("file", "<u8", 2),
        ("pixels", "<u8", 2),
        ("group", "<u8", 2),
    ]
)
_pack: Final = struct.Struct("=ib?16s16s16s").pack
_NO_KEY: Final = bytes(16)


class SampleColumns:
    """The images of a dataset, as far as duplicates and splits need them.

    Attributes:
        labels: The labels in the order of their first image, each with its index in that order.
    """

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self._bytes = bytearray()  # an array of records that grows

    def __len__(self) -> int:
        return len(self._bytes) // _RECORD.itemsize

    def add(self, checked: Checked) -> None:
        """Add an image that can be used."""
        record, info = checked.record, checked.info
        if info is None:
            raise ValueError(f"{record.path} was not read: {checked.reason}")
        self._bytes += _pack(
            self.labels.setdefault(record.label, len(self.labels)),
            SPLITS.index(record.split) if record.split else -1,
            not info.exact,
            checked.sha256[:16],
            bytes.fromhex(info.pixels_sha256[:32]),
            _hash(record.group) if record.group else _NO_KEY,
        )

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
        return np.sort(found[self._records["is_sampled"][found]])

    def settle_pixels(self, row: int, checked: Checked) -> None:
        """Replace the checksum of a sample by that of all pixels.

        A file that can no longer be read equals no other.
        """
        digest = checked.info.pixels_sha256[:32] if checked.info else secrets.token_hex(16)
        self._records["pixels"][row] = np.frombuffer(bytes.fromhex(digest), "<u8")

    def class_indices(self, labels: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """Return the index of each image's label in `labels`, int32 [N]."""
        places = {label: index for index, label in enumerate(labels)}
        order = np.array([places[label] for label in self.labels], np.int32)
        return np.take(order, self._records["label"])

    @property
    def splits(self) -> npt.NDArray[np.int8]:
        """The split of each image in the source, index into `SPLITS` or -1, int8 [N]."""
        return self._records["split"].copy()

    @property
    def files(self) -> Keys:
        """Hashes of the bytes of the files, uint64 [N, 2]."""
        return self._records["file"].astype(np.uint64)

    @property
    def pixels(self) -> Keys:
        """Hashes of the decoded pixels, uint64 [N, 2]."""
        return self._records["pixels"].astype(np.uint64)

    @property
    def groups(self) -> Keys:
        """Hashes of the groups, uint64 [N, 2]; 0, 0 for none."""
        return self._records["group"].astype(np.uint64)

    @property
    def _records(self) -> npt.NDArray[Any]:
        return np.frombuffer(self._bytes, _RECORD)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
