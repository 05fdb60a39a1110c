"""Sounds: from a file to the gray image of its mel spectrogram."""

import contextlib
import io
import math
import wave
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.errors import ImageError
from cnnclf.images.input_spec import SoundSpec
from cnnclf.packages import import_package

SOUND_SUFFIXES: Final = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3")

Samples = npt.NDArray[np.float64]

_RATES: Final = range(1_000, 400_001)
_MARGIN_S: Final = 0.05  # of sound on both sides of what is seen, for the resampling
_MIN_POWER: Final = 1e-10
_BLOCK: Final = 1 << 20  # samples that are checked together


class SoundFacts(NamedTuple):
    """What a sound file holds.

    Args:
        format: `WAV`, `FLAC`, `OGG` or `MP3`.
        rate: Samples per second.
        length: Samples of one channel.
        channels: 1 or more.
    """

    format: str
    rate: int
    length: int
    channels: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.length / self.rate


def name_sound(head: bytes) -> str:
    """Return the format of a sound by the first bytes of the file; "" for anything else."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] in _MP3_BYTES):
        return "MP3"
    return {b"fLaC": "FLAC", b"OggS": "OGG"}.get(head[:4], "")


def inspect_sound(content: bytes) -> SoundFacts:
    """Read the header of a sound, and check that its samples are there.

    Raises:
        ImageError: It is not a sound, is damaged, or holds no samples.
        MissingPackageError: soundfile is needed and not installed.
    """
    with _open(content) as reader:
        reader.check()
        return reader.facts


def load_sound(content: bytes, spec: SoundSpec) -> tuple[Image.Image, SoundFacts]:
    """Turn a sound into an image.

    Returns:
        Mode L, `spec.bands` rows and `spec.frames` columns, the lowest band at the bottom.

    Raises:
        ImageError: It is not a sound, is damaged, or holds no samples.
        MissingPackageError: soundfile is needed and not installed.
    """
    with _open(content) as reader:
        reader.check()
        facts = reader.facts
        wanted = math.ceil((spec.seconds + 2 * _MARGIN_S) * facts.rate)
        start = max(0, (facts.length - wanted) // 2)
        samples = reader.read(start, min(wanted, facts.length))
    samples = _center(_resample(samples, facts.rate, spec.sample_rate), spec.samples)
    decibels = mel_spectrogram(samples, spec)
    scaled = (decibels - spec.floor_db) * 255 / (spec.ceiling_db - spec.floor_db)
    pixels = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels[::-1])), facts


def mel_spectrogram(samples: Samples, spec: SoundSpec) -> Samples:
    """Compute the mel spectrogram of a sound.

    Args:
        samples: [n], -1..1, at the rate of the spec.
        spec: The recipe.

    Returns:
        [bands, 1 + n // hop], decibels of power; the lowest band is row 0.
    """
    half = spec.fft // 2
    padded = np.pad(samples, half, mode="reflect" if len(samples) > half else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.fft)[:: spec.hop]
    power = np.abs(np.fft.rfft(frames * _make_window(spec.window, spec.fft), axis=1)) ** 2
    bins, weights, starts = _list_bins(spec)
    # A product of matrices would take 30 times as long: nearly all weights are 0, and the threads
    # of BLAS get in the way of those that decode.
    mel = np.add.reduceat(power[:, bins] * weights, starts, axis=1)
    decibels: Samples = 10 * np.log10(np.maximum(mel.T, _MIN_POWER))
    return decibels


def mel_filters(spec: SoundSpec) -> Samples:
    """Return the triangular bands, [bands, fft // 2 + 1], equally spaced in mel of HTK.

    Source: Young et al., The HTK Book (for HTK 3.4), 2006, section 5.4; the triangles are straight
    in Hz and have height 1.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (spec.low_hz, spec.high_hz))
    edges = 700 * (10 ** (np.linspace(low, high, spec.bands + 2) / 2595) - 1)
    bins = np.linspace(0, spec.sample_rate / 2, spec.fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters: Samples = np.maximum(0, np.minimum(rising, falling))
    return filters


@lru_cache(maxsize=8)
def _list_bins(spec: SoundSpec) -> tuple[npt.NDArray[np.intp], Samples, npt.NDArray[np.intp]]:
    """Return the bins of all bands one after the other, their weights, and where each band begins.

    A band narrower than the distance of two bins may hold none; it then has one of weight 0.
    """
    filters = mel_filters(spec)
    held = [np.flatnonzero(row) if row.any() else np.zeros(1, np.intp) for row in filters]
    starts = np.cumsum([0, *(len(bins) for bins in held[:-1])])
    weights = np.concatenate([row[bins] for row, bins in zip(filters, held, strict=True)])
    return np.concatenate(held), weights, starts


@lru_cache(maxsize=8)
def _make_window(window: int, fft: int) -> Samples:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    before = (fft - window) // 2
    return np.pad(hann, (before, fft - window - before))


def _resample(samples: Samples, rate: int, target: int) -> Samples:
    """Resample by cutting or extending the spectrum, which loses nothing below both limits."""
    if rate == target or not len(samples):
        return samples
    unit = rate // math.gcd(rate, target)
    padded = np.pad(samples, (0, -len(samples) % unit))
    length = len(padded) * target // rate
    spectrum = np.fft.rfft(padded)
    resampled = np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(padded))
    return resampled[: math.ceil(len(samples) * target / rate)]


def _center(samples: Samples, length: int) -> Samples:
    if len(samples) >= length:
        start = (len(samples) - length) // 2
        return samples[start : start + length]
    before = (length - len(samples)) // 2
    return np.pad(samples, (before, length - len(samples) - before))


class _WaveReader:
    """Reads uncompressed WAV with the standard library."""

    def __init__(self, file: wave.Wave_read) -> None:
        self._file = file
        self._width = file.getsampwidth()
        self.facts = _check("WAV", file.getframerate(), file.getnframes(), file.getnchannels())

    def check(self) -> None:
        """Check that all samples are there, as bytes: an hour as numbers would fill the memory."""
        self._read_bytes(0, self.facts.length)

    def read(self, start: int, count: int) -> Samples:
        data = self._read_bytes(start, count)
        samples = _to_floats(data, self._width).reshape(-1, self.facts.channels)
        mixed: Samples = samples.mean(axis=1)
        return mixed

    def _read_bytes(self, start: int, count: int) -> bytes:
        self._file.setpos(start)
        data = self._file.readframes(count)
        expected = count * self.facts.channels * self._width
        if len(data) < expected:
            raise ImageError(
                f"the WAV is truncated: {len(data):,} of {expected:,} bytes of sound are there"
            )
        return data


class _SoundfileReader:
    """Reads FLAC, Ogg, MP3 and other kinds of WAV with the extra `audio`."""

    def __init__(self, file: Any, file_format: str) -> None:
        self._file = file
        self.facts = _check(file_format, file.samplerate, file.frames, file.channels)

    def check(self) -> None:
        """Check that all samples are there, some at a time."""
        for start in range(0, self.facts.length, _BLOCK):
            self.read(start, min(_BLOCK, self.facts.length - start))

    def read(self, start: int, count: int) -> Samples:
        self._file.seek(start)
        samples: Samples = self._file.read(count, dtype="float64", always_2d=True)
        if len(samples) < count:
            raise ImageError(
                f"the {self.facts.format} is truncated: {len(samples):,} of {count:,} samples"
            )
        mixed: Samples = samples.mean(axis=1)
        return mixed


@contextlib.contextmanager
def _open(content: bytes) -> Iterator[_WaveReader | _SoundfileReader]:
    file_format = name_sound(content[:16])
    if not file_format:
        raise ImageError("not a sound", f"supported are {', '.join(SOUND_SUFFIXES)}")
    if file_format == "WAV":
        try:
            file = wave.open(io.BytesIO(content))  # noqa: SIM115 - closed below
        except (wave.Error, EOFError, OSError) as error:
            if "unknown" not in str(error):  # format, or extended format
                reason = str(error) or "it ends in its header"
                raise ImageError(f"the WAV is damaged: {reason}") from error
        else:
            with contextlib.closing(file):
                yield _WaveReader(file)
            return
    with _open_with_soundfile(content, file_format) as other:
        yield _SoundfileReader(other, file_format)


@contextlib.contextmanager
def _open_with_soundfile(content: bytes, file_format: str) -> Iterator[Any]:
    kind = "this kind of WAV" if file_format == "WAV" else file_format
    soundfile = import_package("soundfile", f"reading {kind}")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise ImageError(f"the {file_format} is damaged: {error.error_string}") from error


def _check(file_format: str, rate: int, length: int, channels: int) -> SoundFacts:
    if length < 1:
        raise ImageError(f"the {file_format} holds no sound: 0 samples")
    if rate not in _RATES:
        raise ImageError(
            f"expected {_RATES[0]:,} to {_RATES[-1]:,} samples per second, received {rate:,}"
        )
    return SoundFacts(file_format, rate, length, channels)


def _to_floats(data: bytes, width: int) -> Samples:
    """Turn PCM of 1 (unsigned) or 2 to 4 (signed) bytes, little-endian, into -1..1."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)


_MP3_BYTES: Final = frozenset({0xFB, 0xF3, 0xF2, 0xFA})
