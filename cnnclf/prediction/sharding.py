"""Shards of a job: independent of each other and of the number of paths."""

import hashlib
import os
import re
from dataclasses import dataclass

from cnnclf.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """One of several parts of a job.

    The SHA-256 of its path, as spelled, assigns a file to a shard. So shards on different machines
    agree without a common list, even if files are added or removed, as long as the paths are
    spelled the same.

    Args:
        index: Number of this shard, 1..count.
        count: Number of shards, at least 1.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def owns(self, path: str) -> bool:
        """Return whether a path belongs to this shard; it belongs to exactly one."""
        digest = hashlib.sha256(os.fsencode(path)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """Read `i/n`, such as 3/8.

    Raises:
        UsageError: It has another format, or i is not in 1..n.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            f"expected a shard I/N with I from 1 to N, received {text!r}",
            "for example: --shard 1/4 on one machine, --shard 2/4 on the next",
        )
    return Shard(int(match[1]), int(match[2]))
