"""Which paths were seen, in 17 bytes each: a million take what a few photos take."""

import hashlib
import os
from collections.abc import Iterable, Iterator

import numpy as np

from cnnclf.prediction.inputs import PAUSE, Found

_KEY_BYTES = 16
_LEAST_NEW = 1 << 15


class PathSet:
    """Remembers paths by a hash of 128 bits; one that was added twice is in it twice.

    Two of a million paths share a hash once in 10^26 jobs.
    """

    def __init__(self) -> None:
        self._keys = np.zeros(0, f"S{_KEY_BYTES}")  # sorted, each as often as it was added
        self._is_here = np.zeros(0, np.bool_)
        self._new: dict[bytes, int] = {}  # not yet sorted in: key to how often
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, path: str) -> bool:
        key = _hash(path)
        return bool(self._new.get(key)) or self._find(key) is not None

    def add(self, path: str) -> None:
        """Put a path in once."""
        key = _hash(path)
        self._new[key] = self._new.get(key, 0) + 1
        self._count += 1
        if len(self._new) >= max(_LEAST_NEW, len(self._keys) // 8):
            self._sort_in()

    def take(self, path: str) -> bool:
        """Take a path out once; return whether it was there."""
        if not self._count:
            return False
        key = _hash(path)
        if self._new.get(key):
            self._new[key] -= 1
        elif (place := self._find(key)) is not None:
            self._is_here[place] = False
        else:
            return False
        self._count -= 1
        return True

    def _find(self, key: bytes) -> int | None:
        """Find a place of a key that is still here."""
        place = int(self._keys.searchsorted(key))
        while place < len(self._keys) and self._keys[place] == key:
            if self._is_here[place]:
                return place
            place += 1
        return None

    def _sort_in(self) -> None:
        new = np.array(
            [key for key, count in self._new.items() for _ in range(count)], self._keys.dtype
        )
        self._new.clear()
        keys = np.concatenate([self._keys[self._is_here], new])
        keys.sort()
        self._keys, self._is_here = keys, np.ones(len(keys), np.bool_)


def leave_out(found: Iterable[Found], done: PathSet) -> Iterator[Found]:
    """Leave out the paths that are done, each as often as it is; they are taken out of the set."""
    for item in found:
        if item is PAUSE or not done.take(item.path):
            yield item


def _hash(path: str) -> bytes:
    # No zero bytes: NumPy takes those at the end of a text for filling.
    digest = hashlib.blake2b(os.fsencode(path), digest_size=_KEY_BYTES).digest()
    return digest.replace(b"\0", b"\1")
