"""What is unusual about the pixels of images, in words that can be counted."""

import re
from collections import Counter
from collections.abc import Iterable

_CHANNELS = re.compile(r"first (?:\d+ )?of \d+ channels")


def count_oddities(notes: Iterable[str]) -> Counter[str]:
    """Count images by what is unusual about them.

    Args:
        notes: Of each image, as in `ImageInfo`: parts separated by "; ".
    """
    return Counter(_plain(part) for note in notes if note for part in note.split("; "))


def _plain(oddity: str) -> str:
    """Return a note on an image without its numbers."""
    if oddity.startswith("dark"):
        return "dark: a quarter of the 16 bits or less is used"
    if oddity.endswith("channels mixed to one"):
        return "several channels: mixed to one"
    if ": nothing above" in oddity:
        return "recorded at less than 16,000 Hz: nothing above half of that"
    if "frames" in oddity or "pages" in oddity:
        return "several frames or pages: the first is used"
    if oddity.startswith("content is"):
        return "content of another format than the name says"
    if _CHANNELS.fullmatch(oddity):
        return "more channels than colors: the first are used"
    return oddity.partition(" from ")[0]
