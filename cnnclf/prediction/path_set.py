"""The set of paths that are done, at 17 bytes each: a million take as much as a few photos.

Decision 0011 compares it with Python's own set and with SQLite.
"""

import hashlib
import os

import numpy as np

_KEY_BYTES = 16
_MIN_NEW = 1 << 15


class PathSet:
    """A multiset of paths, stored as 128-bit hashes.

    The chance that two of a million paths share a hash is about 1 in 10^26.
    """

    def __init__(self) -> None:
        self._keys = np.zeros(0, f"S{_KEY_BYTES}")  # sorted, with duplicates
        self._is_present = np.zeros(0, np.bool_)
        self._new: dict[bytes, int] = {}  # not merged into the array yet: key to count
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, path: str) -> bool:
        key = _hash(path)
        return bool(self._new.get(key)) or self._find(key) is not None

    def add(self, path: str) -> None:
        """Add a path once."""
        key = _hash(path)
        self._new[key] = self._new.get(key, 0) + 1
        self._count += 1
        if len(self._new) >= max(_MIN_NEW, len(self._keys) // 8):
            self._merge()

    def take(self, path: str) -> bool:
        """Remove a path once; return whether it was present."""
        if not self._count:
            return False
        key = _hash(path)
        if self._new.get(key):
            self._new[key] -= 1
        elif (index := self._find(key)) is not None:
            self._is_present[index] = False
        else:
            return False
        self._count -= 1
        return True

    def _find(self, key: bytes) -> int | None:
        """Find the index of a key that is still present."""
        index = int(self._keys.searchsorted(key))
        while index < len(self._keys) and self._keys[index] == key:
            if self._is_present[index]:
                return index
            index += 1
        return None

    def _merge(self) -> None:
        new = np.array(
            [key for key, count in self._new.items() for _ in range(count)], self._keys.dtype
        )
        self._new.clear()
        keys = np.concatenate([self._keys[self._is_present], new])
        keys.sort()
        self._keys, self._is_present = keys, np.ones(len(keys), np.bool_)


def _hash(path: str) -> bytes:
    # No zero bytes: NumPy strips them from the end of a bytes value.
    digest = hashlib.blake2b(os.fsencode(path), digest_size=_KEY_BYTES).digest()
    return digest.replace(b"\0", b"\1")
