"""Opens one file of any kind that a dataset may hold: an image, an array or a sound."""

from pathlib import Path
from typing import Final

from PIL import Image

from cnnclf.bounded import MAX_IMAGE_BYTES, read_bytes
from cnnclf.errors import ImageError
from cnnclf.images.array_files import load_array
from cnnclf.images.input_spec import SoundSpec
from cnnclf.images.npy_header import MAGIC
from cnnclf.images.pillow_files import NO_FACTS, LoadedImage
from cnnclf.images.sound_files import inspect_sound, load_sound, name_sound

ARRAY_MODES: Final = {"L": "array", "RGB": "array RGB", "RGBA": "array RGBA"}
SOUND_MODE: Final = "sound"

_WORDS: Final = {"array": "a NumPy array", "sound": "a sound", "image": "another kind of file"}
_FULL_SECONDS: Final = 20.0  # of a sound that no recipe was chosen for yet


def load_signal(
    source: Path | bytes,
    kind: str,
    *,
    sound: SoundSpec | None,
    max_pixels: int,
    value_range: tuple[float, float] | None = None,
) -> LoadedImage:
    """Read an array or a sound as an image.

    Args:
        source: A file, or a file's content.
        kind: `array` or `sound`.
        sound: How a sound becomes an image; None for all of it, up to 20 seconds.
        max_pixels: Refuse larger arrays.
        value_range: Numbers of arrays that become 0 and 255; None for the extremes of each.

    Raises:
        ImageError: It is of another kind, damaged, or too large.
        MissingPackageError: A package is needed for this kind of sound.
    """
    if isinstance(source, bytes):
        return _load(source, kind, sound, max_pixels, value_range)
    try:
        content = read_bytes(source, max_bytes=MAX_IMAGE_BYTES)
        return _load(content, kind, sound, max_pixels, value_range)
    except OSError as error:
        raise ImageError(f"{source}: the file cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{source}: {error.message}", error.hint) from error


def kind_of(head: bytes) -> str:
    """Return the kind of a file by its first 16 bytes; everything else counts as an image."""
    return "array" if head.startswith(MAGIC) else "sound" if name_sound(head) else "image"


def _load(
    content: bytes,
    kind: str,
    sound: SoundSpec | None,
    max_pixels: int,
    value_range: tuple[float, float] | None,
) -> LoadedImage:
    found = kind_of(content[:16])
    if found != kind:
        raise ImageError(f"expected {_WORDS[kind]}, received {_WORDS[found]}")
    if kind == "sound":
        spec = sound or SoundSpec(min(inspect_sound(content).seconds, _FULL_SECONDS))
        image, facts = load_sound(content, spec)
        notes = [f"{facts.channels} channels mixed to one"] if facts.channels > 1 else []
        if facts.rate < spec.sample_rate:
            notes.append(f"{facts.rate:,} Hz: nothing above {facts.rate // 2:,} Hz")
        # The size that the whole sound would have, from which its length is planned.
        width = 1 + round(facts.seconds * spec.sample_rate) // spec.hop
        width = image.width if sound else width
        return _whole(image, SOUND_MODE, facts.format, tuple(notes), width=width)
    image, numbers = load_array(content, max_pixels=max_pixels, value_range=value_range)
    notes = [] if numbers in {"uint8", "bool"} else [f"{numbers}, scaled from its extremes"]
    return _whole(image, ARRAY_MODES[image.mode], "NPY", tuple(notes), width=image.width)


def _whole(
    image: Image.Image, mode: str, file_format: str, notes: tuple[str, ...], *, width: int
) -> LoadedImage:
    box = (0, 0, image.width, image.height)
    return LoadedImage(image, box, width, image.height, mode, file_format, notes, NO_FACTS)
